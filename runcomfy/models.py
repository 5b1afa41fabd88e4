"""The inputs of the two models, checked before anything is paid for.

Fields, bounds, enumerations and defaults are those of the schemas on RunComfy's model pages; `tests/contract/` holds
copies, and a test holds every property against them. Four choices go beyond the schemas. A name that a schema does not
list is refused, because a misspelt setting would be paid for and ignored. `None` stands for "leave it out", for
the settings that have no default. A prompt is brought into one form (`runcomfy.texts`), and refused where it says
nothing. And a number that may have been rounded on its way is refused.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, TypeVar

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
from runcomfy.texts import normal_text, unusable
from runcomfy.whole_numbers import exact_below

__all__ = [
    "IMAGE_TO_VIDEO",
    "MODELS",
    "TEXT_TO_VIDEO",
    "ImageToVideo",
    "ImageToVideoSettings",
    "ModelId",
    "ModelInputs",
    "TextToVideo",
    "TextToVideoSettings",
    "check_inputs",
    "model_id_of",
    "short_name",
    "violations",
]

IMAGE_TO_VIDEO: Final = "wan-ai/wan-2-1/image-to-video"
TEXT_TO_VIDEO: Final = "wan-ai/wan-2-1/text-to-video"
ModelId: TypeAlias = Literal["wan-ai/wan-2-1/image-to-video", "wan-ai/wan-2-1/text-to-video"]


def _integer(value: Any) -> Any:
    """Read `81.0` as 81, as JSON Schema does, if that is sure; leave everything else to the strict check."""
    if not isinstance(value, float) or not value.is_integer():
        return value
    if abs(value) >= exact_below():
        raise PydanticCustomError(
            "rounded", "it may have been rounded on its way: a float is exact below 2^53 only. Give it as an integer"
        )
    return int(value)


Integer = Annotated[int, BeforeValidator(_integer)]


def _prompt(value: Any, check: ValidatorFunctionWrapHandler) -> str:
    """Bring a prompt into its one form, and refuse it where nothing sensible can come of it."""
    text = check(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, of a shell with another encoding; JSON cannot carry it
        raise PydanticCustomError("half_character", "the text is not valid Unicode") from None
    text = normal_text(value if isinstance(value, str) else text)
    if reason := unusable(text):
        raise PydanticCustomError("unusable_text", "{reason}", {"reason": reason})
    return text


Prompt = Annotated[str, WrapValidator(_prompt), Field(title="Prompt")]
FramesPerSecond = Annotated[Integer, Field(ge=5, le=24, title="Frame rate", description="Frames per second, 5 to 24.")]
PromptExpansion = Annotated[
    bool, Field(title="Magic prompt", description="Let the service enrich the prompt before it generates.")
]


class ModelInputs(BaseModel):
    """What the inputs of every model share: strict types, no unknown names, no change after the check."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_default=True)

    model_id: ClassVar[str]

    def body(self) -> dict[str, Any]:
        """Return the JSON body of a submission: every property that has a value, published defaults included.

        Defaults are sent so that a generation stays the same when the service changes them.
        """
        return self.model_dump(exclude_none=True)


class ImageToVideoSettings(ModelInputs):
    """The settings of `wan-ai/wan-2-1/image-to-video`.

    The seed's default is a constant of the service, so that another take needs another seed.
    """

    model_id: ClassVar[str] = IMAGE_TO_VIDEO

    resolution: Literal["480p", "720p"] = Field("720p", title="Resolution", description="Length of the shorter side.")
    num_frames: Integer = Field(81, ge=81, le=100, title="Number of frames", description="81 to 100 frames.")
    frames_per_second: FramesPerSecond = 16
    enable_prompt_expansion: PromptExpansion = True
    seed: Integer = Field(
        40426604, title="Seed", description="Change it for another take of the same prompt and image."
    )
    num_inference_steps: Integer | None = Field(
        None, title="Inference steps", description="Left to the service unless given."
    )
    enable_safety_checker: bool | None = Field(
        None, title="Safety checker", description="Left to the service unless given."
    )


class ImageToVideo(ImageToVideoSettings):
    """Everything that `wan-ai/wan-2-1/image-to-video` is asked with."""

    prompt: Prompt
    image_url: str = Field(title="Image", description="An https URL that the service can fetch.", repr=False)


class TextToVideoSettings(ModelInputs):
    """The settings of `wan-ai/wan-2-1/text-to-video`."""

    model_id: ClassVar[str] = TEXT_TO_VIDEO

    seed: Integer | None = Field(None, title="Seed", description="Left to the service unless given.")
    num_frames: Annotated[Literal[81, 85, 89, 93, 97], BeforeValidator(_integer)] = Field(81, title="Number of frames")
    frames_per_second: FramesPerSecond = 16
    resolution: Literal["480p", "580p", "720p"] = Field(
        "720p", title="Resolution", description="Length of the shorter side."
    )
    aspect_ratio: Literal["16:9", "9:16"] = Field("16:9", title="Aspect ratio", description="Width to height.")
    enable_prompt_expansion: PromptExpansion = True


class TextToVideo(TextToVideoSettings):
    """Everything that `wan-ai/wan-2-1/text-to-video` is asked with."""

    prompt: Prompt


MODELS: dict[str, type[ImageToVideo] | type[TextToVideo]] = {IMAGE_TO_VIDEO: ImageToVideo, TEXT_TO_VIDEO: TextToVideo}

Inputs = TypeVar("Inputs", bound=ModelInputs)

_SHORT = {model_id.rpartition("/")[2]: model_id for model_id in MODELS}
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)+")


def model_id_of(name: str, what: str = "model_id") -> str:
    """Return a model's id: any that the service may have, or one of these two by the last part of its id.

    Args:
        name: What somebody said.
        what: The option or field in which it was said.

    Raises:
        InvalidInput: it is neither.
    """
    name = name.strip()
    if name in _SHORT:
        return _SHORT[name]
    if not _MODEL_ID.fullmatch(name) or ".." in name:
        raise InvalidInput(
            f"{what}: {name!r} is no model. Give its id as RunComfy's model page has it, such as {IMAGE_TO_VIDEO}, or "
            f"{' or '.join(_SHORT)}."
        )
    return name


def short_name(model_id: str) -> str:
    """Return what a person types for a model: the reverse of `model_id_of`."""
    short = model_id.rpartition("/")[2]
    return short if _SHORT.get(short) == model_id else model_id


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
    """Return every violation that pydantic found, as field and sentence, without the values that were given."""
    return [
        (".".join(str(part) for part in found["loc"]) or "inputs", found["msg"])
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]
