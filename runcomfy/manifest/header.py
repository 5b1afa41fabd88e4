"""Which line of a table is its header, what its columns are called, and which of them are only a program's index."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from runcomfy.manifest.table import BLANK, TYPED, Names, RawRow, UnreadableTable, check_columns

__all__ = ["LOOKED_AT", "find_header", "may_be_index", "names_of", "without_index"]

LOOKED_AT = 20
"""How many lines at the start of a table may be its header."""

_RESULTS = frozenset(("status", "request_id", "generation_key"))
_NAMELESS = "\0"  # and the number of the column: no name has a NUL
# What pandas calls the index of a data frame: in Parquet; in a CSV file that it read back; after reset_index.
_PARQUET_INDEX = re.compile(r"__index_level_\d+__")
_READ_BACK = re.compile(r"Unnamed: \d+(?:\.\d+)*(?:_level_\d+)?")
_RESET = frozenset(("index", "level_0"))


def find_header(
    records: Sequence[tuple[int, Sequence[str]]], known: Names = TYPED, *, place: str = "line"
) -> int | None:
    """Return which of the first records is the header; `None` if none is.

    Args:
        records: Each with its line; those without any text are passed over.
        known: What columns may be called.
        place: What a line is called.

    Raises:
        UnreadableTable: There is something above the header.
    """
    filled = [index for index, (_, cells) in enumerate(records) if any(cell.strip(BLANK) for cell in cells)]
    counts = [known.count(records[index][1]) for index in filled]
    first = next((number for number, count in enumerate(counts) if count), None)
    if first is None:
        return None
    if first + 1 < len(counts) and counts[first + 1] > counts[first]:  # the title is the name of a field
        first += 1
    if first:
        above, line = records[filled[0]][0], records[filled[first]][0]
        raise UnreadableTable(
            f"has its header in {place} {line}, and {place} {above} looks like a title. Take out what is above the "
            "header."
        )
    return filled[0]


def names_of(header: Sequence[str], known: Names = TYPED) -> list[str]:
    """Return the names of the columns, without the empty ones at the end; each other one without a name gets a mark.

    Raises:
        UnreadableTable: They cannot be the header of a manifest.
    """
    names = [known.of(cell) for cell in header]
    while names and not names[-1]:  # spreadsheets write columns that were used once
        names.pop()
    if _RESULTS.issubset(names):
        raise UnreadableTable(
            "is the table of what became of a batch, not a manifest. Run the manifest again, or to-run-again beside it."
        )
    check_columns([name for name in names if name], known)
    return [name or f"{_NAMELESS}{number}" for number, name in enumerate(names, 1)]


def may_be_index(name: str) -> bool:
    """Whether a column of this name may be left out, if its values are those of an index."""
    return name in _RESET or not name or bool(_READ_BACK.fullmatch(name) or _PARQUET_INDEX.fullmatch(name))


def without_index(columns: Mapping[str, int], records: Sequence[RawRow]) -> dict[str, int]:
    """Return the columns without those that hold nothing that is asked for: an index, or no name and no values.

    Raises:
        UnreadableTable: A column without a name holds something else.
    """
    kept = {}
    for place, (name, line) in enumerate(columns.items()):
        nameless = name.startswith(_NAMELESS) or not name
        if not (nameless or may_be_index(name)):
            kept[name] = line
            continue
        values = [record.values.get(name) for record in records if not record.problem]
        if _PARQUET_INDEX.fullmatch(name) or _is_spare(name, values, may_count=not nameless or not place):
            continue
        if name.startswith(_NAMELESS):
            raise UnreadableTable(
                f"has a column without a name: number {name.removeprefix(_NAMELESS)}. Name it, or take it out; if it "
                "is the index of a data frame, write the file without it (in pandas: index=False)."
            )
        kept[name] = line
    return kept


def _is_spare(name: str, values: Sequence[Any], *, may_count: bool) -> bool:
    """Whether a column is empty, or counts: 0, 1, 2 … or 1, 2, 3 …; pandas' own name may have gaps."""
    given = [value for value in values if value is not None and str(value).strip(BLANK)]
    if not given:
        return name.startswith(_NAMELESS) or bool(_READ_BACK.fullmatch(name))
    numbers = [_whole(value) for value in given]
    if not may_count or len(given) < len(values) or None in numbers:
        return False
    if _READ_BACK.fullmatch(name):
        return len(set(numbers)) == len(numbers)
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _whole(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.strip(BLANK) if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
