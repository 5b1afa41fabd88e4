"""The two models of Wan 2.1.

Fields, bounds, enumerations and defaults are those of the schemas on RunComfy's model pages; a test compares every
property with the copies in `tests/contract/`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field

from runcomfy.models.inputs import Integer, ModelInputs, Prompt, integer

__all__ = [
    "IMAGE_TO_VIDEO",
    "TEXT_TO_VIDEO",
    "ImageToVideo",
    "ImageToVideoSettings",
    "TextToVideo",
    "TextToVideoSettings",
]

IMAGE_TO_VIDEO: Final = "wan-ai/wan-2-1/image-to-video"
TEXT_TO_VIDEO: Final = "wan-ai/wan-2-1/text-to-video"

FramesPerSecond = Annotated[Integer, Field(ge=5, le=24, title="Frame rate", description="Frames per second, 5 to 24.")]
PromptExpansion = Annotated[
    bool, Field(title="Magic prompt", description="Let the service enrich the prompt before it generates.")
]


class ImageToVideoSettings(ModelInputs):
    """The settings of `wan-ai/wan-2-1/image-to-video`.

    The seed's default is a constant of the service, so that another take needs another seed.
    """

    model_id: ClassVar[str] = IMAGE_TO_VIDEO
    makes: ClassVar[str] = "video"

    resolution: Literal["480p", "720p"] = Field(
        default="720p", title="Resolution", description="Length of the shorter side."
    )
    num_frames: Integer = Field(default=81, ge=81, le=100, title="Number of frames", description="81 to 100 frames.")
    frames_per_second: FramesPerSecond = 16
    enable_prompt_expansion: PromptExpansion = True
    seed: Integer = Field(
        default=40426604, title="Seed", description="Change it for another take of the same prompt and image."
    )
    num_inference_steps: Integer | None = Field(
        default=None, title="Inference steps", description="Left to the service unless given."
    )
    enable_safety_checker: bool | None = Field(
        default=None, title="Safety checker", description="Left to the service unless given."
    )


class ImageToVideo(ImageToVideoSettings):
    """All inputs of `wan-ai/wan-2-1/image-to-video`."""

    prompt: Prompt
    image_url: str = Field(title="Image", description="An https URL that the service can fetch.", repr=False)


class TextToVideoSettings(ModelInputs):
    """The settings of `wan-ai/wan-2-1/text-to-video`."""

    model_id: ClassVar[str] = TEXT_TO_VIDEO
    makes: ClassVar[str] = "video"

    seed: Integer | None = Field(default=None, title="Seed", description="Left to the service unless given.")
    num_frames: Annotated[Literal[81, 85, 89, 93, 97], BeforeValidator(integer)] = Field(
        default=81, title="Number of frames"
    )
    frames_per_second: FramesPerSecond = 16
    resolution: Literal["480p", "580p", "720p"] = Field(
        default="720p", title="Resolution", description="Length of the shorter side."
    )
    aspect_ratio: Literal["16:9", "9:16"] = Field(default="16:9", title="Aspect ratio", description="Width to height.")
    enable_prompt_expansion: PromptExpansion = True


class TextToVideo(TextToVideoSettings):
    """All inputs of `wan-ai/wan-2-1/text-to-video`."""

    prompt: Prompt
