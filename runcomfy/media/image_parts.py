"""The parts of an image file that its pixels are made of, found with bounded time and memory.

Everything beside the pixels (texts, colour profiles, EXIF, thumbnails) is left out of what a decoder is given: none of
it makes an image worse, and decoders spend gigabytes and minutes on what is made to hurt them, or refuse what is good.
Measured with Pillow 13: 10 MB of empty JPEG segments take 23 s and 700 MB, EXIF entries that overlap any amount.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from runcomfy.media.png_parts import MAX_CHUNKS, PNG, png_parts
from runcomfy.media.tiff import Damaged, RareKind, TooManyParts, check_tiff, orientation_in

__all__ = ["ImageParts", "image_format", "image_parts"]

_MAX_PARTS = 10_000
"""Of a JPEG or WebP; one of 50 MB has some hundreds."""
_MAX_SCANS = 100
"""Of a progressive JPEG, which has about ten; each is a walk over all pixels: 0.07 s for 80 million of one colour."""
_MAX_RUN_LENGTH_BYTES = 5_000_000
"""Of a BMP with run-length encoding, which Pillow decodes in Python: about a second for a megabyte."""

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"), (PNG, "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"BM", "BMP"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
)  # fmt: skip
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Their sizes in bytes: https://en.wikipedia.org/wiki/BMP_file_format#DIB_header_(bitmap_information_header)."""
_RARE_FRAMES = {0xC3: "lossless", **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
                0xCB: "lossless", 0xF7: "a JPEG-LS"}  # fmt: skip
"""By the marker of a JPEG's frame header (ITU-T T.81, table B.1; T.87)."""
_JPEG_BITS = 8
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_IMAGE_FILE_FORMAT = frozenset({b"mif1", b"mif2", b"msf1"})
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class ImageParts(NamedTuple):
    """What a decoder is given, and how to turn what it makes: EXIF's 1 to 8, and 1 is not at all."""

    pixels: bytes
    orientation: int = 1


def image_format(data: bytes) -> str | None:
    """Return Pillow's name of the format that the bytes begin like, `HEIF` for HEIC; `None` for any other file."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        size = min(max(int.from_bytes(data[:4], "big"), 16), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
        if data[8:12] in _AVIF or (data[8:12] in _IMAGE_FILE_FORMAT and brands & _AVIF):
            return "AVIF"
        return "HEIF" if data[8:12] in _HEIC | _IMAGE_FILE_FORMAT else None
    found = next((name for start, name in _STARTS if data.startswith(start)), None)
    if found == "BMP" and int.from_bytes(data[14:18], "little") not in _BMP_HEADERS:
        return None  # a text may begin with BM as well
    return found


def image_parts(data: bytes, name: str) -> ImageParts:
    """Return what a decoder needs of an image of this format, in at most two seconds for 50 MB.

    Raises:
        Damaged: The file is cut, or a checksum over its pixels is wrong.
        TooManyParts: It has more parts than any real image.
        RawPhoto: It is a TIFF, and what a camera saw.
        RareKind: It is whole, and of a kind that is not decoded here.
    """
    try:
        return _READERS[name](data) if name in _READERS else ImageParts(data)
    except (struct.error, IndexError):
        raise Damaged("its structure ends too early") from None


def _jpeg(data: bytes) -> ImageParts:
    view, at, kept, orientation, scans, seen = memoryview(data), 2, [memoryview(data)[:2]], 1, 0, frozenset[bytes]()
    for _ in range(_MAX_PARTS):
        at = data.find(b"\xff", at)
        while at >= 0 and data[at + 1 : at + 2] == b"\xff":
            at += 1
        marker = data[at + 1] if 0 <= at < len(data) - 1 else 0xD9
        if marker == 0xD9:  # the end; whether the pixels are all there is for the decoder to say
            kept.append(view[at : at + 2] if at >= 0 else view[:0])
            return ImageParts(b"".join(kept), orientation)
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        end = at + 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
        if marker in _RARE_FRAMES:
            raise RareKind(_RARE_FRAMES[marker])
        if marker in _FRAMES and data[at + 4] != _JPEG_BITS:
            raise RareKind(f"one of {data[at + 4]} bits")
        if marker == 0xDA:
            scans += 1
            after = _AFTER_SCAN.search(data, end)
            end = after.start() if after else len(data)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = orientation_in(data[at + 10 : end]) if orientation == 1 else orientation
        elif not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            kept.append(view[at:end])
        elif (start := data[at + 4 : at + 9]) in (
            b"JFIF\0",
            b"Adobe",
        ) and start not in seen:  # say how colours are kept
            seen |= {start}
            kept.append(view[at:end])
        if scans > _MAX_SCANS:
            raise TooManyParts("scans")
        at = end
    raise TooManyParts("segments")


def _webp(data: bytes) -> ImageParts:
    at, orientation = 12, 1
    for _ in range(_MAX_PARTS):
        if at + 8 > len(data):
            return ImageParts(data, orientation)
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            orientation = orientation_in(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    raise TooManyParts("chunks")


def _gif(data: bytes) -> ImageParts:
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    for _ in range(_MAX_PARTS):
        if data[at] != 0x21:  # pixels, the end, or damage, as the decoder will find
            return ImageParts(data)
        at += 2
        for _ in range(MAX_CHUNKS):
            size = data[at]
            at += 1 + size
            if not size:
                break
        else:
            raise TooManyParts("blocks")
    raise TooManyParts("blocks")


def _tiff(data: bytes) -> ImageParts:
    check_tiff(data)
    return ImageParts(data, orientation_in(data))


def _bmp(data: bytes) -> ImageParts:
    size, compression = struct.unpack_from("<I", data, 14)[0], struct.unpack_from("<I", data, 30)[0]
    if size >= 40 and compression in (4, 5):
        raise RareKind("a JPEG or PNG in a bitmap's frame")
    if size >= 40 and compression in (1, 2) and len(data) > _MAX_RUN_LENGTH_BYTES:
        raise TooManyParts("runs")
    return ImageParts(data)


def _avif(data: bytes) -> ImageParts:
    """Rename its EXIF: how it is turned is said by other boxes (MIAF, 7.3.9), and Pillow reads all that is in it."""
    at = 0
    for _ in range(_MAX_PARTS):
        if at + 8 > len(data):
            break
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"meta":
            end = at + size
            return ImageParts(b"".join((data[:at], data[at:end].replace(b"Exif", b"free"), data[end:])))
        at += size if size >= 8 else len(data)
    return ImageParts(data)


_READERS = {
    "AVIF": _avif, "BMP": _bmp, "GIF": _gif, "JPEG": _jpeg, "PNG": lambda data: ImageParts(*png_parts(data)),
    "TIFF": _tiff, "WEBP": _webp,
}  # fmt: skip
