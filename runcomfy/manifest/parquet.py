"""Parquet: the columns have types, and rows are counted from 1."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from runcomfy.manifest.table import IGNORED, RawRow, Table, UnreadableTable, check_columns, check_length, shown
from runcomfy.models.orders import FIELDS
from runcomfy.texts import exact_below

__all__ = ["read_parquet", "write_parquet"]

_READABLE = (
    pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal,
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
)  # fmt: skip
_ROWS_AT_ONCE = 10_000


def read_parquet(data: bytes) -> Table:
    """Read a Parquet file; only known columns are read, and whole numbers become integers.

    Raises:
        UnreadableTable: It is damaged, has no rows, or columns that cannot be used.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema = file.schema_arrow
        names = [name.strip() for name in schema.names]
        check_columns(names)
        check_length(file.metadata.num_rows)
        used = {name: given for name, given in zip(names, schema.names, strict=True) if name in FIELDS}
        for name, given in used.items():
            _check_type(name, schema.field(given).type)
        unread = dict.fromkeys(name for name in names if name not in FIELDS and name not in IGNORED)
        records: list[RawRow] = []
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(used.values())):
            cells = [[_plain(value) for value in batch.column(given).to_pylist()] for given in used.values()]
            exact = {name: _exact_below(schema.field(given).type) for name, given in used.items()}
            records += (
                _record(line, unread | dict(zip(used, row, strict=True)), exact)
                for line, row in enumerate(zip(*cells, strict=True), len(records) + 1)
            )
    except UnreadableTable:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")[:200]
        raise UnreadableTable(f"cannot be read as Parquet: {reason}. Write it again.") from None
    return Table(dict.fromkeys(names, 0), records)


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
        raise UnreadableTable(f"{sentence}; there can be texts, numbers, and true or false.")


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
