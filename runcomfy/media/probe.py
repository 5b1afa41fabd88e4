"""Ask FFmpeg what is in a video or a sound file. Nothing is rejected: what cannot be read is a fact about the file.

The bytes are untrusted: the format is given, not guessed, so that no playlist or reference in them is followed;
FFmpeg's log does not reach stderr; and the time for reading and the amount of decoding are limited.
"""

from __future__ import annotations

import io
import math
import time
from typing import Any, BinaryIO, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from runcomfy.media.waveform import waveform

__all__ = ["Probed", "probe"]

_MAX_DECODED_PIXELS = 2**26
_MAX_PACKETS_FOR_AN_IMAGE = 64
_MAX_COUNTED_PACKETS = 500_000
_MAX_SECONDS = 30.0
_MOST = 2**31 - 1


class Probed(NamedTuple):
    """What FFmpeg says of the first video stream, or the first audio stream if there is none; `None` is unknown."""

    streams: frozenset[str] = frozenset()
    """`video` and `audio`, if there are such streams; a picture on a sound file is no video."""
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    frames_per_second: float | None = None
    duration_seconds: float | None = None
    rotation_degrees: int | None = None
    image: Image.Image | None = None
    """The first frame, upright; of a sound without a video, its waveform."""
    indexed_bytes: int = 0
    """The least size that the file can have, by its index."""
    damage: str | None = None
    """A sentence, if something in it does not decode."""
    oddity: str | None = None
    """A sentence, if it is intact but unusual."""


class _TooLong(Exception):
    pass


class _Limited(io.RawIOBase):
    """The file, read by FFmpeg for a limited time."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self._until = file, time.monotonic() + _MAX_SECONDS

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._file.tell()}.get(whence)
        if base is None:
            return self._file.seek(offset, whence)
        return self._file.seek(max(0, base + offset))

    def read(self, size: int = -1, /) -> bytes:
        if time.monotonic() > self._until:
            raise _TooLong
        return self._file.read(size)


def probe(file: BinaryIO, file_format: str) -> Probed:
    """Return what FFmpeg says of a file on disk.

    Args:
        file: The file; its position afterwards is undefined.
        file_format: FFmpeg's name of the container, such as `mp4` or `matroska`.
    """
    file.seek(0)
    try:
        with av.open(_Limited(file), "r", format=file_format) as container:
            return _probed(container)
    except _TooLong:  # a slow disk, or a busy machine: that makes a good file no worse
        return Probed(oddity=f"FFmpeg could not read it within {_MAX_SECONDS:g} s: little is known of it.")
    except MemoryError:
        return Probed(oddity="This machine had not the memory to read it: little is known of it.")
    except (av.FFmpegError, ArithmeticError, AttributeError, LookupError, OSError, ValueError) as trouble:
        return Probed(damage=f"FFmpeg cannot read it ({type(trouble).__name__})")


def _probed(container: InputContainer) -> Probed:
    stream: Any = next(iter(container.streams.video or container.streams.audio), None)
    if stream is None:
        return Probed(damage="FFmpeg finds neither video nor sound in it")
    ends = [entry.pos + entry.size for any_stream in container.streams for entry in any_stream.index_entries]
    context = getattr(stream, "codec_context", None)  # missing where FFmpeg has no decoder
    moving = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    found = {"video": moving, "audio": container.streams.audio}
    facts = Probed(
        streams=frozenset(kind for kind, streams in found.items() if streams),
        duration_seconds=_duration(container, stream),
        indexed_bytes=max(ends, default=0),
    )
    if context is None:
        return facts._replace(oddity="FFmpeg does not know its codec here, so nothing of it was decoded.")
    facts = facts._replace(codec=context.codec.canonical_name)
    if not isinstance(stream, VideoStream):
        return facts._replace(image=waveform(container))
    rate = stream.average_rate
    facts = facts._replace(
        width=context.width or None,
        height=context.height or None,
        frames=stream.frames if 0 < stream.frames <= _MOST else None,
        frames_per_second=round(float(rate), 6) if rate else None,
    )
    if not (facts.width and facts.height):
        return facts._replace(damage="it does not say how large its frames are")
    return _with_first_image(facts, container, stream)


def _duration(container: InputContainer, stream: Any) -> float | None:
    seconds: float | None = None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / av.time_base
    return round(seconds, 6) if seconds and math.isfinite(seconds) and seconds > 0 else None


def _with_first_image(facts: Probed, container: InputContainer, stream: VideoStream) -> Probed:
    """Decode the first frame, and count the others where the file does not say how many there are."""
    context = stream.codec_context
    context.thread_count = 1
    packets = container.demux(stream)
    packets_read, decodes = 0, context.width * context.height <= _MAX_DECODED_PIXELS
    frames: list[VideoFrame] = []
    for packet in packets:
        packets_read += 1 if packet.size else 0
        if decodes and not frames:
            try:
                frames = context.decode(packet if packet.size else None)
            except av.FFmpegError as trouble:
                return facts._replace(damage=f"its first frame does not decode ({type(trouble).__name__})")
        done = frames or not decodes or packets_read >= _MAX_PACKETS_FOR_AN_IMAGE
        if (done and facts.frames is not None) or packets_read >= _MAX_COUNTED_PACKETS:
            break
    if not packets_read:
        return facts._replace(damage="there are no frames in it")
    if facts.frames is None and packets_read < _MAX_COUNTED_PACKETS:
        facts = facts._replace(frames=packets_read)
    if not decodes:
        return facts._replace(oddity=f"Its frames have {context.width}x{context.height} pixels: none was decoded.")
    if not frames or frames[0].is_corrupt:
        return facts._replace(damage="its first frame does not decode")
    counter_clockwise = round(frames[0].rotation)
    return facts._replace(rotation_degrees=-counter_clockwise % 360, image=_image(frames[0], counter_clockwise))


def _image(frame: VideoFrame, counter_clockwise: int) -> Image.Image | None:
    """Return a frame in RGB; `None` if FFmpeg cannot convert its colours, which does not make the video a bad one."""
    try:
        image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
        return image.rotate(counter_clockwise, expand=True) if counter_clockwise else image
    except Exception:
        return None
