"""Walk the top-level boxes of an MP4 or MOV while it streams by, at constant memory.

An ISO base media file (ISO/IEC 14496-12) is a row of boxes, each with its own size, and the last one ends where the
file ends. So a file that was cut off, or that has something glued to it, is told from a whole one without knowing its
length, which is what an HTTP body without `Content-Length` needs. The index, `moov`, is kept; the pictures are not.

One cut cannot be seen this way: a *fragmented* file whose stream ends exactly between two of its fragments is a whole,
shorter file by its own account.
"""

from __future__ import annotations

from runcomfy.errors import UnexpectedContent

__all__ = ["MAX_MOOV_BYTES", "BoxWalker"]

MAX_MOOV_BYTES = 64 * 1024 * 1024
"""A larger index is refused: it would describe days of video, and it has to be held in memory."""

_MAX_HEADERS = 1024

_KNOWN = frozenset(
    b"ftyp styp moov moof mfra mdat free skip wide udta uuid meta sidx ssix prft pdin emsg pnot junk PICT".split()
)
"""What may stand at the top. Others are refused: of bytes glued to a file's end, an 8-byte header is easily right by
chance or on purpose, and no writer of videos puts anything else there."""

_ONCE = frozenset((b"ftyp", b"moov"))


class BoxWalker:
    """Follows one file through `feed` (any split into chunks gives the same verdict) and judges it in `finish`.

    Raises:
        UnexpectedContent: From `feed` as soon as the bytes cannot be a whole file any more, from `finish` if they end
            too early. The instance is of no use after that.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        """How many bytes went by."""
        self.moov_offset = 0
        """Where the `moov` box starts, header included."""
        self.headers: list[tuple[int, bytes]] = []
        """Where the boxes start, and their headers, as far as anybody wants to step through them."""
        self.fragmented = False
        """Whether there are movie fragments; the index then describes only a part of the file, or nothing."""
        self._moov = bytearray()
        self._header = bytearray()
        self._box_start = 0
        self._kind = b""
        self._left: int | None = 0
        self._seen: set[bytes] = set()
        self._awaits_data = False

    @property
    def moov(self) -> bytes:
        """The `moov` box as it was read, header included."""
        return bytes(self._moov)

    @property
    def takes_another(self) -> bool:
        """Whether a box can be put behind the last one of this whole file, and nothing in it becomes untrue.

        Not so where the last box goes on to the file's end, where an index of fragments is found from there, or where
        there are `uuid` boxes: one may hold a signature of all the others (C2PA), or the same facts already (XMP).
        """
        return self._left == 0 and not self.fragmented and b"uuid" not in self._seen

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        view = memoryview(chunk)
        while view:
            taken = self._skip_body(view) if self._left != 0 else self._read_header(view)
            self.size_bytes += taken
            view = view[taken:]

    def finish(self) -> None:
        """Judge the file as a whole, now that it has ended."""
        if self._header:
            raise UnexpectedContent(
                f"The MP4 ends after {self.size_bytes} bytes, in the middle of a box header: it was cut off, "
                "or something was added to it. Archive it again."
            )
        if self._left:
            raise UnexpectedContent(
                f"The MP4 was cut off: its {_show(self._kind)} box lacks {self._left} bytes. Archive it again."
            )
        missing = [_show(kind) for kind in (b"moov", b"mdat") if kind not in self._seen]
        if missing or self._awaits_data:
            raise UnexpectedContent(
                f"The MP4 has no {' and no '.join(missing) or 'data for its last fragment'}: it is not a whole video. "
                "Archive it again."
            )

    def _skip_body(self, view: memoryview) -> int:
        taken = len(view) if self._left is None else min(self._left, len(view))
        if self._kind == b"moov":
            self._moov += view[:taken]
        if self._left is not None:
            self._left -= taken
        return taken

    def _read_header(self, view: memoryview) -> int:
        if not self._header:
            self._box_start = self.size_bytes
        wanted = 16 if self._header[:4] == b"\0\0\0\1" else 8
        taken = min(wanted - len(self._header), len(view))
        self._header += view[:taken]
        if len(self._header) == wanted and (wanted == 16 or self._header[:4] != b"\0\0\0\1"):
            self._open_box(bytes(self._header))
            self._header.clear()
        return taken

    def _open_box(self, header: bytes) -> None:
        kind = header[4:8]
        size = int.from_bytes(header[8:] or header[:4], "big")
        open_ended = size == 0 and len(header) == 8
        at = self._box_start
        if kind not in _KNOWN or (kind in _ONCE and kind in self._seen):
            raise UnexpectedContent(
                f"The MP4 has an unexpected {_show(kind)} box at byte {at}: it is damaged, or something follows it."
            )
        if not open_ended and size < len(header):
            raise UnexpectedContent(f"The MP4 is damaged: its {_show(kind)} box at byte {at} says it has {size} bytes.")
        if open_ended and kind != b"mdat":
            raise UnexpectedContent(f"The MP4 is damaged: its {_show(kind)} box at byte {at} has no size.")
        if kind == b"moov":
            if size > MAX_MOOV_BYTES:
                raise UnexpectedContent(
                    f"The MP4 has an index of {size} bytes; no more than {MAX_MOOV_BYTES} are read."
                )
            self._moov += header
            self.moov_offset = at
        if len(self.headers) < _MAX_HEADERS:
            self.headers.append((at, header))
        self._seen.add(kind)
        self._kind = kind
        self._left = None if open_ended else size - len(header)
        if kind == b"moof":
            self.fragmented = self._awaits_data = True
        elif kind == b"mdat":
            self._awaits_data = False


def _show(kind: bytes) -> str:
    return "".join(chr(byte) if 32 < byte < 127 else "?" for byte in kind)
