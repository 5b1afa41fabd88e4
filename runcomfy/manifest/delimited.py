"""CSV: commas between the cells, or the semicolons and tabs that spreadsheets write in much of Europe."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from runcomfy.manifest.table import RawRow, Table, UnreadableTable, check_columns, check_length, decode

__all__ = ["read_delimited", "write_delimited"]

_HEADER_LINE = 1


def read_delimited(data: bytes) -> Table:
    """Read a CSV file; all values are texts. Rows without any text are left out.

    Raises:
        UnreadableTable: It is not text, or has no usable header, or no rows.
    """
    text = decode(data)
    first_line = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = next((mark for mark in ",;\t" if mark in first_line), ",")
    if "\0" in first_line:
        raise UnreadableTable("is not text: its first line holds a NUL byte. Save it as CSV in UTF-8.")
    records = _records(text, delimiter)
    _, header = next(records, (0, []))
    if isinstance(header, str):
        raise UnreadableTable(f"has no header: line 1 cannot be read, {header}")
    names = [name.strip() for name in header]
    while names and not names[-1]:  # spreadsheets write columns that were used once
        names.pop()
    check_columns(names)
    rows = []
    for line, cells in records:
        if isinstance(cells, str):
            rows.append(RawRow(line, {}, cells))
        elif len(cells) > len(header) or any(cell.strip() for cell in cells[len(names) :]):
            rows.append(RawRow(line, {}, _too_many(len(cells), len(names))))
        elif any(cell and not cell.isspace() for cell in cells):
            padded = cells + [""] * (len(names) - len(cells))
            rows.append(RawRow(line, dict(zip(names, padded, strict=False))))
        check_length(len(rows) or 1)
    check_length(len(rows))
    return Table(dict.fromkeys(names, _HEADER_LINE), rows, delimiter)


def write_delimited(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], delimiter: str) -> bytes:
    """Write a CSV file; one that is more than ASCII gets a byte order mark, without which Excel would misread it."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    text = file.getvalue()
    return text.encode("utf-8" if text.isascii() else "utf-8-sig")


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield each record's first line and its cells, or what is wrong with it."""
    # Strict: otherwise a quote that is never closed silently swallows the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, _quoting(line, reader.line_num, str(error))


def _quoting(first: int, last: int, said: str) -> str:
    if "end of data" in said:
        return 'a quote (") is opened here and never closed; close it, or write it twice if it belongs to the text'
    if "field limit" in said:
        return f'a text has more than {csv.field_size_limit():,} characters; is a quote (") opened and not closed?'
    where = "" if first == last else f", which was read up to line {last}"
    return f'its quotes do not match{where}: within a quoted text, a quote is written twice, ""'


def _too_many(cells: int, columns: int) -> str:
    return f"it has {cells} cells for {columns} columns; put a text with a separator in it in quotes"


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)
