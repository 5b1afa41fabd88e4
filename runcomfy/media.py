"""Tell by content what a file is, and whether it is whole, while it streams by at constant memory.

A server's word on what it sends (the status 200, `Content-Type`, the name in the URL) is not asked: error pages come
with all three. What counts is the bytes.
"""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import InvalidInput, UnexpectedContent
from runcomfy.images import inspect_image
from runcomfy.mp4 import BoxWalker
from runcomfy.probing import SparseFile, probe_video

__all__ = ["HEAD_BYTES", "MAX_PICTURE_BYTES", "MediaChecker", "MediaFacts", "MediaKind", "describe", "sniff"]

HEAD_BYTES = 8 * 1024 * 1024
"""How much of a file's start is kept: all of a usual result, and the first pictures of any."""

MAX_PICTURE_BYTES = 50_000_000
"""A still picture is decoded whole, so it is held in memory, so it has a limit."""


class MediaKind(NamedTuple):
    """A container: our name for it, the file extension without a dot, and the media type to store it under."""

    container: str
    extension: str
    content_type: str


class MediaFacts(BaseModel):
    """What is in a video or image file, as read from the file itself; `null` is what the file does not tell."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # the journal keeps it, and versions differ

    container: str = Field(description="Container format: mp4, mov, webm, matroska, png, jpeg, webp or gif.")
    codec: str | None = Field(default=None, description="FFmpeg's name of the video codec, such as h264.")
    width: int | None = Field(default=None, description="Width of the picture in pixels.")
    height: int | None = Field(default=None, description="Height of the picture in pixels.")
    frames: int | None = Field(default=None, description="Number of frames.")
    frames_per_second: float | None = Field(default=None, description="Average frame rate in frames per second.")
    duration_seconds: float | None = Field(default=None, description="Duration in seconds.")


_MP4 = MediaKind("mp4", "mp4", "video/mp4")
_MOV = MediaKind("mov", "mov", "video/quicktime")
_WEBM = MediaKind("webm", "webm", "video/webm")
_MATROSKA = MediaKind("matroska", "mkv", "video/x-matroska")
_PNG = MediaKind("png", "png", "image/png")
_JPEG = MediaKind("jpeg", "jpg", "image/jpeg")
_WEBP = MediaKind("webp", "webp", "image/webp")
_GIF = MediaKind("gif", "gif", "image/gif")


def sniff(head: bytes) -> MediaKind | None:
    """Tell the container from the first bytes of a file (64 are enough), or return `None`."""
    if head[4:8] == b"ftyp":
        return _MOV if head[8:12] == b"qt  " else _MP4
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _MOV
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _WEBM if b"webm" in head[:64] else _MATROSKA
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _PNG
    if head.startswith(b"\xff\xd8\xff"):
        return _JPEG
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _WEBP
    return _GIF if head[:6] in (b"GIF87a", b"GIF89a") else None


def describe(head: bytes) -> str:
    """Say for a person what these bytes, which are no picture and no video, seem to be."""
    start = head[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "nothing at all"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if start.startswith((b"{", b"[")):
        return "a JSON document"
    return "an XML document" if start.startswith(b"<") else "bytes of an unknown kind"


class MediaChecker:
    """Follows one file through `feed`, in chunks of any size, and tells in `finish` what is in it.

    Raises:
        UnexpectedContent: From either, as soon as the bytes cannot be a whole file of this kind.
    """

    def __init__(self, kind: MediaKind, *, length_known: bool) -> None:
        """Start at the file's first byte. `length_known` says that somebody else makes sure that no byte is missing."""
        self._kind = kind
        self._length_known = length_known
        self._boxes = BoxWalker() if kind in (_MP4, _MOV) else None
        self._keep = MAX_PICTURE_BYTES if kind.content_type.startswith("image/") else HEAD_BYTES
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self.size_bytes = 0
        self.picture: Image.Image | None = None
        """The first picture, once the file was judged and if it could be decoded."""

    @property
    def takes_another_box(self) -> bool:
        """Whether this whole file is an MP4 to which a box can be added."""
        return self._boxes is not None and self._kind is _MP4 and self._boxes.takes_another

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        self.size_bytes += len(chunk)
        if self._kept_bytes < self._keep:
            piece = chunk[: self._keep - self._kept_bytes]
            self._kept.append(piece)
            self._kept_bytes += len(piece)
        if self._boxes is not None:
            self._boxes.feed(chunk)
        elif self._kind.content_type.startswith("image/") and self.size_bytes > self._keep:
            raise UnexpectedContent(f"The picture has more than {self._keep} bytes, which is more than can be checked.")

    def finish(self) -> MediaFacts:
        """Judge the whole file, now that it has ended, and return what is in it."""
        head = b"".join(self._kept)
        if self._boxes is not None:
            return self._finish_mp4(self._boxes, head)
        if self._kind in (_WEBM, _MATROSKA):
            return self._finish_matroska(head)
        try:
            image = inspect_image(head)
        except InvalidInput as trouble:
            raise UnexpectedContent(f"The picture is damaged: {trouble.message}") from None
        self.picture = Image.open(io.BytesIO(head))
        return MediaFacts(container=self._kind.container, width=image.width, height=image.height)

    def _finish_mp4(self, boxes: BoxWalker, head: bytes) -> MediaFacts:
        boxes.finish()
        indexed = not boxes.fragmented
        pieces = [(0, head), (boxes.moov_offset, boxes.moov), *boxes.headers]
        video, self.picture = probe_video(
            SparseFile(pieces, self.size_bytes if indexed else len(head)),
            file_format="mp4",
            size_bytes=self.size_bytes,
            kept_bytes=len(head),
            indexed=indexed,
        )
        return MediaFacts(container=self._kind.container, **video._asdict())

    def _finish_matroska(self, head: bytes) -> MediaFacts:
        expected = _matroska_size(head)
        if expected is None and not self._length_known:
            raise UnexpectedContent(
                "Neither the WebM file nor the server says how long it is: a cut could not be noticed."
            )
        if expected is not None and expected != self.size_bytes:
            raise UnexpectedContent(
                f"The WebM file should have {expected} bytes and has {self.size_bytes}. Archive it again."
            )
        video, self.picture = probe_video(
            SparseFile([(0, head)], len(head)),
            file_format="matroska",
            size_bytes=self.size_bytes,
            kept_bytes=len(head),
            indexed=False,
        )
        return MediaFacts(container=self._kind.container, **video._asdict())


def _matroska_size(head: bytes) -> int | None:
    """Return the size of the whole file by its own account: two EBML elements, a header and one segment."""
    at = 0
    for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        first = head[at + 4] if len(head) > at + 4 else 0
        if head[at : at + 4] != identifier or not first:
            raise UnexpectedContent("The WebM file is damaged: it has no segment.")
        length = 9 - first.bit_length()
        value = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
        if value == (1 << 7 * length) - 1:
            return None
        at += 4 + length + value
    return at
