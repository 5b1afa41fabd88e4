"""Tables, lists and links of the operations page: bounded, with untrusted texts shown as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from tasks.pages.markdown import text
from tasks.upkeep.facts import RunFacts

__all__ = ["bullets", "clock", "cut", "run_link", "table"]

_T = TypeVar("_T")


def cut(things: Sequence[_T], most: int) -> Sequence[_T]:
    """Return the first of many."""
    return things[:most]


def run_link(run: RunFacts) -> str:
    """Return a run's name as a link to its page, or alone if the server's address is unknown."""
    name = text(run.name, longest=80) or str(run.id)
    return f"[{name}]({run.url})" if run.url else name


def clock(at: datetime | None) -> str:
    """Return a time as people read it; nothing if it is unknown."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def table(names: Sequence[str], rows: Iterable[Sequence[str]], altogether: int) -> str:
    """Return rows below their names, and how many there are where not all are shown.

    Args:
        names: The heading of each column.
        rows: Values in Markdown.
        altogether: How many rows there would be.
    """
    shown = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *shown]
    return "\n".join(lines) + _more(len(shown), altogether)


def bullets(lines: Iterable[str], altogether: int) -> str:
    """Return lines as a list, and how many there are where not all are shown.

    Args:
        lines: In Markdown.
        altogether: How many there would be.
    """
    shown = [f"- {line}" for line in lines]
    return "\n".join(shown) + _more(len(shown), altogether)


def _more(shown: int, altogether: int) -> str:
    return f"\n\n{altogether - shown:,} more are not shown." if altogether > shown else ""
