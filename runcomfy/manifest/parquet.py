"""Parquet: the columns have types, and rows are counted from 1."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from runcomfy.manifest.header import may_be_index, without_index
from runcomfy.manifest.parquet_sizes import ENCRYPTED, Chunk, chunks
from runcomfy.manifest.table import (
    IGNORED,
    MAX_TEXT_BYTES,
    TYPED,
    Names,
    RawRow,
    Table,
    UnreadableTable,
    check_columns,
    check_length,
    shown,
)
from runcomfy.texts import exact_below

__all__ = ["read_parquet", "write_parquet"]

_READABLE = (
    pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal,
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
)  # fmt: skip
_ROWS_AT_ONCE = 10_000
_MAX_VALUES_BYTES = 100_000_000
"""What is decoded at once."""


def read_parquet(data: bytes, known: Names = TYPED) -> Table:
    """Read a Parquet file; only known columns are read, and whole numbers become integers.

    A file of 700 bytes can ask for gigabytes: the sizes of its pages are looked at first, and a text that many
    rows share is counted for each of them.

    Args:
        data: The whole file.
        known: What columns may be called.

    Raises:
        UnreadableTable: It is damaged, has no rows, too much in them, or columns that cannot be used.
    """
    try:
        return _read(data, list(chunks(data)), known)
    except UnreadableTable:
        raise
    except MemoryError:  # Arrow's own is one
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")[:200]
        again = "Write it without encryption" if reason == ENCRYPTED else "Write it again"
        raise UnreadableTable(f"cannot be read as Parquet: {reason}. {again}.") from None


def _read(data: bytes, sizes: Sequence[Chunk], known: Names) -> Table:
    file = pq.ParquetFile(pa.BufferReader(data))
    schema = file.schema_arrow
    names = [known.of(name) for name in schema.names]
    check_columns(names, known)
    check_length(file.metadata.num_rows)
    columns = dict(zip(names, schema.names, strict=True))
    used = {name: given for name, given in columns.items() if name in known or (_is_number(schema.field(given).type)
            and may_be_index(name))}  # fmt: skip
    for name, given in used.items():
        _check_type(name, schema.field(given).type)
    repeated, rows_at_once = _check_size(sizes, frozenset(used.values()))
    file = pq.ParquetFile(pa.BufferReader(data), metadata=file.metadata, read_dictionary=repeated)
    exact = {name: _exact_below(schema.field(given).type) for name, given in used.items()}
    unread = dict.fromkeys(name for name in names if name not in used and name not in IGNORED)
    records: list[RawRow] = []
    text_bytes = 0
    for batch in file.iter_batches(rows_at_once, columns=list(used.values()), use_threads=False):
        text_bytes += sum(map(_text_bytes, batch.columns))
        if text_bytes > MAX_TEXT_BYTES:
            raise UnreadableTable(f"has texts of more than {MAX_TEXT_BYTES:,} bytes together. Split it.")
        cells = [[_plain(value) for value in batch.column(given).to_pylist()] for given in used.values()]
        records += (
            _record(line, unread | dict(zip(used, row, strict=True)), exact)
            for line, row in enumerate(zip(*cells, strict=True), len(records) + 1)
        )
        check_length(len(records) or 1)
    check_length(len(records))
    return Table(without_index(dict.fromkeys(names, 0), records), records)


def _check_size(sizes: Sequence[Chunk], used: Collection[str]) -> tuple[list[str], int]:
    """Return the columns that are to be decoded as dictionaries, and how many rows may be decoded at once.

    A dictionary keeps a text once that many rows have. Nothing like that is there for texts that are each written as a
    change of the one before: none can be longer than all that is written for them, which bounds a few rows.
    """
    read = [chunk for chunk in sizes if chunk.column in used]
    if sum(chunk.unpacked_bytes for chunk in read) > MAX_TEXT_BYTES:
        raise UnreadableTable(f"has more than {MAX_TEXT_BYTES:,} bytes when it is unpacked. Split it.")
    growing = {chunk.column for chunk in read if chunk.is_growing}
    longest = max((chunk.unpacked_bytes for chunk in read if chunk.is_growing), default=0)
    repeated = {chunk.column for chunk in read if chunk.is_text and chunk.has_dictionary} - growing
    return sorted(repeated), min(_ROWS_AT_ONCE, max(1, _MAX_VALUES_BYTES // longest)) if longest else _ROWS_AT_ONCE


def _text_bytes(column: Any) -> int:
    """Return how many bytes the texts of a column have, each counted as often as it occurs."""
    lengths = column
    if pa.types.is_dictionary(column.type):
        if not (pa.types.is_string(column.type.value_type) or pa.types.is_large_string(column.type.value_type)):
            return 0
        return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)
    if pa.types.is_string_view(column.type):
        lengths = column.cast(pa.large_string())
    if not (pa.types.is_string(lengths.type) or pa.types.is_large_string(lengths.type)):
        return 0
    return int(pc.sum(pc.binary_length(lengths)).as_py() or 0)


def write_parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Write a Parquet file; a column whose values are of several types is written as texts."""
    table = pa.table({name: _array([row.get(name) for row in rows]) for name in columns})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def _check_type(name: str, kind: Any) -> None:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in _READABLE):
        sentence = f"has a column {name} of the type {shown(str(kind))}"
        raise UnreadableTable(f"{sentence}; there can be texts, numbers, and true or false. {_instead_of(kind)}")


def _instead_of(kind: Any) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "Write a list as JSON, in a text."
    if pa.types.is_temporal(kind):
        return "Write it as a number or a text."
    return "Write what it means as a text: a file by its path, https://… or s3://bucket/key, an object as JSON."


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_null(kind))


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it; NaN, which pandas writes for a missing number, becomes `None`."""
    if isinstance(value, float | Decimal):
        if math.isnan(value):
            return None
        return int(value) if math.isfinite(value) and value == int(value) else float(value)
    return value


def _exact_below(kind: Any) -> int | None:
    """Return the limit below which the floats of a column are exact; `None` for a column of another type."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return exact_below(kind.bit_width) if pa.types.is_floating(kind) else None


def _record(line: int, values: dict[str, Any], exact: Mapping[str, int | None]) -> RawRow:
    for name, limit in exact.items():
        value = values[name]
        if limit is not None and isinstance(value, int) and abs(value) >= limit:
            sentence = (
                f"{name}: {value} may have been rounded: such a column of decimal numbers is exact below {limit} only. "
                'Write it as a column of integers (in pandas, of the type "Int64")'
            )
            return RawRow(line, {}, sentence)
    return RawRow(line, values)


def _array(values: list[Any]) -> Any:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = (value if value is None or isinstance(value, str) else json.dumps(value) for value in values)
        return pa.array(list(texts), pa.string())
