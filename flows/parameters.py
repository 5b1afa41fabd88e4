"""Parameters as an event's template renders them: texts, converted to the types that the flow wants.

Prefect renders a trigger's parameters from an event: a number may arrive as a text, and what the event does not have as
an empty text, `None` or null. Here, where parameters enter the flows, a text is converted to the type of its field, and
what is missing is left out. The models themselves stay strict.

The image as a parameter, and the name of a run, are here too: the two flows that make one video share them.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from prefect.exceptions import ParameterTypeError
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    RootModel,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
)
from slugify import slugify

from runcomfy.errors import InvalidInput
from runcomfy.models import violations
from runcomfy.redaction import redact, without_queries
from runcomfy.texts import prompt_of, whole_number, why_not_whole
from tasks.runtime.naming import fact, flow_name

__all__ = [
    "NOTHING_GIVEN",
    "GivenImage",
    "GivenInputs",
    "ImageSource",
    "WrongParameter",
    "fields_of",
    "json_object",
    "left_out_is",
    "model_run_name",
    "needed",
    "run_name",
]

_Model = TypeVar("_Model", bound=BaseModel)
_NOTHING = ("", "none", "null", "undefined")
_SHOWN_CHARACTERS = 80


class WrongParameter(InvalidInput, ParameterTypeError):
    """A parameter that cannot be used; it is both Prefect's error for that and ours."""


def fields_of(kind: type[_Model]) -> BeforeValidator:
    """Return a validator for a parameter that is a model of this kind: its fields may be texts, or be missing.

    The whole may be a text as well, of JSON or of Python, as templates render an object.

    Raises:
        WrongParameter: with every field that cannot be read, and its value.
    """

    def read(given: Any, info: ValidationInfo) -> Any:
        name = info.field_name or "parameters"
        if isinstance(given, kind):
            return given
        values = {} if _is_nothing(given) else _object(given, name)
        typed = {str(field): _typed(kind, str(field), value) for field, value in values.items()}
        kept = {field: value for field, value in typed.items() if not _is_left_out(kind, field, value)}
        wrong = {
            field: sentence
            for field, value in kept.items()
            if isinstance(value, str) and _is_number(kind, field) and (sentence := why_not_whole(value.strip()))
        }
        if not wrong:
            try:
                return kind.model_validate(kept)
            except ValidationError as error:
                wrong = dict(violations(error))
        raise _refusal({f"{name}.{field}": (sentence, values.get(field)) for field, sentence in wrong.items()})

    return BeforeValidator(read)


def left_out_is(default: Any) -> WrapValidator:
    """Return a validator for a parameter that is no model: if the event has nothing for it, it is the default.

    Where free text is wanted, any text is taken as it is, even `None`.

    Raises:
        WrongParameter: it cannot be read.
    """
    free_text = default == ""

    def read(given: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        if given is None or (not free_text and _is_nothing(given)):
            return default
        value = given
        if free_text and isinstance(given, int | float) and not isinstance(given, bool):
            value = str(given)
        elif not free_text and isinstance(given, str):
            value = given.strip()
        try:
            return check(value)
        except ValidationError as error:
            sentence = "; ".join(sentence for _, sentence in violations(error))
            raise _refusal({info.field_name or "parameter": (sentence, given)}) from None

    return WrapValidator(read)


def needed(given: Any, info: ValidationInfo) -> Any:
    """Refuse a required parameter that is missing or blank.

    Raises:
        WrongParameter: the event, or the person who started the run, gave nothing for it.
    """
    if given is None or (isinstance(given, str) and not given.strip()):
        name = info.field_name or "parameter"
        raise _refusal(
            {
                name: (
                    "it is missing or blank; where an event starts the run, look at the name that its trigger reads",
                    given,
                )
            }
        )
    return given


def json_object(given: Any, info: ValidationInfo) -> Any:
    """Read a parameter that is an object from a text, as a template renders it.

    Raises:
        WrongParameter: the text is no object.
    """
    return dict(_object(given, info.field_name or "parameter")) if isinstance(given, str) else given


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _object(given: Any, name: str) -> Mapping[Any, Any]:
    found = given
    if isinstance(given, str):
        for reads in (json.loads, ast.literal_eval):
            try:
                found = reads(given)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if not isinstance(found, Mapping):
        raise _refusal({name: ('it is no object such as {"seed": 7}', given)})
    return found


def _is_left_out(kind: type[BaseModel], field: str, value: Any) -> bool:
    """Whether an optional field was given nothing."""
    known = kind.model_fields.get(field)
    return known is not None and not known.is_required() and _is_nothing(value)


def _typed(kind: type[BaseModel], field: str, value: Any) -> Any:
    """Return a value converted to its field's type; unchanged if no conversion fits."""
    if field not in kind.model_fields or value is None or not isinstance(value, str | int | float):
        return value
    check = _strict(kind, field)
    return next((reading for reading in _readings(value) if check(reading)), value)


def _readings(value: str | float) -> list[Any]:
    if not isinstance(value, str):
        return [value, value if isinstance(value, bool) else str(value)]
    text = value.strip()
    readings: list[Any] = [value, text]
    if text.lower() in ("true", "false"):
        readings.append(text.lower() == "true")
    number = whole_number(text)
    if number is not text:
        readings.append(number)
    with suppress(ValueError):
        readings += [] if why_not_whole(text) else [float(text)]
    return readings


@lru_cache(maxsize=256)
def _strict(kind: type[BaseModel], field: str) -> Callable[[Any], bool]:
    """Return a function that says whether a value has a field's type and is within its bounds, unconverted."""
    known = kind.model_fields[field]
    wanted: Any = known.rebuild_annotation()
    adapter: TypeAdapter[Any] = TypeAdapter(wanted, config=ConfigDict(strict=True))

    def fits(value: Any) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return fits


def _is_number(kind: type[BaseModel], field: str) -> bool:
    return field in kind.model_fields and not _strict(kind, field)("a text of which no field has a choice")


def _refusal(wrong: Mapping[str, tuple[str, Any]]) -> WrongParameter:
    reasons = {name: f"{sentence} (it is {_shown(value)})" for name, (sentence, value) in wrong.items()}
    return WrongParameter(
        f"{'; '.join(f'{name}: {sentence}' for name, sentence in reasons.items())}. Nothing was paid for.",
        violations=list(reasons.items()),
    )


def _shown(value: Any) -> str:
    text = repr(redact(value) if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


class ImageSource(RootModel[str]):
    """A local path, an `https://` URL, or an `s3://` URI.

    Prefect stores it without its query, so that a signed URL does not end up in its database. (Parameters that are sent
    to a deployment are stored by Prefect's server before this code sees them: use `s3://` there.)
    """

    def __repr__(self) -> str:
        return f"ImageSource({redact(self.root)!r})"

    @model_serializer
    def _without_query(self) -> str:
        return str(redact(self.root))


if TYPE_CHECKING:
    GivenImage: TypeAlias = ImageSource | str
else:
    GivenImage = ImageSource  # Prefect makes one of a text, and its form and its API ask for a text
"""An image as the caller of a flow may give it."""


class GivenInputs(RootModel[dict[str, Any]]):
    """What is given to a model, by its own names: texts, numbers, lists, and media as paths, `https://` or `s3://`.

    Prefect stores every URL in it without its query, as that of an `ImageSource`.
    """

    def __repr__(self) -> str:
        return f"GivenInputs({self._without_queries()!r})"

    @model_serializer
    def _without_queries(self) -> dict[str, Any]:
        return {without_queries(name): without_queries(value) for name, value in self.root.items()}


NOTHING_GIVEN = GivenInputs({})
"""The default of a parameter for inputs."""


run_name = flow_name(
    lambda given: slugify(fact(given["prompt"]), max_length=48, word_boundary=True), otherwise="generation"
)
"""Names a flow run after its prompt."""

model_run_name = flow_name(
    lambda given: slugify(
        prompt_of(given["inputs"].root if isinstance(given["inputs"], GivenInputs) else given["inputs"])
        or fact(given["model"]),
        max_length=48,
        word_boundary=True,
    ),
    otherwise="generation",
)
"""Names a flow run after the prompt among its inputs, else after its model."""
