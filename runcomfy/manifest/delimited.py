"""CSV: commas between the cells, or the semicolons and tabs that spreadsheets write in much of Europe."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from runcomfy.manifest.header import LOOKED_AT, find_header, names_of, without_index
from runcomfy.manifest.table import (
    BLANK,
    COMMENT,
    MAX_LINE_CHARACTERS,
    TEMPLATE,
    TYPED,
    Names,
    RawRow,
    Table,
    UnreadableTable,
    check_length,
    lines_of,
    open_text,
)

__all__ = ["as_written", "defused", "read_delimited", "write_delimited"]

_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=(.)"?[,;\t|]*\s*', re.IGNORECASE)
# What spreadsheets take for a formula (owasp.org, "CSV Injection"), also behind blanks and in East Asian full width.
_FORMULA = re.compile(r"'*(?:[\t\r\n]|[\s\0\u200b\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER = re.compile(r"-\d+(?:\.\d+)?")


def read_delimited(data: bytes, known: Names = TYPED) -> Table:
    """Read a CSV file; all values are texts. Rows without any text are left out.

    Args:
        data: The whole file.
        known: What columns may be called.

    Raises:
        UnreadableTable: It is not text, or has no usable header, or no rows.
    """
    delimiter, skipped, is_template = _dialect(data, known)
    records = _records(data, delimiter, skipped)
    first = list(islice(records, LOOKED_AT))
    place = find_header([(line, [] if isinstance(cells, str) else cells) for line, cells in first], known)
    for line, cells in first if place is None else ():
        if isinstance(cells, str):
            raise UnreadableTable(f"has no header: line {line} cannot be read, {cells}")
    place = place or 0
    header_line, header = first[place] if first else (1, [])
    names = names_of(header, known)
    rows: list[RawRow] = []
    for line, cells in chain(first[place + 1 :], records):
        rows += _row(line, cells, names, len(header), is_ours=is_template or "error" in names)
        check_length(len(rows) or 1)
    check_length(len(rows))
    return Table(without_index(dict.fromkeys(names, header_line), rows), rows, delimiter)


def write_delimited(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], delimiter: str) -> bytes:
    """Write a CSV file; one that is more than ASCII gets a byte order mark, without which Excel would misread it."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    text = file.getvalue()
    return text.encode("utf-8" if text.isascii() else "utf-8-sig")


def defused(text: str) -> str:
    """Return a text as it is written into a CSV file that people open: what would be a formula gets an apostrophe."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def as_written(cell: str) -> str:
    """Return the text that was `defused`; every other one as it is."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _dialect(data: bytes, known: Names) -> tuple[str, int, bool]:
    """Return the separator, how many lines to skip, and whether they say that it is a template of ours.

    In some countries Excel writes `sep=;` into the first; and there are comments above the header of a template.
    """
    separator, skipped, has_comments, is_template = None, 0, False, False
    start: list[str] = []
    for line in lines_of(open_text(data, "")):
        is_comment = bool(COMMENT.match(line))
        if start or not (is_comment or (has_comments and not line.strip(BLANK + _DELIMITERS))):
            named = None if start or skipped else _SEPARATOR_LINE.fullmatch(line)
            if named is None:
                start.append(line)
                if len(start) == LOOKED_AT:
                    break
                continue
            separator = named[1]
        has_comments |= is_comment
        is_template |= is_comment and line.lstrip('\ufeff"#').lstrip().startswith(TEMPLATE)
        skipped += 1
    if separator is not None:
        return separator, skipped, is_template
    found = {delimiter: _most_names(start, delimiter, known) for delimiter in _DELIMITERS}
    return max(_DELIMITERS, key=lambda delimiter: found[delimiter]), skipped, is_template


def _most_names(lines: Sequence[str], delimiter: str, known: Names) -> int:
    """Return how many fields the best of these lines names, if the cells are separated so."""
    reader, most = csv.reader(lines, delimiter=delimiter), 0
    while True:
        try:
            most = max(most, known.count(next(reader)))
        except StopIteration:
            return most
        except csv.Error:
            continue


def _row(
    line: int, cells: list[str] | str, names: Sequence[str], width: int, *, is_ours: bool
) -> Iterator[RawRow]:  # fmt: skip
    """Yield the record; nothing where it is blank.

    `is_ours` says that `write_manifest` wrote it, whose mark is the column `error`, or that it began as a template:
    what is defused is as it was again. In other files an apostrophe is the person's, and part of what is asked for.
    """
    if isinstance(cells, str):
        yield RawRow(line, {}, cells)
    elif len(cells) > width or any(
        cell.strip() for cell in cells[len(names) :]
    ):  # blank ones too: cells may be shifted
        yield RawRow(line, {}, _too_many(len(cells), len(names)))
    elif any(cell and not cell.isspace() for cell in cells):
        padded = cells + [""] * (len(names) - len(cells))
        padded = [as_written(cell) for cell in padded] if is_ours else padded
        yield RawRow(line, dict(zip(names, padded, strict=False)))


def _records(data: bytes, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str] | str]]:
    """Yield each record's first line and its cells, or what is wrong with it."""
    record = [0]  # the characters of the one that is read now: one that never ends would be held in memory

    def lines() -> Iterator[str]:
        for line in islice(lines_of(open_text(data, "")), skipped, None):
            record[0] += len(line)
            if record[0] > MAX_LINE_CHARACTERS:
                raise UnreadableTable(f"has a row of more than {MAX_LINE_CHARACTERS:,} characters; {_NEVER_CLOSED}")
            yield line

    # Strict: otherwise a quote that is never closed silently swallows the rest of the file.
    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        line, record[0] = reader.line_num + skipped + 1, 0
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, _quoting(line, reader.line_num + skipped, str(error))


_NEVER_CLOSED = 'is a quote (") opened and not closed? Close it'


def _quoting(first: int, last: int, said: str) -> str:
    if "end of data" in said:
        return 'a quote (") is opened here and never closed; close it, or write it twice if it belongs to the text'
    if "field limit" in said:
        return f"a text has more than {csv.field_size_limit():,} characters; {_NEVER_CLOSED}"
    where = "" if first == last else f", which was read up to line {last}"
    return f'its quotes do not match{where}: within a quoted text, a quote is written twice, ""'


def _too_many(cells: int, columns: int) -> str:
    named = "1 column" if columns == 1 else f"{columns} columns"
    return f"it has {cells} cells for {named}; put a text with a separator in it in quotes"


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return defused(value or "")
    return json.dumps(value)
