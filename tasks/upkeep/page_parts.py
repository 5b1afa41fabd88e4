"""Times, links and the first of many on the operations page, with untrusted texts shown as they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from tasks.pages.markdown import text
from tasks.upkeep.facts import RunFacts

__all__ = ["clock", "clock_on", "cut", "run_link"]

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


def clock_on(at: datetime | None, day: datetime) -> str:
    """Write a time in a column that says it is in UTC: without the date, where it is that of the page."""
    if at is None:
        return ""
    return f"{at:%H:%M:%S}" if at.date() == day.date() else f"{at:%Y-%m-%d %H:%M:%S}"
