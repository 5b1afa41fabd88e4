"""The first directory of a TIFF, which is also what EXIF data is: its orientation, and what would hurt a decoder."""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import PIL

__all__ = ["Damaged", "RareKind", "RawPhoto", "TooManyParts", "check_tiff", "orientation_in", "silence_libtiff"]

_MAX_TAGS = 1_000
_MAX_STRIPS = 400_000
"""Of a TIFF: a tile of 16 by 16 pixels each would be 312,500 for the most pixels that an image may have."""
_ORIENTATION, _STRIP_OFFSETS, _TILE_OFFSETS = 0x0112, 0x0111, 0x0144
_SUBFILE_TYPE, _SUB_IMAGES, _DNG_VERSION = 0x00FE, 0x014A, 0xC612
_COMPRESSION = 0x0103
_RARE = {
    34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG of cameras", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"
}  # fmt: skip
"""Compressions that Pillow's libtiff does not undo (https://www.awaresystems.be/imaging/tiff/tifftags/compression.html)."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value, by TIFF's number of its type (TIFF 6.0, page 15, and BigTIFF)."""


class Damaged(ValueError):
    """The structure of the file is not what its format wants; the text says where."""


class TooManyParts(ValueError):
    """The file has more parts than any real one; the text says of what."""


class RawPhoto(ValueError):
    """The file is what a camera's sensor saw, with a small preview as its first image."""


class RareKind(ValueError):
    """The file is whole, and of a kind that hardly any program reads; the text says which."""


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
        RareKind: Its pixels are compressed in a way that is not undone here.
    """
    if data[8:10] == b"CR":
        raise RawPhoto
    stored, tags, preview, compression = 0, set[int](), False, 0
    for entry in _entries(data):
        tags.add(entry.tag)
        preview |= entry.tag == _SUBFILE_TYPE and bool(struct.unpack_from(_order(data) + "I", entry.value)[0] & 1)
        if entry.tag == _COMPRESSION:
            (compression,) = struct.unpack_from(_order(data) + "H", entry.value)
        stored += _SIZES.get(entry.kind, 1) * entry.values
        if stored > len(data):
            raise Damaged("its entries overlap")
        if entry.values > _MAX_STRIPS and entry.tag in (_STRIP_OFFSETS, _TILE_OFFSETS):
            raise TooManyParts("strips")
    if _DNG_VERSION in tags or (preview and _SUB_IMAGES in tags):
        raise RawPhoto
    if compression in _RARE:
        raise RareKind(f"compressed as {_RARE[compression]}")


@functools.cache
def silence_libtiff() -> None:
    """Keep what libtiff says of a damaged file off this process's stderr, where the library in Pillow's wheel is found.

    It writes there by itself (https://libtiff.gitlab.io/libtiff/functions/TIFFError.html), and Pillow has no setting
    for that; what is wrong is raised all the same.
    """
    package = Path(PIL.__file__).parent
    for file in (*(package.parent / "pillow.libs").glob("libtiff*.so*"), *(package / ".dylibs").glob("libtiff*")):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(str(file)).TIFFSetErrorHandler(None)


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
