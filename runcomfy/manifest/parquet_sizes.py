"""How much a Parquet file unpacks to, by its footer and the header of each of its pages, before anything is unpacked.

Read here, and not by pyarrow: what its metadata says need not be true of the pages, and in version 26 a footer whose
statistics do not fit ends the whole process. The format: https://github.com/apache/parquet-format (parquet.thrift),
written in Thrift's compact protocol (https://github.com/apache/thrift, doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["ENCRYPTED", "Chunk", "chunks"]

ENCRYPTED = "it is encrypted"

_MAX_FOOTER_BYTES = 4_000_000
_MAX_PAGES = 200_000
_MAX_DEPTH = 16
_BYTE_ARRAY = 6
_ENCRYPTION, _COLUMN_ENCRYPTION = 8, 8  # fields of FileMetaData and of ColumnChunk
_DICTIONARIES, _GROWING = frozenset((2, 8)), 7
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class Chunk(NamedTuple):
    """The pages of one column in one row group."""

    column: str
    is_text: bool
    has_dictionary: bool
    is_growing: bool
    """Texts are written as changes of the one before: few bytes become as many as there are rows."""
    unpacked_bytes: int


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a file.

    Raises:
        ValueError: The file is damaged, or in more pieces than a manifest can be.
    """
    if data.startswith(b"PARE") and data.endswith(b"PARE"):
        raise ValueError(ENCRYPTED)
    if len(data) < 12 or not (data.startswith(b"PAR1") and data.endswith(b"PAR1")):
        raise ValueError("it does not begin and end as one")
    size = int.from_bytes(data[-8:-4], "little")
    if size > min(_MAX_FOOTER_BYTES, len(data) - 12):
        raise ValueError("its footer is cut, damaged or too large")
    try:
        footer, _ = _read(data[-8 - size : -8], 0, _STRUCT)
        if _ENCRYPTION in footer or any(_COLUMN_ENCRYPTION in column for group in footer[4] for column in group[1]):
            raise ValueError(ENCRYPTED)
        pages = 0
        for group in footer[4]:
            for column in group[1]:
                chunk, count = _chunk(data, column[3], _MAX_PAGES - pages)
                pages += count
                yield chunk
    except (LookupError, TypeError, AttributeError, UnicodeDecodeError):
        raise ValueError("its footer or a page of it is damaged") from None


def _chunk(data: bytes, about: dict[int, Any], most_pages: int) -> tuple[Chunk, int]:
    at = min([about[9], *(offset for offset in [about.get(11, 0)] if offset > 0)])
    end = at + about[7]
    if not about[5]:  # no values: there may be no page, and none is read
        at = end
    elif not 0 < at <= end <= len(data):
        raise ValueError("a column lies outside of it")
    encodings, unpacked, pages = set(about[2]), 0, 0
    while at < end:
        page, at = _read(data, at, _STRUCT)
        if page[2] < 0 or page[3] < 0:
            raise ValueError("a page of it has a negative size")
        unpacked += page[2]
        at += page[3]
        encodings |= {page[field][place] for field, place in ((5, 2), (8, 4)) if field in page}
        pages += 1
        if pages > most_pages:
            raise ValueError(f"it has more than {_MAX_PAGES:,} pages")
    name = b".".join(about[3]).decode()
    return Chunk(
        name, about[1] == _BYTE_ARRAY, not _DICTIONARIES.isdisjoint(encodings), _GROWING in encodings,
        max(unpacked, about[6]),
    ), pages  # fmt: skip


def _read(data: bytes, at: int, kind: int, depth: int = 0) -> tuple[Any, int]:
    """Return the value at a place, and where it ends; a struct has its fields by number."""
    if depth > _MAX_DEPTH:
        raise ValueError("its footer is nested too deeply")
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _BYTE:
        return data[at], at + 1
    if kind in (_I16, _I32, _I64):
        number, at = _varint(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        size, at = _varint(data, at)
        return data[at : at + size], at + size
    if kind in (_LIST, _SET):
        return _items(data, at, depth)
    if kind == _STRUCT:
        return _fields(data, at, depth)
    raise ValueError("its footer or a page of it is damaged")  # a map: parquet.thrift has none


def _items(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    if size > len(data) - at:
        raise ValueError("its footer is damaged")
    items = []
    for _ in range(size):
        item, at = _read(data, at, _BYTE if kind in (_TRUE, _FALSE) else kind, depth + 1)
        items.append(item)
    return items, at


def _fields(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _read(data, at, _I16)
        fields[number], at = _read(data, at, head & 15, depth + 1)
    return fields, at + 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise ValueError("its footer or a page of it is damaged")
