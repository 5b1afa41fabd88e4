"""JSON Lines: one JSON object a line; its names are the columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from runcomfy.manifest.table import RawRow, Table, check_length, decode, shown
from runcomfy.texts import json_number

__all__ = ["read_json_lines", "write_json_lines"]

_MOST_DIGITS = 300  # Python refuses very long numbers itself, but with a message for programmers


def read_json_lines(data: bytes) -> Table:
    """Read a JSON Lines file; a line that is not an object is a record with a problem, a blank line is left out.

    Raises:
        UnreadableTable: It is not text, or has no rows.
    """
    columns: dict[str, int] = {}
    records = []
    # Not splitlines(): it splits at characters that a JSON text may hold.
    for line, text in enumerate(decode(data).split("\n"), 1):
        if text.isspace() or not text:
            continue
        try:
            values = _DECODER.decode(text.strip())
        except json.JSONDecodeError as error:
            records.append(RawRow(line, {}, f"it is not JSON: {error.msg} at column {error.colno}"))
        except (ValueError, RecursionError) as error:
            records.append(RawRow(line, {}, str(error) if isinstance(error, ValueError) else "it is nested too deeply"))
        else:
            if isinstance(values, dict):
                records.append(RawRow(line, values))
                columns |= {name: line for name in values if name not in columns}
            else:
                records.append(RawRow(line, {}, 'it is not an object; write one object a line, {"prompt": "…"}'))
        check_length(len(records))
    check_length(len(records))
    return Table(columns, records)


def write_json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Write a JSON Lines file; each row has the names that it has."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name.strip() in values:
            raise ValueError(f"{shown(name.strip())} is given twice; keep one of them")
        values[name.strip()] = value
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it is not JSON: {name} is not a JSON value")


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number has more than {_MOST_DIGITS} digits")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer, parse_float=json_number
)
