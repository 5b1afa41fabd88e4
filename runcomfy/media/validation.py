"""Validate an output against what was asked for: warnings only, because a paid video is kept whatever is in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from runcomfy.values import MediaFacts

__all__ = ["OutputValidation"]

_T = TypeVar("_T")
_USUAL = ("mp4", "mov", "webm")  # what browsers play
_ASKED = {"video": "A video", "image": "An image", "audio": "A sound"}
_LEAST_SHARE = 0.9
"""Of the frames that were asked for."""
_DURATIONS: Final = {
    "duration": 1.0,
    "duration_seconds": 1.0,
    "seconds": 1.0,
    "music_length_ms": 0.001,
    "duration_ms": 0.001,
}
"""Inputs that ask for a length, and their unit in seconds."""
_COUNTS: Final = ("num_images", "num_outputs", "num_videos", "number_of_images", "n")
_FORMATS: Final = {
    "png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp", "avif": "avif", "gif": "gif", "mp3": "mp3",
    "wav": "wav", "flac": "flac", "ogg": "ogg", "opus": "ogg", "mp4": "mp4", "mov": "mov", "webm": "webm",
}  # fmt: skip
"""What a format is called among inputs, and as a container."""
_SIZE: Final = re.compile(r"(\d{2,5})\s*[x*\u00d7]\s*(\d{2,5})")
_LENGTH_TOLERANCE, _LEAST_SECONDS = 0.1, 0.5  # clips end with a whole frame, and songs on a beat
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
    duration_seconds: float | None = None
    container: str | None = None
    """The file's format, such as `png`."""
    width: int | None = None
    height: int | None = None
    """Both in pixels, or neither."""
    files: int | None = None
    """How many."""
    answer_warnings: tuple[str, ...] = ()
    """What is odd about the answer that named the file; added to the warnings."""

    @classmethod
    def of(cls, asked: Mapping[str, Any], makes: str) -> Self:
        """Return what to validate against, by the usual names of inputs; what another name or form has is not checked.

        Args:
            asked: What was sent.
            makes: What the model makes; empty if it is not known.
        """
        size = _SIZE.fullmatch(str(asked.get("size") or asked.get("image_size") or "").strip())
        width, height = (int(size[1]), int(size[2])) if size else (asked.get("width"), asked.get("height"))
        both = all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in (width, height))
        seconds = [found * unit for name, unit in _DURATIONS.items() if (found := _number(asked.get(name))) is not None]
        counts = [found for name in _COUNTS if isinstance(found := asked.get(name), int) and found > 0]
        form = str(asked.get("output_format") or asked.get("format") or "").lower()
        named = (_FORMATS.get(word) for word in re.split(r"[^a-z0-9]+", form))
        return cls(
            makes=makes,
            frames=_typed(asked, "num_frames", int),
            frames_per_second=_typed(asked, "frames_per_second", int),
            resolution=_typed(asked, "resolution", str),
            aspect_ratio=_typed(asked, "aspect_ratio", str),
            duration_seconds=seconds[0] if seconds else None,
            container=next(filter(None, named), None),
            width=width if both else None,
            height=height if both else None,
            files=counts[0] if counts else None,
        )

    def count_warnings(self, came: int) -> tuple[str, ...]:
        """Return a sentence if another number of files came than was asked for."""
        if self.files is None or came == self.files:
            return ()
        return (f"{self.files} files were asked for; {came} came.",)

    def warnings(self, media: MediaFacts, content_type: str = "video/mp4") -> tuple[str, ...]:
        """Return a sentence for each difference from what was asked for; what the file does not say is not checked."""
        found: list[str] = []
        sound = media.codec is not None and media.width is None
        came = "audio" if sound else content_type.partition("/")[0]
        if self.makes and came != self.makes:
            what = {"audio": "sound", "video": "a video"}.get(came, f"a file of the type {content_type}")
            return (f"{_ASKED[self.makes]} was asked for; this is {what}.",)
        found += self._of_any_kind(media, came)
        if came != "video":
            return tuple(found)
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
        short = self.duration_seconds and (media.duration_seconds or math.inf) < _LEAST_SHARE * self.duration_seconds
        kept = {"frames": part, "duration_seconds": short}
        left_out = ["frames_per_second", "container", *(name for name, matters in kept.items() if not matters)]
        checked = self.model_copy(update=dict.fromkeys(left_out))
        playable = media.model_copy(update={"container": _USUAL[0]})
        return checked.warnings(playable, content_type)

    def _of_any_kind(self, media: MediaFacts, came: str) -> Iterable[str]:
        if self.container and media.container in _FORMATS.values() and media.container != self.container:
            yield f"It is a {media.container} file; {self.container} was asked for."
        seconds, wanted = media.duration_seconds, self.duration_seconds
        if came in ("video", "audio") and not _lasts(seconds, wanted):
            yield f"It lasts {seconds:g} s; {wanted:g} s were asked for."
        if self.width and self.height and media.width and media.height:
            turned = (media.rotation_degrees or 0) % 180 == 90
            width, height = (media.height, media.width) if turned else (media.width, media.height)
            if not (_close(width, self.width) and _close(height, self.height)):
                yield f"It has {width}x{height} pixels; {self.width}x{self.height} were asked for."


def _typed(asked: Mapping[str, Any], name: str, kind: type[_T]) -> _T | None:
    """Return a setting if the model has it, with the usual type."""
    return value if isinstance(value := asked.get(name), kind) else None


def _number(value: Any) -> float | None:
    """Return a number above zero, also one in a text such as `8` or `8s`; others mean "as long as it takes"."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*s?", value.strip())):
        value = float(found[1])
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known and math.isfinite(value) and value > 0 else None


def _lasts(seconds: float | None, wanted: float | None) -> bool:
    """Whether a length is about the one that was asked for; what is not known is."""
    return not (seconds and wanted) or abs(seconds - wanted) <= max(_LEAST_SECONDS, _LENGTH_TOLERANCE * wanted)


def _close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= _TOLERANCE * wanted
