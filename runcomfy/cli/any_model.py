"""`generate`: one generation of any model of the catalogue; its options are the model's own inputs."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from cyclopts import App, CycloptsError, Parameter
from pydantic import BaseModel, ConfigDict, create_model

from runcomfy.cli import environment
from runcomfy.cli.log import log_progress
from runcomfy.cli.manifest import NO_BUCKET, class_for
from runcomfy.cli.options import EPILOGUE, BucketOptions, Json, Run
from runcomfy.cli.output import print_generation
from runcomfy.errors import InvalidInput
from runcomfy.models import MODELS, ModelInputs, model_id_of

if TYPE_CHECKING:
    from runcomfy.values import Generation

__all__ = ["app_of", "command_of", "generate", "model_of"]

_HELP = ("--help", "-h")
_HOW = (
    "Name a model: `prefect-runcomfy generate MODEL --help` lists its inputs, and `prefect-runcomfy models list "
    "--search WORD` finds one."
)
_OURS = frozenset(
    {
        "archive_key",
        "bucket",
        "contact_sheets",
        "deadlines",
        "help",
        "journal",
        "json",
        "on_defect",
        "on_uncertain",
        "variation",
        "verbose",
    }
)


def generate(
    *words: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="MODEL, and its inputs as options: MODEL --help lists them.")
    ],
) -> None:
    """Make an image, a video or a sound with any model of RunComfy; MODEL --help lists its inputs."""
    if not set(_HELP) & set(words):
        raise InvalidInput(_HOW)
    print(_HOW)


def command_of(words: Sequence[str]) -> tuple[App, list[str]] | None:
    """Return the command of the model that the words name, with the words for it; `None` if they name none.

    Args:
        words: What follows the program's name.

    Raises:
        InvalidInput: There is no such model, or no bucket is named.
        ServiceError: The catalogue could not be read.
        StorageError: The pin could not be read or written.
    """
    if list(words[:1]) != ["generate"] or len(words) == 1 or words[1].startswith("-"):
        return None
    return app_of(model_of(words[1], words[2:])), list(words[2:])


def model_of(model: str, words: Sequence[str]) -> type[ModelInputs]:
    """Return the class of a model's inputs: of the pin in the bucket that the options name, else of the catalogue."""
    model_id = model_id_of(model, "MODEL")
    if model_id in MODELS:
        return MODELS[model_id]
    where = _stated(words)
    if where is None and not set(_HELP) & set(words):
        raise InvalidInput("No bucket is named: give --bucket s3://bucket/prefix, or set RUNCOMFY_BUCKET.")
    return class_for(model_id, where or NO_BUCKET)


def app_of(kind: type[ModelInputs]) -> App:
    """Return the command that makes a generation of one model: an option for each input."""
    options = _options(kind)

    nothing = options()

    def made(*, run: Run, inputs: Any = nothing, json: Json = False) -> None:
        print_generation(_generation(kind, _given(kind, inputs), run), store=run.options, as_json=json)

    made.__annotations__["inputs"] = Annotated[options, Parameter(name="*")]
    made.__doc__ = f"Make a generation with {kind.model_id}, and archive it."
    app = App(
        name=f"prefect-runcomfy generate {kind.model_id}",
        help_format="plaintext",
        help_epilogue=EPILOGUE,
        version_flags=(),
    )
    app.default(made)
    return app


def _options(kind: type[ModelInputs]) -> type[BaseModel]:
    """Return a class with an option for each input; what is left out is `None`."""
    from runcomfy.cli.model_output import bounds_of

    made: dict[str, Any] = {}
    properties = kind.model_json_schema()["properties"]
    for name, known in kind.model_fields.items():
        own = known.alias or name
        option = own.replace("_", "-")
        medium = kind.media.get(own)
        help_ = [known.description or known.title or ""]
        if medium is not None:
            help_.append(f"({medium.kind}: a path, an https:// URL, or an s3:// URI)")
        if get_origin(_typed(known.annotation)) is not Literal:
            help_.append(bounds_of(properties[own]))
        if known.is_required():
            help_.append("[required]")
        elif known.default is not None:
            help_.append(f"[default: {json_module.dumps(known.default, ensure_ascii=False)}]")
        parameter = Parameter(
            name=f"--{'input.' if own in _OURS or own.replace('-', '_') in _OURS else ''}{option}",
            negative_iterable="", show_default=False, help=" ".join(filter(None, help_)),
        )  # fmt: skip
        made[name] = Annotated[_typed(known.annotation) | None, parameter], None
    return create_model("Inputs", __config__=ConfigDict(protected_namespaces=(), frozen=True), **made)


def _typed(annotation: Any) -> Any:
    """Return what an option of this type is read as; a structured value is read as JSON, later."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _typed(arguments[0])
    if type(None) in arguments:
        return _typed(next(each for each in arguments if each is not type(None)))
    if origin is Literal:
        kinds = {type(choice) for choice in arguments}
        return annotation if kinds == {str} else int if kinds == {int} else str
    if origin is list:
        return list[str] if _typed(arguments[0]) is str and arguments[0] is not Any else str
    return annotation if annotation in (str, int, float, bool) else str


def _given(kind: type[ModelInputs], options: Any) -> dict[str, Any]:
    """Return the inputs that were given, by their own names."""
    given: dict[str, Any] = {}
    for name, known in kind.model_fields.items():
        value = getattr(options, name)
        if value is None:
            continue
        own = known.alias or name
        given[own] = (
            _from_json(kind, own, value) if _is_structured(known.annotation) and own not in kind.media else value
        )
    return given


def _is_structured(annotation: Any) -> bool:
    """Whether a value of this type is given as JSON."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated or type(None) in arguments:
        return _is_structured(next(each for each in arguments if each is not type(None)))
    return annotation not in (str, int, float, bool) and _typed(annotation) is str


def _from_json(kind: type[ModelInputs], name: str, text: str) -> Any:
    """Return what a text says as JSON; the text itself where it is none and the model takes it, as of a manifest."""
    try:
        return json_module.loads(text)
    except (ValueError, RecursionError):
        if not text.lstrip().startswith(("[", "{")) and kind.accepts(name, text):
            return text
        raise InvalidInput(f"--{name.replace('_', '-')} takes JSON, such as [] or {{}}; this is none.") from None


def _stated(words: Sequence[str]) -> BucketOptions | None:
    """Return the bucket that the options, or the environment, name; `None` if they name none."""
    app, found = App(help_flags=(), version_flags=()), list[BucketOptions]()

    @app.default
    def stated(*, where: BucketOptions) -> None:
        found.append(where)

    try:
        command, bound, *_ = app.parse_known_args(words)
        command(*bound.args, **bound.kwargs)
    except CycloptsError:
        return None
    return found[0]


def _generation(kind: type[ModelInputs], given: dict[str, Any], run: Run) -> Generation:
    """Check all that can be checked at once, then make the generation and archive it."""
    from runcomfy.generation.models import check_local_files, checked

    check_local_files(kind, checked(kind, given))
    environment.check(run.bucket, run.journal, run.archive_key)
    log_progress()
    from runcomfy.cli.following import Following, finished, to_the_end
    from runcomfy.generation.engine import open_engine
    from runcomfy.generation.generate import submit
    from runcomfy.generation.models import stage_inputs
    from runcomfy.retry import with_retries

    hooks = Following()

    async def made() -> Generation:
        account, hosts = environment.client(), environment.host_policy()
        destination = run.destination()
        async with open_engine(account, destination, hosts=hosts, policy=run.policy, hooks=hooks) as engine:
            inputs, staged = await with_retries(lambda: stage_inputs(kind, given, destination.store, hooks))
            submission = await submit(engine, inputs, staged=staged, variation=run.variation)
            return await finished(engine, hooks, submission, inputs, staged)

    return to_the_end(made(), hooks)
