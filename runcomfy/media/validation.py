"""Validate an output against what was asked for: warnings only, because a paid video is kept whatever is in it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from runcomfy.values import MediaFacts

__all__ = ["OutputValidation"]

_USUAL = ("mp4", "mov", "webm")  # what browsers play
_ASKED = {"video": "A video", "image": "An image", "audio": "A sound"}
_LEAST_SHARE = 0.9
"""Of the frames that were asked for."""
_TOLERANCE = 0.05  # models round sizes to multiples of 8 or 16 pixels


class OutputValidation(BaseModel):
    """What an output is validated against, by its inputs; `None` is not checked.

    For image-to-video leave `aspect_ratio` out: the image decides it, and the resolution is the shorter side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    makes: Literal["video", "image", "audio", ""] = ""
    """What was asked for; empty if it is not known."""
    frames: int | None = None
    frames_per_second: int | None = None
    resolution: str | None = None
    """Such as `720p`: the shorter side in pixels."""
    aspect_ratio: str | None = None
    """Such as `16:9`: width to height."""
    answer_warnings: tuple[str, ...] = ()
    """What is odd about the answer that named the file; added to the warnings."""

    def warnings(self, media: MediaFacts, content_type: str = "video/mp4") -> tuple[str, ...]:
        """Return a sentence for each difference from what was asked for; what the file does not say is not checked."""
        found: list[str] = []
        sound = media.codec is not None and media.width is None
        came = "audio" if sound else content_type.partition("/")[0]
        if self.makes and came != self.makes:
            what = {"audio": "sound", "video": "a video"}.get(came, f"a file of the type {content_type}")
            return (f"{_ASKED[self.makes]} was asked for; this is {what}.",)
        if came != "video":
            return ()
        if self.makes == "video" and media.container not in _USUAL:
            found.append(f"It is a file of the kind {media.container}; a video is mp4, mov or webm as a rule.")
        if self.frames is not None and media.frames is not None and media.frames != self.frames:
            found.append(f"The video has {media.frames} frames; {self.frames} were asked for.")
        rate = media.frames_per_second
        if self.frames_per_second is not None and rate is not None and abs(rate - self.frames_per_second) > 0.01:
            found.append(f"The video has {rate:g} frames per second; {self.frames_per_second} were asked for.")
        if media.width and media.height:
            width, height = media.width, media.height
            if (media.rotation_degrees or 0) % 180 == 90:
                width, height = height, width
            size = f"The video is {width}x{height} pixels"
            shorter = re.fullmatch(r"(\d+)p", self.resolution or "")
            if shorter and not _close(min(width, height), int(shorter[1])):
                found.append(f"{size}; {self.resolution}, the shorter side, was asked for.")
            ratio = re.fullmatch(r"(\d+):([1-9]\d*)", self.aspect_ratio or "")
            if ratio and not _close(width / height, int(ratio[1]) / int(ratio[2])):
                found.append(f"{size}; the aspect ratio {self.aspect_ratio} was asked for.")
        return tuple(found)

    def defects(self, media: MediaFacts, content_type: str = "video/mp4") -> tuple[str, ...]:
        """Return those of the warnings that a person should look at: another kind of file, another size, a part."""
        part = self.frames and media.frames and media.frames < _LEAST_SHARE * self.frames
        checked = self.model_copy(update={"frames_per_second": None} | ({} if part else {"frames": None}))
        playable = media.model_copy(update={"container": _USUAL[0]})
        return checked.warnings(playable, content_type)


def _close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= _TOLERANCE * wanted
