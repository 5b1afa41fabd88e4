"""Where the mark goes in an image or a sound: around the media data, which is copied as it is.

The places are those of the XMP Specification, part 3: an `iTXt` chunk in PNG, an `APP1` segment in JPEG, an `XMP `
chunk in WebP, `_PMX` in WAV, a `PRIV` frame in MP3's ID3 tag. FLAC has no place for XMP: there it is a Vorbis comment.
Nothing is encoded again. A file with a signature (C2PA) or XMP of its own, and one that is not built as expected, has
no place. Other kinds (Ogg, AVIF, GIF, M4A) have theirs within the media data or an index of it, and are left alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

__all__ = ["MARKED_AT_MOST_BYTES", "Piece", "bytes_of", "with_mark"]

MARKED_AT_MOST_BYTES = 256 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_MOST_PARTS = 100_000
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_XMP_IN_JPEG, _XMP_IN_PNG = b"http://ns.adobe.com/xap/1.0/\0", b"XML:com.adobe.xmp\0"
_SIGNED: Final = (b"c2pa", b"C2PA", b"jumb")

Piece = bytes | tuple[int, int]
"""New bytes, or a part of the file: where it starts and ends."""


class _NoPlace(Exception):
    pass


def with_mark(file: BinaryIO, size_bytes: int, container: str, packet: bytes, term: str) -> list[Piece] | None:
    """Return the pieces of the file with the mark; `None` if it has no place in it.

    Args:
        file: A whole file; its position afterwards is undefined.
        size_bytes: Its size.
        container: What it is, as `MediaKind` names it.
        packet: The mark as an XMP packet.
        term: The digital source type alone.
    """
    place = _PLACES.get(container)
    if place is None or not 16 <= size_bytes <= MARKED_AT_MOST_BYTES:
        return None
    try:
        return place(file, size_bytes, packet, term)
    except (_NoPlace, IndexError, ValueError, OverflowError):
        return None


def bytes_of(file: BinaryIO, pieces: list[Piece]) -> Iterator[bytes]:
    """Yield the content of pieces."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        at, end = piece
        while at < end:
            file.seek(at)
            part = file.read(min(_READ_BYTES, end - at))
            if not part:
                raise ValueError("the file is shorter than its size")
            yield part
            at += len(part)


def _at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    found = file.read(count)
    if len(found) < count:
        raise _NoPlace
    return found


def _png(file: BinaryIO, size: int, packet: bytes, term: str) -> list[Piece]:
    if _at(file, 0, 16) != _PNG + b"\0\0\0\rIHDR":
        raise _NoPlace
    at, kind = 8, b""
    for _ in range(_MOST_PARTS):
        head = _at(file, at, 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"caBX" or (kind == b"iTXt" and _at(file, at + 8, min(length, 18)) == _XMP_IN_PNG):
            raise _NoPlace
        at += 12 + length
        if kind == b"IEND" or at >= size:
            break
    if kind != b"IEND" or at > size:
        raise _NoPlace
    body = b"iTXt" + _XMP_IN_PNG + b"\0\0\0\0" + packet
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return [(0, 33), chunk, (33, size)]


def _jpeg(file: BinaryIO, size: int, packet: bytes, term: str) -> list[Piece]:
    if _at(file, 0, 2) != b"\xff\xd8":
        raise _NoPlace
    at, place, leading = 2, 2, True
    for _ in range(_MOST_PARTS):
        head = _at(file, at, 4)
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if head[0] != 0xFF or length < 2:
            raise _NoPlace
        if marker == 0xDA:
            break
        begins = _at(file, at + 4, min(length - 2, len(_XMP_IN_JPEG)))
        if marker == 0xEB or begins == _XMP_IN_JPEG:  # JUMBF, which C2PA is in; or XMP
            raise _NoPlace
        leading = leading and (marker == 0xE0 or (marker == 0xE1 and begins.startswith(b"Exif")))
        at += 2 + length
        place = at if leading else place
    else:
        raise _NoPlace
    body = _XMP_IN_JPEG + packet
    return [(0, place), b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body, (place, size)]


def _riff_parts(file: BinaryIO, size: int, form: bytes) -> list[tuple[bytes, int, int]]:
    """Return the chunks of a RIFF file: kind, where their data begins, and how long they are."""
    head = _at(file, 0, 12)
    if head[:4] != b"RIFF" or head[8:] != form or 8 + int.from_bytes(head[4:8], "little") != size:
        raise _NoPlace
    parts, at = [], 12
    while at < size:
        chunk = _at(file, at, 8)
        parts.append((chunk[:4], at + 8, int.from_bytes(chunk[4:], "little")))
        at += 8 + parts[-1][2] + (parts[-1][2] & 1)
        if len(parts) > _MOST_PARTS:
            raise _NoPlace
    if at != size or {kind for kind, _, _ in parts} & {b"XMP ", b"_PMX", b"C2PA"}:
        raise _NoPlace
    return parts


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) & 1)


def _riff(form: bytes, size: int, first: bytes, kept: tuple[int, int], last: bytes) -> list[Piece]:
    whole = 4 + len(first) + kept[1] - kept[0] + len(last)
    return [b"RIFF" + whole.to_bytes(4, "little") + form + first, kept, last]


def _webp(file: BinaryIO, size: int, packet: bytes, term: str) -> list[Piece]:
    kind, at, length = _riff_parts(file, size, b"WEBP")[0]
    data, start = _at(file, at, 10), 12
    if kind == b"VP8X" and length == 10:
        extended, start = bytes([data[0] | 0x04]) + data[1:], at + length
    elif kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(data[each : each + 2], "little") & 0x3FFF for each in (6, 8))
        extended = _canvas(width, height, alpha=False)
    elif kind == b"VP8L" and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        extended = _canvas((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, alpha=bool(bits >> 28 & 1))
    else:
        raise _NoPlace
    return _riff(b"WEBP", size, _riff_chunk(b"VP8X", extended), (start, size), _riff_chunk(b"XMP ", packet))


def _canvas(width: int, height: int, *, alpha: bool) -> bytes:
    """Return the data of a `VP8X` chunk: flags, and the size."""
    flags = 0x04 | (0x10 if alpha else 0)
    return bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def _wav(file: BinaryIO, size: int, packet: bytes, term: str) -> list[Piece]:
    _riff_parts(file, size, b"WAVE")
    return _riff(b"WAVE", size, b"", (12, size), _riff_chunk(b"_PMX", packet))


def _mp3(file: BinaryIO, size: int, packet: bytes, term: str) -> list[Piece]:
    owned = b"XMP\0" + packet
    head = _at(file, 0, 10)
    if head[:3] != b"ID3":
        if head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
            raise _NoPlace
        frame = b"PRIV" + _syncsafe(len(owned)) + b"\0\0" + owned
        return [b"ID3\x04\0\0" + _syncsafe(len(frame)) + frame, (0, size)]
    version, flags = head[3], head[5]
    if version not in (3, 4) or flags or any(byte & 0x80 for byte in head[6:]):
        raise _NoPlace
    length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    tag = _at(file, 10, length)
    if b"XMP\0" in tag or any(each in tag for each in _SIGNED):
        raise _NoPlace
    counted = _syncsafe(len(owned)) if version == 4 else len(owned).to_bytes(4, "big")
    frame = b"PRIV" + counted + b"\0\0" + owned
    return [head[:6] + _syncsafe(length + len(frame)) + frame, (10, size)]


def _syncsafe(number: int) -> bytes:
    if number >= 1 << 28:
        raise _NoPlace
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _flac(file: BinaryIO, size: int, packet: bytes, term: str) -> list[Piece]:
    if _at(file, 0, 4) != b"fLaC":
        raise _NoPlace
    comment = f"DIGITALSOURCETYPE={term}".encode()
    counted = len(comment).to_bytes(4, "little") + comment
    at = 4
    blocks: list[tuple[int, int, int]] = []
    while not blocks or not blocks[-1][0] & 0x80:
        head = _at(file, at, 4)
        blocks.append((head[0], at, int.from_bytes(head[1:], "big")))
        at += 4 + blocks[-1][2]
        if head[0] & 0x7F == 2 and _at(file, blocks[-1][1] + 4, 4).lower() == b"c2pa":
            raise _NoPlace
    for first, start, length in blocks:
        if first & 0x7F == 4:
            data = _at(file, start + 4, length)
            count = 4 + int.from_bytes(data[:4], "little")
            if len(data) < count + 4 or b"DIGITALSOURCETYPE=" in data.upper():
                raise _NoPlace
            more = int.from_bytes(data[count : count + 4], "little") + 1
            made = data[:count] + more.to_bytes(4, "little") + counted + data[count + 4 :]
            return [(0, start), bytes([first]) + len(made).to_bytes(3, "big") + made, (start + 4 + length, size)]
    first, start, length = blocks[0]
    end = start + 4 + length
    made = b"\0\0\0\0" + (1).to_bytes(4, "little") + counted
    block = bytes([first & 0x80 | 4]) + len(made).to_bytes(3, "big") + made
    return [(0, start), bytes([first & 0x7F]), (start + 1, end), block, (end, size)]


_PLACES: Final[dict[str, Callable[[BinaryIO, int, bytes, str], list[Piece]]]] = {
    "png": _png, "jpeg": _jpeg, "webp": _webp, "wav": _wav, "mp3": _mp3, "flac": _flac,
}  # fmt: skip
