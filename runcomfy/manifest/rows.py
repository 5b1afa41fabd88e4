"""A manifest that was read: rows that can be generated, rows that cannot and why, and the error that names them all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import InvalidInput
from runcomfy.models.orders import Order

__all__ = ["BadRow", "Manifest", "ManifestFormat", "Row", "place_of", "refuse_rows"]

ManifestFormat = Literal["csv", "jsonl", "parquet", "xlsx"]

_SHOWN_ROWS = 100
# An error's text is cut after 16,384 characters.
_SHOWN_CHARACTERS = 15_000
_CHARACTERS_A_ROW = 380


class Row(BaseModel):
    """A row that can be generated, as far as can be said without its image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    """Where it is: the line of a text file (a record's first), the row of a sheet, in Parquet its number from 1."""
    order: Order = Field(repr=False)  # an image's URL may be signed
    source: dict[str, Any] = Field(repr=False)
    """The row as it was given, JSON-able."""


class BadRow(BaseModel):
    """A row that cannot be generated, or the header: its line in a CSV file or sheet, 0 for the columns of Parquet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    problems: tuple[str, ...]
    """What is wrong, field by field: `num_frames: Input should be less than or equal to 100`."""


class Manifest(BaseModel):
    """A manifest that was read and checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    """Where it was read from, without secrets."""
    format: ManifestFormat
    columns: tuple[str, ...]
    """Those that are known, in their order in the file."""
    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...] = ()
    """In the order of their lines. A row that gives a value under an unknown name is neither here nor in `rows`: the
    name is one problem, on the line where it first occurs."""
    row_count: int
    """All of them, good or not."""
    delimiter: str = ","
    """The separator of the cells of a CSV file."""
    header_line: int | None = None
    """Where the names of the columns are; `None` in JSON Lines, where each row has them."""


def refuse_rows(manifest: Manifest, bad: Iterable[BadRow]) -> NoReturn:
    """Raise the error that names the rows that cannot be generated, before anything is paid for.

    Args:
        manifest: What was read.
        bad: `Manifest.bad`, and what was found wrong since then, such as images that do not exist.

    Raises:
        InvalidInput: Its text names the rows, a hundred at most; `violations` has every problem, as pairs of a line
            and a sentence.
    """
    problems: dict[int, list[str]] = {}
    for row in sorted(bad, key=lambda row: row.line):
        problems.setdefault(row.line, []).extend(row.problems)
    raise InvalidInput(
        f"{_summary(manifest, problems)} cannot be used; nothing was paid for. Fix them, or take them out:\n"
        + "\n".join(_listing(manifest.format, problems)),
        violations=[(place_of(manifest.format, line), sentence) for line in problems for sentence in problems[line]],
    )


def place_of(kind: ManifestFormat, line: int) -> str:
    """Name the place of a row for a person: `line 7`, or in a sheet and in Parquet `row 7`."""
    if kind in ("parquet", "xlsx"):
        return f"row {line}" if line else "columns"
    return f"line {line}"


def _summary(manifest: Manifest, lines: Collection[int]) -> str:
    header = manifest.header_line
    rows = len(lines) - (header in lines)
    named = ["The header"] if header in lines else []
    if rows:
        named.append(f"{rows:,} of the {manifest.row_count:,} rows")
    return f"{' and '.join(named)} of {manifest.uri}"


def _listing(kind: ManifestFormat, problems: Mapping[int, Sequence[str]]) -> Iterator[str]:
    characters = 0
    for number, (line, sentences) in enumerate(problems.items()):
        text = f"  {place_of(kind, line)}: {_joined(sentences)}"
        characters += len(text) + 1
        if number == _SHOWN_ROWS or characters > _SHOWN_CHARACTERS:
            yield f"  … and {len(problems) - number:,} more"
            return
        yield text


def _joined(sentences: Sequence[str]) -> str:
    text, left = sentences[0], len(sentences) - 1
    for sentence in sentences[1:]:
        if len(text) + len(sentence) > _CHARACTERS_A_ROW:
            break
        text, left = f"{text}; {sentence}", left - 1
    text = text if len(text) <= _CHARACTERS_A_ROW else f"{text[:_CHARACTERS_A_ROW]}…"
    return f"{text}; and {left} more" if left else text
