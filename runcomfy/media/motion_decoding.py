"""Decode every frame of a video and every sample of a sound; part of the process of `isolation`.

What counts as damage is what the decoder says of a frame: that it cannot be decoded, or that parts of it were made up.
What a decoder merely logs is no damage: encoders differ, and good files make it talk.
"""

from __future__ import annotations

import itertools
import re
import statistics
from array import array
from typing import TYPE_CHECKING, Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition

from runcomfy.media.detectors import PictureDetector, SoundDetector
from runcomfy.media.isolation import Limits

if TYPE_CHECKING:
    from runcomfy.media.contact_sheet import SheetFrames

__all__ = ["decoded"]

_MAX_PIXELS = 2**26
_BUFFER_BYTES = 1 << 18
_HEAD_BYTES = 1 << 16
_FRAMES_IN_MP3 = re.compile(rb"(?:Xing|Info)\0\0\0(.)(.{4})", re.DOTALL)
_LARGE_MEGAPIXELS = 400.0
"""From here on several threads decode."""
_MOST_THREADS = 4
_MOST_TIMES = 500_000
_BAD_IN_A_ROW = 5000
"""After so many packets without a frame the rest is not tried."""
_UNEVEN_SHARE, _UNEVEN_STEP = 0.02, 0.25


def decoded(file: BinaryIO, order: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Return what is in a video or a sound: frames that decode and that do not, and what the detectors see."""
    file.seek(0)
    try:
        container = av.open(file, "r", format=order["format"], buffer_size=_BUFFER_BYTES)
    except (av.error.MemoryError, MemoryError):
        raise MemoryError from None
    except (av.FFmpegError, ArithmeticError, LookupError, ValueError) as trouble:
        return {"damage": f"it cannot be read ({type(trouble).__name__})"}
    decoding = _Decoding(container, limits, bool(order.get("sheet")), bool(order.get("detect", True)))
    return decoding.run() | {"declared_seconds": _declared_seconds(file, order["format"], container)}


def _declared_seconds(file: BinaryIO, form: str, container: InputContainer) -> float | None:
    """Return how long a sound should be, if its head says so; FFmpeg guesses where it does not."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    counted = _FRAMES_IN_MP3.search(head)
    said = form == "flac" or (form == "mp3" and counted is not None and counted[1][0] & 1 and any(counted[2]))
    return container.duration / av.time_base if said and container.duration else None


class _Decoding:
    def __init__(self, container: InputContainer, limits: Limits, sheet: bool, detect: bool) -> None:
        self._container, self._limits, self._detect = container, limits, detect
        moving = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
        self._video: Any = next((each for each in moving if getattr(each, "codec_context", None)), None)
        self._is_blind = bool(moving) and self._video is None
        self._sound: Any = next(
            (each for each in container.streams.audio if getattr(each, "codec_context", None)), None
        )
        self._pictures, self._sounds = PictureDetector(), SoundDetector()
        self._sheet = _sheet_frames() if sheet else None
        self._times = array("d")
        self._sizes: set[tuple[int, int]] = set()
        self._found: dict[str, Any] = {
            "frames": 0, "frames_damaged": 0, "first_damage_seconds": None, "packets": 0, "sound_packets": 0,
            "sound_packets_damaged": 0, "sound_frames": 0, "damage": None, "stopped": None,
        }  # fmt: skip
        self._end = 0.0

    def run(self) -> dict[str, Any]:
        wanted = [stream for stream in (self._video, self._sound) if stream is not None]
        if not wanted:
            return self._found | {"stopped": "its codec is not known here"}
        if (refused := self._bounded()) is not None:
            return self._found | {"stopped": refused}
        packets = self._container.demux(*wanted)
        row = 0
        while True:
            if self._limits.over:
                self._found["stopped"] = f"{self._found['frames']} frames were decoded in {self._limits.seconds:g} s"
                break
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.error.MemoryError:
                raise MemoryError from None
            except (av.FFmpegError, ArithmeticError, ValueError) as trouble:
                self._found["damage"] = f"it cannot be read behind {self._end:.1f} s ({type(trouble).__name__})"
                break
            row = 0 if self._decode(packet) else row + 1
            if row > _BAD_IN_A_ROW:
                self._found["damage"] = f"nothing decodes behind {self._end:.1f} s"
                break
        if self._is_blind:
            self._found["stopped"] = "the codec of its pictures is not known here"
        return self._facts()

    def _bounded(self) -> str | None:
        megapixels, pixels = 0.0, 0
        duration = self._container.duration / av.time_base if self._container.duration else 0.0
        if self._video is not None:
            context = self._video.codec_context
            pixels = (context.width or 0) * (context.height or 0)
            if pixels > _MAX_PIXELS:
                return f"its frames have {context.width}x{context.height} pixels, and up to 67 million are decoded"
            frames = self._video.frames or duration * float(self._video.average_rate or 30)
            megapixels = max(0.0, frames) * pixels / 1e6
            large = megapixels > _LARGE_MEGAPIXELS
            context.thread_count = _MOST_THREADS if large else 1
            context.thread_type = "AUTO" if large else "SLICE"
        if self._sound is not None:
            self._sound.codec_context.thread_count = 1
            if self._sound.codec_context.name == "flac":
                self._sound.codec_context.options = {"err_detect": "crccheck"}
        self._limits.allow(megapixels, pixels, max(0.0, duration))
        return None

    def _decode(self, packet: Any) -> bool:
        video = packet.stream is self._video
        try:
            frames = packet.decode() if packet.size or packet.dts is None else []
        except av.error.MemoryError:
            raise MemoryError from None
        except av.error.EOFError:
            frames = []
        except (av.FFmpegError, ArithmeticError, ValueError):
            self._damaged("frames_damaged" if video else "sound_packets_damaged")
            if packet.size:
                self._found["packets" if video else "sound_packets"] += 1
            return False
        if packet.size:
            self._found["packets" if video else "sound_packets"] += 1
        for frame in frames:
            self._see(frame) if video else self._hear(frame)
        return bool(frames) or not packet.size

    def _damaged(self, which: str) -> None:
        self._found[which] += 1
        if which == "frames_damaged" and self._found["first_damage_seconds"] is None:
            self._found["first_damage_seconds"] = round(self._end, 3)

    def _see(self, frame: av.VideoFrame) -> None:
        self._found["frames"] += 1
        if frame.pts is None:
            rate = float(self._video.average_rate or 25) or 25.0
            base = frame.time_base or self._video.time_base
            frame.time_base = base
            frame.pts = round((self._found["frames"] - 1) / rate / float(base)) if base else self._found["frames"] - 1
        at = frame.time or 0.0
        self._end = max(self._end, at)
        if len(self._times) < _MOST_TIMES:
            self._times.append(at)
        if frame.is_corrupt:
            self._damaged("frames_damaged")
        if len(self._sizes) < 10:
            self._sizes.add((frame.width, frame.height))
        if self._detect:
            self._pictures.look(frame)
        if self._sheet is not None:
            self._sheet.see(frame, at)

    def _hear(self, frame: av.AudioFrame) -> None:
        self._found["sound_frames"] += 1
        if frame.is_corrupt:
            self._damaged("sound_packets_damaged")
        self._sounds.listen(frame)
        if self._video is None:
            self._end = self._sounds.seconds

    def _facts(self) -> dict[str, Any]:
        found = self._found
        if self._video is not None:
            times = sorted(self._times)
            steps = [later - earlier for earlier, later in itertools.pairwise(times)]
            step = statistics.median(steps) if steps else 0.0
            uneven = sum(abs(each - step) > _UNEVEN_STEP * step for each in steps)
            start = times[0] if times else 0.0
            self._pictures.finish(self._end + step)
            seen = self._pictures
            found |= {
                "seconds": round(self._end + step - start, 3),
                "variable_frame_rate": bool(steps) and uneven > _UNEVEN_SHARE * len(steps),
                "sizes": sorted(self._sizes),
                "looked_at": seen.looked_at,
                "black": seen.black.found, "black_seconds": round(seen.black.seconds, 3),
                "frozen": seen.frozen.found, "frozen_seconds": round(seen.frozen.seconds, 3),
                "blurred": seen.blurred.found, "blurred_seconds": round(seen.blurred.seconds, 3),
                "scene_cuts": seen.cuts,
            }  # fmt: skip
        if self._sound is not None:
            self._sounds.finish()
            heard = self._sounds
            loud = heard.loudness_lufs
            found |= {
                "sound_seconds": round(heard.seconds, 3), "samples": heard.samples,
                "loudness_lufs": loud if loud is not None and loud > -70 else None, "peak_dbfs": heard.peak_dbfs,
                "clipped_share": heard.clipped_share, "silent": heard.silent.found,
                "silent_seconds": round(heard.silent.seconds, 3),
            }  # fmt: skip
        if self._sheet is not None:
            found["sheet"] = self._sheet.encoded()
        return found


def _sheet_frames() -> SheetFrames:
    from runcomfy.media.contact_sheet import SheetFrames

    return SheetFrames()
