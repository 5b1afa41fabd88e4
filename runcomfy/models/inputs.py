"""What the inputs of all models share: the check before anything is paid for, and the identity of a generation.

Four choices go beyond the schemas on RunComfy's model pages. A name that a schema does not list is refused, because a
misspelt setting would be paid for and ignored. `None` leaves a setting out, if it has no default. A prompt is
normalised (`runcomfy.texts`), and refused if it says nothing. And a number that may have been rounded before it got
here is refused.
"""

from __future__ import annotations

import hashlib
import json
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
from runcomfy.texts import as_given, exact_below, normal_text, unusable

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
    text = check(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, from a shell with another encoding; JSON cannot hold it
        raise PydanticCustomError("half_character", "the text is not valid Unicode") from None
    text = normal_text(value if isinstance(value, str) else text)
    if reason := unusable(text):
        raise PydanticCustomError("unusable_text", "{reason}", {"reason": reason})
    return text


Prompt = Annotated[str, WrapValidator(_prompt), Field(title="Prompt")]


class ModelInputs(BaseModel):
    """What the inputs of every model share: strict types, no unknown names, no change after the check."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_default=True)

    model_id: ClassVar[str]
    image_field: ClassVar[str] = "image_url"
    """The field with the image's URL, where the model has one. The key has the image's content instead."""
    makes_video: ClassVar[bool] = False
    """Whether an output that is no video gets a warning."""

    @classmethod
    def takes_image(cls) -> bool:
        """Whether an image is needed."""
        return cls.image_field in cls.model_fields

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
        return self.model_dump(exclude_none=True)


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
        found = violations(error)
    named = "; ".join(f"{field}: {message}" for field, message in found)
    raise InvalidInput(f"{kind.model_id} does not accept these inputs: {named}", violations=found)


def violations(error: ValidationError) -> list[tuple[str, str]]:
    """Return every violation that pydantic found, as field and sentence, without the given values."""
    return [
        (".".join(str(part) for part in found["loc"]) or "inputs", found["msg"])
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def generation_key(inputs: ModelInputs, *, image_sha256: str | None = None, variation: str = "") -> str:
    """Return the generation's key: 64 hexadecimal digits (SHA-256).

    Args:
        inputs: The checked inputs of one model. An image's URL is ignored: it is signed again each time.
        image_sha256: What replaces the URL: the SHA-256 of the image's bytes.
        variation: Any text that distinguishes two generations that are meant to have the same inputs; it is normalised
            like the prompt (`runcomfy.texts`).
    """
    return _key(inputs, image_sha256, normal_text(variation), _body(inputs))


def earlier_key(inputs: ModelInputs, *, image_sha256: str | None = None, variation: str = "") -> str | None:
    """Return the key that earlier versions gave this generation; `None` if it is the same.

    Before texts were normalised, keys were made of them as given.
    """
    body = _body(inputs)
    given = {name: as_given(value) if isinstance(value, str) else value for name, value in body.items()}
    if given == body and as_given(variation) == normal_text(variation):
        return None
    return _key(inputs, image_sha256, as_given(variation), given)


def _body(inputs: ModelInputs) -> dict[str, Any]:
    return {name: value for name, value in inputs.body().items() if name != inputs.image_field}


def _key(inputs: ModelInputs, image_sha256: str | None, variation: str, body: dict[str, Any]) -> str:
    identity = {
        "model": inputs.model_id,
        "inputs": body,
        "image_sha256": image_sha256,
        "variation": variation or None,
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
