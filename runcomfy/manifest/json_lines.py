"""JSON Lines: one JSON object a line; its names are the columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from runcomfy.manifest.header import without_index
from runcomfy.manifest.table import (
    COMMENT,
    MAX_COLUMNS,
    TYPED,
    Names,
    RawRow,
    Table,
    UnreadableTable,
    check_length,
    lines_of,
    open_text,
    shown,
)
from runcomfy.models.cells import Nested
from runcomfy.texts import json_integer, json_number

__all__ = ["read_json_lines", "write_json_lines"]

_MAY_BE_JSON = re.compile(r'[{\["\d-]|(?:true|false|null|NaN|Infinity)\b')
_FORM = 'write one object a line, {"prompt": "…"}'


def read_json_lines(data: bytes, known: Names = TYPED) -> Table:
    """Read a JSON Lines file; a line that is not an object is a record with a problem, a blank line is left out,
    and so is a comment above the first.

    Args:
        data: The whole file.
        known: What fields may be called.

    Raises:
        UnreadableTable: It is not text, or has no rows.
    """
    columns: dict[str, int] = {}
    records: list[RawRow] = []
    first = ""
    for line, text in enumerate(lines_of(open_text(data, "\n")), 1):
        if not (text := text.strip().strip("\ufeff")) or (not records and COMMENT.match(text)):
            continue
        first = first or text
        try:
            values = _DECODER.decode(text)
            if isinstance(values, dict):
                values = _object([(known.of(name), _value(value)) for name, value in values.items()])
        except json.JSONDecodeError as error:
            records.append(
                RawRow(line, {}, f"it is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}; {_FORM}")
            )
        except (ValueError, RecursionError) as error:
            records.append(
                RawRow(line, {}, str(error) if isinstance(error, ValueError) else f"it is nested too deeply; {_FORM}")
            )
        else:
            if isinstance(values, dict):
                records.append(RawRow(line, values))
                columns |= {name: line for name in values if name not in columns}
                if len(columns) > MAX_COLUMNS:
                    raise UnreadableTable(f"has more than {MAX_COLUMNS:,} names in its objects. {_FORM.capitalize()}.")
            else:
                records.append(RawRow(line, {}, f"it is not an object; {_FORM}"))
        check_length(len(records))
    check_length(len(records))
    if len(records) > 1 and records[0].problem and (first[0] == "[" or (not columns and first[-1] in "{[,")):
        raise UnreadableTable(
            "is not JSON Lines, but one JSON document over several lines. Write one object a line (with jq: "
            "jq -c '.[]'; in pandas: to_json(…, orient='records', lines=True))."
        )
    if not columns and not _MAY_BE_JSON.match(first):
        raise UnreadableTable(f"is not JSON Lines: it begins with {shown(first[:40])}. In each line, {_FORM}.")
    return Table(without_index(columns, records), records)


def write_json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Write a JSON Lines file; each row has the names that it has."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


class _Exponent(float):
    """A number that was written with an exponent."""

    text: str


def _number(text: str) -> float:
    if isinstance(json_number(text), float):
        return float(text)
    found = _Exponent(text)
    found.text = text
    return found


def _value(value: Any) -> Any:
    """Return a value as it is kept: what is nested as JSON, since objects would take much more memory."""
    if isinstance(value, list | dict):
        return Nested(json.dumps(value, ensure_ascii=False))
    return value.text if isinstance(value, _Exponent) else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{shown(name)} is given twice; keep one of them")
        values[name] = value
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it is not JSON: {name} is not a JSON value; leave the field out")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_int=json_integer, parse_float=_number
)
