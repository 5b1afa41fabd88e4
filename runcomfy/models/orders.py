"""What is asked for in a row of a manifest, in a sidecar file or in an object's metadata: texts, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from runcomfy.errors import InvalidInput
from runcomfy.models.cells import cell_value
from runcomfy.models.columns import (
    FIELDS,
    OF_ANY_MODEL,
    OWN,
    TEXTS,
    field_names,
    input_of,
    named_model,
    suggested,
    unknown_field,
)
from runcomfy.models.inputs import ModelInputs, check_inputs, generation_key
from runcomfy.models.registry import MODELS, default_model, short_name, short_names
from runcomfy.redaction import without_queries
from runcomfy.texts import prompt_of, unwritable, whole_number, why_not_whole
from runcomfy.values import StagedFile, StagedImage

__all__ = ["FIELDS", "TEXTS", "Kinds", "Order", "OrderDefaults", "read_order", "unknown_field"]

_UNSTAGED = "s3://not-staged-yet/image"
Kinds = Mapping[str, type[ModelInputs] | InvalidInput]
"""The classes of the models of the catalogue that orders may name, by id; or why there is none."""
_NO_KINDS: Kinds = MappingProxyType({})


class Order(BaseModel):
    """A generation that is asked for, checked except for its media, which are staged later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_id: str
    prompt: str
    """What people call it by: the prompt, or the text that has its place; empty where there is none."""
    image: str | None = None
    """Of a typed model, a path, an `https://` URL or an `s3://` URI; `None` for models that take none."""
    settings: dict[str, Any] = {}
    """The typed model's settings that were given; of another model, all its inputs, media included."""
    variation: str = ""
    kind: type[ModelInputs] | None = Field(default=None, exclude=True, repr=False)
    """The class of another model's inputs; it is not written down, but read from the pin."""

    def inputs(self, staged: StagedImage | Sequence[StagedFile] | None = None) -> ModelInputs:
        """Return the model's inputs with the staged image of a typed model; another one's media are in its settings.

        Raises:
            InvalidInput: with every violation, as `violations`.
        """
        if self.kind is not None:
            return check_inputs(self.kind, self.settings)
        kind = MODELS[self.model_id]
        files = [staged] if isinstance(staged, StagedImage) else list(staged or ())
        uri = files[0].uri if files else _UNSTAGED
        return check_inputs(
            kind, {"prompt": self.prompt, **self.settings, **({kind.image_field: uri} if kind.takes_image() else {})}
        )

    def media(self) -> dict[str, tuple[str, ...]]:
        """Return what the media are read from, by input, in their order."""
        if self.kind is None:
            return {} if self.image is None else {MODELS[self.model_id].image_field: (self.image,)}
        found = {name: self.settings[name] for name in self.kind.media if name in self.settings}
        return {name: (each,) if isinstance(each, str) else tuple(each) for name, each in found.items()}

    def with_media(self, uris: Mapping[str, Sequence[str]]) -> Order:
        """Return the same order, whose media are read from elsewhere, such as where they are staged.

        Args:
            uris: By input, in the order of `media`.
        """
        if self.kind is None:
            return self.model_copy(update={"image": next(iter(uris.values()))[0] if uris else None})
        named = {name: list(each) if self.kind.media[name].many else each[0] for name, each in uris.items()}
        return self.model_copy(update={"settings": {**self.settings, **named}})

    def identity(self) -> str:
        """Return the generation's key as if the media were what they are read from: they have not been read yet."""
        return generation_key(self.inputs(), media=self.media(), variation=self.variation)

    def known_to(self, kinds: Kinds) -> Order:
        """Return the same order with its model's class, which was not written down.

        Raises:
            InvalidInput: There is no class of the model.
        """
        if self.model_id in MODELS:
            return self
        kind = kinds[self.model_id]
        if isinstance(kind, InvalidInput):
            raise kind
        return self.model_copy(update={"kind": kind})


class OrderDefaults(BaseModel):
    """Defaults for every order that does not set them itself; empty ones are left to the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str | None = Field(default=None, title="Prompt", description="For those that have none.")
    resolution: Literal["480p", "580p", "720p"] | None = Field(
        default=None, title="Resolution", description="Length of the shorter side; 580p is for text-to-video only."
    )
    aspect_ratio: Literal["16:9", "9:16"] | None = Field(
        default=None, title="Aspect ratio", description="Width to height; for text-to-video only."
    )
    num_frames: int | None = Field(default=None, title="Number of frames", description="81 to 100.")
    frames_per_second: int | None = Field(default=None, title="Frame rate", description="5 to 24 frames per second.")
    seed: int | None = Field(default=None, title="Seed")
    enable_prompt_expansion: bool | None = Field(
        default=None, title="Magic prompt", description="Let the service enrich the prompts."
    )
    num_inference_steps: int | None = Field(
        default=None, title="Inference steps", description="For image-to-video only."
    )
    enable_safety_checker: bool | None = Field(
        default=None, title="Safety checker", description="For image-to-video only."
    )
    variation: str | None = Field(
        default=None, title="Variation", description="Any text, for another take of everything."
    )
    model: str | None = Field(
        default=None, title="Model", description="The id of any model of the catalogue, for rows that name none."
    )
    inputs: dict[str, Any] | None = Field(
        default=None, title="Other inputs", description="Inputs of any model, by name (--inputs.NAME VALUE).",
        repr=False,
    )  # fmt: skip

    @field_serializer("inputs")
    def _without_queries(self, inputs: dict[str, Any] | None) -> Any:
        return without_queries(inputs)  # Prefect stores parameters; `given` has them as they are

    def given(self) -> dict[str, Any]:
        """Return what is not empty.

        Raises:
            InvalidInput: The same is given twice.
        """
        given = self.model_dump(exclude_none=True, exclude={"inputs"})
        if twice := sorted(given.keys() & (self.inputs or {}).keys()):
            raise InvalidInput(f"{', '.join(twice)}: it is given twice, as itself and among the other inputs.")
        return given | (self.inputs or {})


def read_order(
    values: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    kinds: Kinds = _NO_KINDS,
    *,
    locate: Callable[[str], str] = str,
) -> Order:
    """Return what is asked for; texts are converted to numbers or truth values where a setting is one.

    Args:
        values: Named as in `FIELDS`, or as the inputs of its model are. An empty text, or `None`, is not given. The
            default model is `default_model`: image-to-video with an image, text-to-video without one.
        defaults: Used where `values` gives nothing; settings that the model does not know are left out.
        kinds: The models of the catalogue that may be named.
        locate: Returns where a medium is that `values` names, of a model of the catalogue; `ValueError` if none can be
            read there.

    Raises:
        InvalidInput: with every violation, as `violations`: pairs of a field and a sentence.
    """
    given = {str(name).strip(): value for name, value in values.items() if not _empty(value)}
    merged = {name: value for name, value in (defaults or {}).items() if not _empty(value)} | given
    image = str(merged["image"]).strip() if "image" in merged else None
    model_id = named_model(merged.get("model")) or default_model(image=bool(image))
    if model_id in kinds:
        return _order_of(model_id, kinds[model_id], given, merged, locate)
    found = [(name, unknown_field(name)) for name in given if name not in FIELDS]
    if model_id not in MODELS:
        found.append(("model", f"there is no model {model_id!r} here; it is one of {', '.join(sorted(short_names()))}"))
        raise _refusal(found)
    kind, name_of_kind = MODELS[model_id], short_name(model_id)
    if kind.takes_image() and image is None:
        found.append(("image", f"{name_of_kind} needs one"))
    if not kind.takes_image() and "image" in given:
        found.append(("image", f"{name_of_kind} takes none"))
    if not str(merged.get("prompt", "")).strip():
        found.append(("prompt", "it is missing"))
    found += [
        (name, sentence) for name in ("image", "variation") if (sentence := unwritable(str(merged.get(name, ""))))
    ]
    known, texts = kind.setting_names(), kind.text_settings()
    settings = {name: _value(value, is_text=name in texts) for name, value in merged.items() if name in known}
    found += [
        (name, sentence)
        for name, value in settings.items()
        if isinstance(value, str) and name not in texts and (sentence := why_not_whole(value))
    ]
    found += [
        (name, f"{name_of_kind} has no such setting")
        for name in given
        if name in FIELDS and name not in OWN and name not in settings
    ]
    order = Order(
        model_id=model_id,
        prompt=str(merged.get("prompt", "")),
        image=image if kind.takes_image() else None,
        settings=settings,
        variation=str(merged.get("variation", "")),
    )
    try:
        order.inputs(None)
    except InvalidInput as error:
        reported = {name for name, _ in found}
        found += [(name, sentence) for name, sentence in error.violations or () if name not in reported]
    if found:
        raise _refusal(found)
    return order


def _order_of(
    model_id: str,
    kind: type[ModelInputs] | InvalidInput,
    given: Mapping[str, Any],
    merged: Mapping[str, Any],
    locate: Callable[[str], str],
) -> Order:
    """Return what is asked for of a model of the catalogue."""
    if isinstance(kind, InvalidInput):
        raise _refusal([("model", kind.message)])
    found: list[tuple[str, str]] = []
    settings: dict[str, Any] = {}
    by_input: dict[str, str] = {}
    for name in (*given, *(name for name in merged if name not in given)):
        own = input_of(kind, name)
        if name in OF_ANY_MODEL or (own is None and name not in given):
            continue
        if own is None:
            names = field_names([kind], typed=False)
            found.append((name, f"{model_id} has no such input{suggested(name, names)}"))
        elif own not in by_input:
            value = cell_value(kind, own, merged[name])
            if isinstance(value, str) and "integer" in str(kind.properties[own].get("type")):
                found += [(name, sentence)] if (sentence := why_not_whole(value.strip())) else []
            settings[own], by_input[own] = value, name
        elif name in given and by_input[own] in given:
            found.append((name, f"it is given twice, as {by_input[own]} too; keep one of them"))
    for own in kind.media.keys() & settings.keys():
        if by_input[own] in given:
            try:
                settings[own] = _located(settings[own], kind.media[own].many, locate)
            except ValueError as error:
                found.append((by_input[own], str(error)))
    variation = str(merged.get("variation", ""))
    found += [("variation", sentence)] if (sentence := unwritable(variation)) else []
    settings = {name: value for name, value in settings.items() if value is not None}
    order = Order(
        model_id=model_id, prompt=prompt_of(settings) or "", settings=settings, variation=variation, kind=kind
    )
    try:
        order.inputs()
    except InvalidInput as error:
        reported = {name for name, _ in found}
        violations = [(by_input.get(name, name), sentence) for name, sentence in error.violations or ()]
        found += [(name, sentence) for name, sentence in violations if name not in reported]
    if found:
        raise _refusal(found)
    return order


def _located(value: Any, many: bool, locate: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_located(each, False, locate) for each in value]
    if not isinstance(value, str):
        return value
    return [locate(value)] if many else locate(value)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _value(value: Any, *, is_text: bool) -> Any:
    """Return a setting in the model's type: a spreadsheet has TRUE, 81 and 81.0."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if is_text:
        return text
    return text.lower() == "true" if text.lower() in ("true", "false") else whole_number(text)


def _refusal(found: Iterable[tuple[str, str]]) -> InvalidInput:
    found = list(dict.fromkeys(found))
    return InvalidInput("; ".join(f"{field}: {sentence}" for field, sentence in found), violations=found)
