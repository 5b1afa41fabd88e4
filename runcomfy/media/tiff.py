"""The first directory of a TIFF, which is also what EXIF data is: its orientation, and what would hurt a decoder."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Damaged", "RawPhoto", "TooManyParts", "check_tiff", "orientation_in"]

_MAX_TAGS = 1_000
_MAX_STRIPS = 400_000
"""Of a TIFF: a tile of 16 by 16 pixels each would be 312,500 for the most pixels that an image may have."""
_ORIENTATION, _STRIP_OFFSETS, _TILE_OFFSETS = 0x0112, 0x0111, 0x0144
_SUBFILE_TYPE, _SUB_IMAGES, _DNG_VERSION = 0x00FE, 0x014A, 0xC612
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value, by TIFF's number of its type (TIFF 6.0, page 15, and BigTIFF)."""


class Damaged(ValueError):
    """The structure of the file is not what its format wants; the text says where."""


class TooManyParts(ValueError):
    """The file has more parts than any real one; the text says of what."""


class RawPhoto(ValueError):
    """The file is what a camera's sensor saw, with a small preview as its first image."""


class _Entry(NamedTuple):
    tag: int
    kind: int
    values: int
    value: bytes


def orientation_in(exif: bytes) -> int:
    """Return the orientation that EXIF data names, with or without its `Exif` in front; 1 if it names none."""
    try:
        exif = exif.removeprefix(b"Exif\0\0")
        for entry in _entries(exif):
            if entry.tag == _ORIENTATION and entry.kind == 3 and entry.values:
                (found,) = struct.unpack_from(_order(exif) + "H", entry.value)
                return found if found in range(2, 9) else 1
    except (struct.error, IndexError, ValueError):
        pass  # damaged EXIF data does not stop the pixels from being decoded
    return 1


def check_tiff(data: bytes) -> None:
    """Check that reading all entries of a TIFF, as Pillow does, is bounded by the size of the file.

    Raises:
        Damaged: Its entries are more than the file.
        TooManyParts: It has more entries or strips than any real image.
        RawPhoto: It is what a camera's sensor saw.
    """
    if data[8:10] == b"CR":
        raise RawPhoto
    stored, tags, preview = 0, set[int](), False
    for entry in _entries(data):
        tags.add(entry.tag)
        preview |= entry.tag == _SUBFILE_TYPE and bool(struct.unpack_from(_order(data) + "I", entry.value)[0] & 1)
        stored += _SIZES.get(entry.kind, 1) * entry.values
        if stored > len(data):
            raise Damaged("its entries overlap")
        if entry.values > _MAX_STRIPS and entry.tag in (_STRIP_OFFSETS, _TILE_OFFSETS):
            raise TooManyParts("strips")
    if _DNG_VERSION in tags or (preview and _SUB_IMAGES in tags):
        raise RawPhoto


def _order(tiff: bytes) -> str:
    return "<" if tiff[:2] == b"II" else ">"


def _entries(tiff: bytes) -> Iterator[_Entry]:
    """Yield the entries of the first directory, of a TIFF or a BigTIFF, whose `value` may be its place."""
    order = _order(tiff)
    big = struct.unpack_from(order + "H", tiff, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, at)
    if count > _MAX_TAGS:
        raise TooManyParts("entries")
    size, layout = (20, order + "HHQ8s") if big else (12, order + "HHI4s")
    for number in range(count):
        yield _Entry(*struct.unpack_from(layout, tiff, at + (8 if big else 2) + number * size))
