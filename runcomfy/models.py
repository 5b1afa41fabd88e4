"""The inputs of the two models, checked before anything is paid for.

Fields, bounds, enumerations and defaults are those of the schemas on RunComfy's model pages; `tests/contract/` holds
copies, and a test holds every property against them. Two choices go beyond the schemas. A name that a schema does not
list is refused, because a misspelt setting would be paid for and ignored. And `None` stands for "leave it out", for
the settings that have no default.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from runcomfy.errors import InvalidInput

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
    "violations",
]

IMAGE_TO_VIDEO: Final = "wan-ai/wan-2-1/image-to-video"
TEXT_TO_VIDEO: Final = "wan-ai/wan-2-1/text-to-video"
ModelId: TypeAlias = Literal["wan-ai/wan-2-1/image-to-video", "wan-ai/wan-2-1/text-to-video"]


def _integer(value: Any) -> Any:
    """Read `81.0` as 81, as JSON Schema does; leave everything else to the strict check."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_integer)]


def _sendable(value: str) -> str:
    """Refuse half a character, which a shell makes of text in another encoding and JSON cannot carry."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text is not valid Unicode") from None
    return value


Prompt = Annotated[str, AfterValidator(_sendable), Field(title="Prompt")]
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
