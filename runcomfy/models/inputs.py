"""What the inputs of all models share: the check before anything is paid for, and the identity of a generation.

Four choices go beyond the schemas on RunComfy's model pages. A name that a schema does not list is refused, because a
misspelt setting would be paid for and ignored. `None` leaves a setting out, if it has no default. A prompt is
normalised (`runcomfy.texts`), and refused if it says nothing. And a number that may have been rounded before it got
here is refused.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from runcomfy.errors import InvalidInput
from runcomfy.models.media_fields import MediaField, MediaKind
from runcomfy.texts import as_given, exact_below, normal_text, unusable, unwritable

__all__ = [
    "Integer",
    "ModelInputs",
    "Prompt",
    "check_inputs",
    "earlier_key",
    "generation_key",
    "integer",
    "violations",
]


def integer(value: Any) -> Any:
    """Read `81.0` as 81, as JSON Schema does, if it is exact; leave everything else to the strict check."""
    if not isinstance(value, float) or not value.is_integer():
        return value
    if abs(value) >= exact_below():
        raise PydanticCustomError(
            "rounded", "it may have been rounded on its way: a float is exact below 2^53 only. Give it as an integer"
        )
    return int(value)


Integer = Annotated[int, BeforeValidator(integer)]


def _prompt(value: Any, check: ValidatorFunctionWrapHandler) -> str:
    """Normalise a prompt, and refuse it if it cannot give a sensible video."""
    text: str = check(value)
    reason = unwritable(str(text))
    if not reason:
        text = normal_text(value if isinstance(value, str) else text)
        reason = unusable(text)
    if reason:
        raise PydanticCustomError("unusable_text", "{reason}", {"reason": reason})
    return text


Prompt = Annotated[str, WrapValidator(_prompt), Field(title="Prompt")]


_NO_MEDIA: Mapping[str, MediaField] = MappingProxyType({})


class ModelInputs(BaseModel):
    """What the inputs of every model share: strict types, no unknown names, no change after the check."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        protected_namespaces=(),
        serialize_by_alias=True,
    )

    model_id: ClassVar[str]
    image_field: ClassVar[str] = "image_url"
    """The field with the image's URL, where the model has one. The key has the image's content instead."""
    media: ClassVar[Mapping[str, MediaField]] = _NO_MEDIA
    """The inputs that are URLs of media, by name; where a class does not say it, the image's."""
    earlier_until: ClassVar[datetime | None] = None
    """Only a generation that was begun before is meant by its earlier key; `None` is any."""
    texts: ClassVar[frozenset[str]] = frozenset()
    """The inputs that are free texts."""
    makes: ClassVar[str] = ""
    """`video`, `image` or `audio`: another kind of output gets a warning. Empty if it is not known."""
    base_price_usd: ClassVar[float | None] = None
    """US dollars for each `price_unit`, by the catalogue; `None` if it is not known."""
    price_unit: ClassVar[str | None] = None
    properties: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """The schema of each input, where a class is made of one; empty for a typed one."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.media is _NO_MEDIA and cls.takes_image():
            cls.media = MappingProxyType({cls.image_field: MediaField(kind=MediaKind.IMAGE)})

    @classmethod
    def takes_image(cls) -> bool:
        """Whether an image is needed."""
        return cls.image_field in cls.model_fields

    @classmethod
    def accepts(cls, name: str, value: Any) -> bool:
        """Whether an input takes a value, as far as a class that is made of a schema can say; a typed one takes any."""
        return True

    @classmethod
    def setting_names(cls) -> frozenset[str]:
        """Return the names of the fields that are neither the prompt nor the image."""
        return frozenset(cls.model_fields) - {"prompt", cls.image_field}

    @classmethod
    def text_settings(cls) -> frozenset[str]:
        """Return the names of the settings that are texts, such as a choice of `480p` and `720p`."""
        return frozenset(name for name in cls.setting_names() if _is_text(cls.model_fields[name].annotation))

    def body(self) -> dict[str, Any]:
        """Return the JSON body of a submission: every property that has a value, published defaults included.

        Defaults are sent so that a generation stays the same when the service changes them.
        """
        return self.model_dump(exclude_none=True, by_alias=True)

    def earlier_body(self) -> dict[str, Any]:
        """Return what earlier versions made a generation's key of."""
        return {name: as_given(value) if isinstance(value, str) else value for name, value in self.body().items()}

    def identity(self, body: Mapping[str, Any], media: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Return what distinguishes a generation of this model from others: what its key is made of.

        Args:
            body: What is submitted.
            media: The SHA-256 of each medium's bytes, by field.
        """
        others = {name: value for name, value in body.items() if name != self.image_field}
        return {"inputs": others, "image_sha256": next(iter(media.get(self.image_field, ())), None)}


def _is_text(annotation: Any) -> bool:
    return annotation is str or any(isinstance(part, str) or _is_text(part) for part in get_args(annotation))


Inputs = TypeVar("Inputs", bound=ModelInputs)


def check_inputs(kind: type[Inputs], values: dict[str, Any]) -> Inputs:
    """Return `values` as checked inputs of one model.

    Raises:
        InvalidInput: with every violation, not only the first, as `violations`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found = [(name, _unknown(kind, name) or sentence) for name, sentence in violations(error)]
    named = "; ".join(f"{field}: {message}" for field, message in found)
    raise InvalidInput(f"{kind.model_id} does not accept these inputs: {named}", violations=found)


def _unknown(kind: type[ModelInputs], name: str) -> str:
    """Say that a model has no such input, and suggest one; an empty text if it has."""
    names = [field.alias or own for own, field in kind.model_fields.items()]
    if name in names or name == "inputs" or "." in name:
        return ""
    near = difflib.get_close_matches(name.lower().replace(" ", "_").replace("-", "_"), names, n=1)
    return "there is no such input" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}")


def violations(error: ValidationError) -> list[tuple[str, str]]:
    """Return every violation that pydantic found, as field and sentence, without the given values."""
    return [
        (".".join(str(part) for part in found["loc"]) or "inputs", found["msg"])
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def generation_key(
    inputs: ModelInputs,
    *,
    image_sha256: str | None = None,
    media: Mapping[str, Sequence[str]] = MappingProxyType({}),
    variation: str = "",
) -> str:
    """Return the generation's key: 64 hexadecimal digits (SHA-256).

    Args:
        inputs: The checked inputs of one model. The URLs of its media are ignored: they are signed again each time.
        image_sha256: What replaces the URL of its only image: the SHA-256 of the image's bytes.
        media: The same for any number of media: by field, in the order of the field's URLs.
        variation: Any text that distinguishes two generations that are meant to have the same inputs; it is normalised
            like the prompt (`runcomfy.texts`).

    Raises:
        InvalidInput: the variation cannot be written down (`runcomfy.texts.unwritable`).
    """
    if reason := unwritable(variation):
        raise InvalidInput(f"variation: {reason}. Nothing was paid for.", violations=[("variation", reason)])
    return _key(inputs, _media(inputs, image_sha256, media), normal_text(variation), inputs.body())


def earlier_key(
    inputs: ModelInputs,
    *,
    image_sha256: str | None = None,
    media: Mapping[str, Sequence[str]] = MappingProxyType({}),
    variation: str = "",
) -> str | None:
    """Return the key that earlier versions gave this generation; `None` if it is the same.

    Before texts were normalised, keys were made of them as given. And before a refreshed schema had other defaults,
    what was left out had the earlier ones.
    """
    body = inputs.body()
    given = inputs.earlier_body()
    if given == body and as_given(variation) == normal_text(variation):
        return None
    return _key(inputs, _media(inputs, image_sha256, media), as_given(variation), given)


def _media(
    inputs: ModelInputs, image_sha256: str | None, media: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[str]]:
    return media if image_sha256 is None else {inputs.image_field: (image_sha256,), **media}


def _key(inputs: ModelInputs, media: Mapping[str, Sequence[str]], variation: str, body: dict[str, Any]) -> str:
    identity = {"model": inputs.model_id, **inputs.identity(body, media), "variation": variation or None}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
