"""What the formats have in common: named columns, records at lines, and what makes a file unreadable.

The limits are for files that are not manifests, or are made to do harm: a small one can be unpacked to gigabytes.
"""

from __future__ import annotations

import io
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from runcomfy.models.columns import FIELDS, INPUT
from runcomfy.redaction import redact
from runcomfy.texts import encoding_of

__all__ = [
    "BLANK",
    "COMMENT",
    "IGNORED",
    "MAX_COLUMNS",
    "MAX_LINES",
    "MAX_LINE_CHARACTERS",
    "MAX_ROWS",
    "MAX_TEXT_BYTES",
    "MAX_TEXT_CHARACTERS",
    "TEMPLATE",
    "TYPED",
    "Names",
    "RawRow",
    "Table",
    "UnreadableTable",
    "check_columns",
    "check_length",
    "lines_of",
    "open_text",
    "shown",
    "too_long",
]

COMMENT = re.compile(r'\ufeff?"?#(?:\s|\Z)')
"""How a line begins that is not read, above the header: not as a column that is called `#`."""
TEMPLATE = "A manifest for "
"""How the first comment of a template begins."""
IGNORED = ("error", "line")
"""Columns that are not read: a manifest of what failed has them, and can be run again as it is."""
MAX_ROWS = 100_000
"""About 3 kB of memory each."""
MAX_COLUMNS = 1000
MAX_LINES = 2_000_000
"""Blank ones included: a spreadsheet writes all that it has, 1,048,576."""
MAX_LINE_CHARACTERS = 2_000_000
MAX_TEXT_CHARACTERS = 100_000
"""Of one value."""
MAX_TEXT_BYTES = 100_000_000
"""Of all values together, as UTF-8, of a format that packs them."""

_SHOWN_CHARACTERS = 60
BLANK = string.whitespace + "\0\u00a0\u200b\u2060\ufeff"
"""What is no part of a name."""
_JOINS = re.compile(r"[\s_-]+")


class Names:
    """The names that columns may have, and what a column that is spelt a little otherwise is called.

    Args:
        fields: What rows may give, as `runcomfy.models.columns.field_names` returns it.
    """

    def __init__(self, fields: Iterable[str] = FIELDS) -> None:
        self.fields = tuple(fields)
        self._known = frozenset(self.fields)
        self._by_spelling: dict[str, str] = {}
        for name in (*self.fields, *IGNORED):
            self._by_spelling.setdefault(_plain(name), name)

    def __contains__(self, name: object) -> bool:
        known = isinstance(name, str) and (name in self._known or name.removeprefix(INPUT) in self._known)
        return known and name not in IGNORED

    def of(self, given: str) -> str:
        """Return the name of a column: `Num Frames` and `num-frames` are num_frames; an unknown one stays as it is."""
        name = given.strip(BLANK)
        return name if name in self else self._by_spelling.get(_plain(name), name)

    def count(self, cells: Iterable[str]) -> int:
        """Return how many of these cells are the name of a field."""
        return len({name for cell in cells if (name := self.of(cell)) in self})


def _plain(name: str) -> str:
    return _JOINS.sub("_", unicodedata.normalize("NFKC", name).casefold())


TYPED = Names()
"""The names of the two typed models."""


class UnreadableTable(ValueError):
    """The file as a whole cannot be read; the text continues a sentence that begins with its name: "has no header"."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One record as it is in the file."""

    line: int
    values: Mapping[str, Any]
    problem: str = ""
    """Why it could not be read; then there are no values."""


@dataclass(frozen=True)
class Table:
    """A file that could be read; its values are not checked yet."""

    columns: Mapping[str, int]
    """Each name, and the line on which it first occurs: 0 where the names are apart from the rows."""
    records: Sequence[RawRow]
    delimiter: str = ","
    """The separator of the cells of a CSV file."""


def check_columns(names: Sequence[str], known: Names = TYPED) -> None:
    """Make sure that these names can be the header of a manifest.

    Args:
        names: The columns.
        known: What they may be called.

    Raises:
        UnreadableTable: There are too many, two are the same, or none is known.
    """
    if len(names) > MAX_COLUMNS:
        raise UnreadableTable(f"has more than {MAX_COLUMNS:,} columns. Take out those that are not for a manifest.")
    twice = [shown(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UnreadableTable(f"has more than one column {', '.join(twice)}. Keep one of them.")
    if not any(name in known for name in names):
        needed = "; prompt is needed" if known is TYPED else ""
        raise UnreadableTable(f"has no header: its columns are to be named {', '.join(known.fields)}{needed}.")


def check_length(row_count: int) -> None:
    """Make sure that there are rows, and not too many.

    Raises:
        UnreadableTable: There are none, or more than `MAX_ROWS`.
    """
    if not row_count:
        raise UnreadableTable("has no rows. Give it one for each generation.")
    if row_count > MAX_ROWS:
        raise UnreadableTable(f"has more than {MAX_ROWS:,} rows. Split it.")


def open_text(data: bytes, newline: str) -> TextIO:
    """Return a text file as it is read line by line, in UTF-8, UTF-16 or UTF-32.

    Args:
        data: The whole file.
        newline: As in `open`.

    Raises:
        UnreadableTable: It is in another encoding, or is not text.
    """
    encoding = encoding_of(data)
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = encoding.upper().removesuffix("-SIG")
        raise UnreadableTable(
            f"is not {name} text (line {line}). Save it as UTF-8; in Excel that is 'CSV UTF-8'."
        ) from None
    return io.TextIOWrapper(io.BytesIO(data), encoding, newline=newline)


def lines_of(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file, with their ends.

    Raises:
        UnreadableTable: There are more than `MAX_LINES`, or one has more than `MAX_LINE_CHARACTERS`.
    """
    number = 0
    while line := file.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARACTERS:
            raise UnreadableTable(
                f"has a line of more than {MAX_LINE_CHARACTERS:,} characters: line {number}. Give each row a line of "
                "its own."
            )
        if number > MAX_LINES:
            raise UnreadableTable(f"has more than {MAX_LINES:,} lines. Take out the blank ones, or split it.")
        yield line


def too_long(text: Any) -> str:
    """Return why a value has too many characters to be that of any field; an empty text if it has not."""
    if not isinstance(text, str) or len(text) <= MAX_TEXT_CHARACTERS:
        return ""
    return f"it has {len(text):,} characters; {MAX_TEXT_CHARACTERS:,} are allowed. Shorten it"


def shown(name: str) -> str:
    """Return a name from somebody else's file as it may be shown in a sentence: short, printable, without secrets."""
    name = redact(name[: 10 * _SHOWN_CHARACTERS])
    name = name if name and name.isprintable() else ascii(name)
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
