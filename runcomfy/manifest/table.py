"""What the three formats have in common: named columns, records at lines, and what makes a file unreadable."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runcomfy.models.orders import FIELDS
from runcomfy.redaction import redact

__all__ = [
    "IGNORED",
    "MAX_ROWS",
    "RawRow",
    "Table",
    "UnreadableTable",
    "check_columns",
    "check_length",
    "decode",
    "shown",
]

IGNORED = ("error", "line")
"""Columns that are not read: a manifest of what failed has them, and can be run again as it is."""
MAX_ROWS = 100_000
"""A limit against files that are not manifests, and for memory: about 3 kB a row."""

_SHOWN_CHARACTERS = 60


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


def check_columns(names: Sequence[str]) -> None:
    """Make sure that these names can be the header of a manifest.

    Raises:
        UnreadableTable: A column has no name, two have the same, or no name is known.
    """
    if "" in names:
        raise UnreadableTable(f"has a column without a name: the {names.index('') + 1}. of {len(names)}. Name it.")
    twice = [shown(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UnreadableTable(f"has more than one column {', '.join(twice)}. Keep one of them.")
    if not any(name in FIELDS for name in names):
        raise UnreadableTable(f"has no header: its columns are to be named {', '.join(FIELDS)}; prompt is needed.")


def check_length(row_count: int) -> None:
    """Make sure that there are rows, and not too many.

    Raises:
        UnreadableTable: There are none, or more than `MAX_ROWS`.
    """
    if not row_count:
        raise UnreadableTable("has no rows. Give it one for each generation.")
    if row_count > MAX_ROWS:
        raise UnreadableTable(f"has more than {MAX_ROWS:,} rows. Split it.")


def decode(data: bytes) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark.

    Raises:
        UnreadableTable: It is in another encoding, or is not text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnreadableTable("is in UTF-16. Save it as UTF-8; in Excel that is 'CSV UTF-8'.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UnreadableTable(f"is not UTF-8 text (line {line}). Save it as UTF-8; in Excel, 'CSV UTF-8'.") from None


def shown(name: str) -> str:
    """Return a name from somebody else's file as it may be shown in a sentence: short, printable, without secrets."""
    name = redact(name[: 10 * _SHOWN_CHARACTERS])
    name = name if name and name.isprintable() else ascii(name)
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
