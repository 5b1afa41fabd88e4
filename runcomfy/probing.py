"""Ask FFmpeg what a video is, from the parts of it that were kept while it streamed by.

FFmpeg reads a file's index and the first picture; the rest, which may be gigabytes, it only steps over. So it is shown
a file of the full length in which what was not kept reads as zeros. The bytes come from a stranger: the format is
named, not guessed, so that no playlist or reference in them is followed, and nothing of FFmpeg's log reaches stderr.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from runcomfy.errors import UnexpectedContent

__all__ = ["SparseFile", "VideoFacts", "probe_video"]

_MAX_DECODED_PIXELS = 2**26
_MAX_PACKETS_FOR_A_PICTURE = 64


class VideoFacts(NamedTuple):
    """What FFmpeg says of the first video stream; `None` is what the file does not tell."""

    codec: str
    width: int
    height: int
    frames: int | None
    frames_per_second: float | None
    duration_seconds: float | None


class SparseFile(io.RawIOBase):
    """A read-only file of `size_bytes` made of pieces `(offset, bytes)`; earlier pieces win, gaps read as zeros."""

    def __init__(self, pieces: Sequence[tuple[int, bytes]], size_bytes: int) -> None:
        super().__init__()
        self._pieces = [(offset, memoryview(piece)) for offset, piece in pieces]
        self._size = size_bytes
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position and return it; before the start is the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, fewer at the end of a piece or a gap."""
        left = max(0, self._size - self._position)
        wanted = left if size < 0 else min(size, left)
        data = self._read_piece(wanted) if wanted else b""
        self._position += len(data)
        return data

    def _read_piece(self, wanted: int) -> bytes:
        gap = wanted
        for offset, piece in self._pieces:
            start = self._position - offset
            if 0 <= start < len(piece):
                return bytes(piece[start : start + gap])  # up to an earlier one
            if start < 0:
                gap = min(gap, -start)
        return bytes(gap)


def probe_video(
    file: SparseFile, *, file_format: str, size_bytes: int, kept_bytes: int, indexed: bool
) -> tuple[VideoFacts, Image.Image | None]:
    """Return a video's facts, and its first picture if that lies in what was kept.

    Args:
        file: What was kept of the video.
        file_format: FFmpeg's name of the container: `mp4` or `matroska`.
        size_bytes: The size of the whole video.
        kept_bytes: How much of its start was kept without a gap.
        indexed: Whether one index describes all of it (an MP4 that is not fragmented), so that counts can be believed
            though only a part was kept.

    Raises:
        UnexpectedContent: FFmpeg cannot read it, it has no pictures, its index points behind its end, or the first
            picture does not decode.
    """
    whole = kept_bytes >= size_bytes
    try:
        with av.open(file, "r", format=file_format) as container:
            if not container.streams.video:
                raise UnexpectedContent("The file has no video in it, only sound or nothing at all.")
            stream = container.streams.video[0]
            context = getattr(stream, "codec_context", None)  # PyAV's types do not know that it can be missing
            if context is None:
                raise UnexpectedContent("The video is in a codec that FFmpeg does not know, or it is damaged.")
            if indexed:
                ends = [
                    entry.pos + entry.size for any_stream in container.streams for entry in any_stream.index_entries
                ]
                if max(ends, default=0) > size_bytes:
                    raise UnexpectedContent("The video was cut off: its index points behind its end. Archive it again.")
            duration: float | None = None
            if whole or indexed or file_format == "matroska":
                if stream.duration is not None and stream.time_base is not None:
                    duration = float(stream.duration * stream.time_base)
                elif container.duration is not None:
                    duration = container.duration / av.time_base
            rate = stream.average_rate
            facts = VideoFacts(
                codec=context.name,
                width=context.width,
                height=context.height,
                frames=stream.frames or None,
                frames_per_second=round(float(rate), 6) if rate else None,
                duration_seconds=round(duration, 6) if duration else None,
            )
            if not (facts.width and facts.height):
                raise UnexpectedContent("The video does not tell the size of its pictures: it is damaged.")
            counted, picture = _decode_first_picture(stream, container.demux(stream), kept_bytes)
            if whole and facts.frames is None:
                facts = facts._replace(frames=counted + sum(bool(packet.size) for packet in container.demux(stream)))
            return facts, _image(picture) if picture else None
    except (av.FFmpegError, ArithmeticError, LookupError, ValueError) as trouble:
        raise UnexpectedContent(f"FFmpeg cannot read the video: {type(trouble).__name__}. It is damaged.") from None


def _image(picture: VideoFrame) -> Image.Image | None:
    """Return a picture in RGB, `None` where FFmpeg cannot convert its colours: that makes no video a bad one."""
    try:
        image: Image.Image = picture.to_image()  # type: ignore[no-untyped-call]
    except Exception:
        return None
    return image


def _decode_first_picture(
    stream: VideoStream, packets: Iterator[Packet[VideoStream]], kept_bytes: int
) -> tuple[int, VideoFrame | None]:
    """Return how many packets were taken (a decoder may want several before it gives a picture), and the picture."""
    context = stream.codec_context
    context.thread_count = 1
    if context.width * context.height > _MAX_DECODED_PIXELS:
        return 0, None
    taken = 0
    for packet in packets:
        if packet.size and (packet.pos is None or packet.pos + packet.size > kept_bytes):
            if not taken:
                return 0, None
            break
        taken += 1 if packet.size else 0
        pictures = context.decode(packet if packet.size else None)
        if pictures:
            break
        if not packet.size or taken == _MAX_PACKETS_FOR_A_PICTURE:
            pictures = []
            break
    else:
        pictures = []
    if not taken:
        raise UnexpectedContent("The video has no pictures in it.")
    if pictures and not pictures[0].is_corrupt:
        return taken, pictures[0]
    raise UnexpectedContent("The first picture of the video does not decode: it is damaged. Archive it again.")
