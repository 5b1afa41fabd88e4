"""Walk the top-level boxes of an MP4 or MOV: is one cut off, does something follow the last, may one be added?

An ISO base media file (ISO/IEC 14496-12) is a row of boxes, each with its own size, and the last one ends where the
file ends. So a cut is detected without knowing the file's length. One cut cannot be detected this way: a *fragmented*
file that ends exactly between two of its fragments is a valid, shorter file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["MAX_INDEX_BYTES", "Boxes", "indexed_samples", "walk"]

MAX_INDEX_BYTES = 64 * 1024 * 1024
"""A larger index is not read: it would describe days of video, and has to be held in memory."""

_MAX_BOXES = 100_000
_KNOWN = frozenset(
    b"ftyp styp moov moof mfra mdat free skip wide udta uuid meta sidx ssix prft pdin emsg pnot junk PICT".split()
)
"""The format's top-level boxes."""
_ONCE = frozenset((b"ftyp", b"moov"))
_FOLDERS = frozenset(b"moov trak mdia minf stbl moof traf".split())
_TABLES = {b"stsz": (16, 0), b"stz2": (16, 0), b"stts": (12, 8), b"ctts": (12, 8), b"trun": (12, 0)}
"""The offset of a table's sample count, header included; and the length of an entry where it holds runs."""


@dataclass
class Boxes:
    """What is at the top level of a file."""

    kinds: set[bytes] = field(default_factory=set)
    indexes: list[tuple[int, int]] = field(default_factory=list)
    """The offset and the length of each `moov` and `moof` box."""
    cut: str | None = None
    """A sentence, if the file announces more than it has."""
    extra_bytes: int = 0
    """How much follows the last valid box."""
    open_ended: bool = False
    """Whether the last box extends to the file's end, wherever that is."""
    all_seen: bool = True

    @property
    def foreign(self) -> list[str]:
        """The names of boxes that the format does not have at the top level."""
        return sorted(kind.decode("latin-1") for kind in self.kinds - _KNOWN)

    @property
    def takes_another(self) -> bool:
        """Whether a box can be appended without making anything in the file wrong.

        Not where an index of fragments is found from the end, nor where there are `uuid` boxes: one may hold a
        signature of all the others (C2PA), or XMP already.
        """
        whole = self.cut is None and self.all_seen and not self.open_ended and not self.extra_bytes
        return whole and self.kinds.isdisjoint((b"moof", b"uuid"))


def walk(file: BinaryIO, size_bytes: int) -> Boxes:
    """Step through the top-level boxes; reads a few bytes of each."""
    boxes, at, awaits_data, seen = Boxes(), 0, False, 0
    while at < size_bytes:
        seen += 1
        if seen > _MAX_BOXES:
            boxes.all_seen = False
            break
        kind, size, header = _header(file, at)
        left = size_bytes - at
        if not _is_name(kind) or (kind in _ONCE and kind in boxes.kinds) or 0 < size < header:
            boxes.extra_bytes = left
            break
        if size == 0 and kind == b"mdat":
            boxes.open_ended, size = True, left
        if size > left or size == 0:
            if kind in _KNOWN and size:
                boxes.cut = f"its {kind.decode()} box lacks {size - left:,} bytes"
            boxes.extra_bytes = 0 if boxes.cut else left
            break
        boxes.kinds.add(kind)
        if kind in (b"moov", b"moof"):
            boxes.indexes.append((at, size))
        awaits_data = kind == b"moof" or (awaits_data and kind != b"mdat")
        at += size
    missing = [kind.decode() for kind in (b"moov", b"mdat") if kind not in boxes.kinds]
    if boxes.cut is None and boxes.all_seen and (missing or awaits_data):
        boxes.cut = f"it has no {' and no '.join(missing) or 'data for its last fragment'}"
    return boxes


def indexed_samples(file: BinaryIO, boxes: Boxes) -> int:
    """Return the largest sample count of any table in the indexes; it is untrusted, and may be any number."""
    most = 0
    for at, size in boxes.indexes:
        file.seek(at)
        most = max([most, *_counts(file.read(min(size, MAX_INDEX_BYTES)))])
    return most


def _counts(data: bytes) -> Iterator[int]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        box = data[at : at + size] if size >= 8 else b""
        if not box:
            return
        if kind in _FOLDERS:
            yield from _counts(box[8:])
        elif kind in _TABLES and len(box) >= sum(_TABLES[kind][:1]) + 4:
            where, entry = _TABLES[kind]
            (count,) = struct.unpack_from(">I", box, where)
            runs = box[where + 4 : where + 4 + count * entry]
            yield sum(run for run, _ in struct.iter_unpack(">II", runs[: len(runs) & ~7])) if entry else count
        at += size


def _header(file: BinaryIO, at: int) -> tuple[bytes, int, int]:
    """Return a box's name, its size, and its header's size; an empty name if there is no header."""
    file.seek(at)
    header = file.read(16)
    if len(header) < 8:
        return b"", 0, 8
    size, kind = struct.unpack_from(">I4s", header)
    if size != 1:
        return kind, size, 8
    return (kind, int.from_bytes(header[8:], "big"), 16) if len(header) == 16 else (b"", 0, 16)


def _is_name(kind: bytes) -> bool:
    return len(kind) == 4 and all(32 <= byte < 127 or byte == 0xA9 for byte in kind)
