"""The chunks of a PNG that its pixels are made of, and whether all of those are there."""

from __future__ import annotations

import struct
import zlib

from runcomfy.media.tiff import Damaged, TooManyParts, orientation_in

__all__ = ["MAX_CHUNKS", "PNG", "png_parts"]

PNG = b"\x89PNG\r\n\x1a\n"
"""How each begins."""
MAX_CHUNKS = 200_000
"""Of a PNG: its pixels may be in chunks of any size, often 8 KiB. Also how many blocks may precede a GIF's pixels."""
_MAX_EXIF_BYTES = 0xFFFF
"""As much as a JPEG may have."""
_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a PNG's pixel, by its colour type (PNG, 11.2.1)."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass of an interlaced PNG, and the steps to the next."""
_MOST_PNG_BYTES = 700_000_000
"""Of pixels that are counted: those of the largest image that is taken, 16 bits each."""
_PACKED_AT_ONCE, _UNPACKED_AT_ONCE = 64 * 1024, 1_000_000
"""Of what is not unpacked yet, each step makes a copy."""


def png_parts(data: bytes) -> tuple[bytes, int]:
    """Return the chunks that the pixels of a PNG are made of, and its EXIF orientation.

    Raises:
        Damaged: It is cut, a checksum over its pixels is wrong, or there are too few of them.
        TooManyParts: It has more chunks than any real image.
        struct.error: It ends within a chunk's head.
    """
    view, at, kept, orientation = memoryview(data), len(PNG), [memoryview(PNG)], 1
    for _ in range(MAX_CHUNKS):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise Damaged("it ends too early")
        if name in _PNG_PIXELS or name == b"eXIf":
            whole = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
            if name == b"eXIf" and whole:
                orientation = orientation_in(data[at + 8 : end - 4])
            if whole and (name != b"eXIf" or length <= _MAX_EXIF_BYTES):
                kept.append(view[at:end])
            elif name[:1].isupper():  # a critical one; without any other the pixels are the same
                raise Damaged("a checksum over its pixels is wrong")
        if name == b"IEND":
            _check_pixels(kept)
            return b"".join(kept), orientation
        at = end
    raise TooManyParts("chunks")


def _check_pixels(chunks: list[memoryview]) -> None:
    """Count the bytes of a PNG's pixels: a decoder may take what is missing for black."""
    head = next((bytes(chunk[8:21]) for chunk in chunks if bytes(chunk[4:8]) == b"IHDR"), b"")
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    bits = depth * _CHANNELS.get(colours, 0)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes)
    missing = sum((1 + -(-columns * bits // 8)) * rows for columns, rows in sizes if columns > 0 and rows > 0)
    if not bits or missing > _MOST_PNG_BYTES:
        return  # refused for what it is
    unpacking = zlib.decompressobj()
    for chunk in chunks:
        packed = chunk[8:-4] if bytes(chunk[4:8]) == b"IDAT" else b""
        for at in range(0, len(packed), _PACKED_AT_ONCE):
            rest = bytes(packed[at : at + _PACKED_AT_ONCE])
            while rest and missing > 0:
                try:
                    missing -= len(unpacking.decompress(rest, _UNPACKED_AT_ONCE))
                except zlib.error:
                    return  # the decoder says so
                rest = unpacking.unconsumed_tail
    if missing > 0 and unpacking.eof:
        raise Damaged("its pixels end too early")
