"""What a person sees while `python -m deployments.drain` waits: which runs are active, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deployments.drain.places import ActiveRun

__all__ = ["Progress", "summary"]

_ROWS = 15


class Progress:
    """A table that is kept up to date on a terminal; elsewhere, a line at each change. A context manager.

    Args:
        console: Where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last = ""

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, runs: Sequence[ActiveRun], note: str = "") -> None:
        """Show the runs that are waited for, or `note` where they could not be read."""
        if self._live:
            self._live.update(Text(note) if note else _table(runs), refresh=True)
        line = note or summary(runs)
        if line != self._last and not self._live:
            self._console.print(f"{datetime.now().astimezone():%H:%M:%S}  {line}", markup=False)
        self._last = line


def summary(runs: Sequence[ActiveRun]) -> str:
    """Return one line: how many, of which deployments, in which states, and since when."""
    if not runs:
        return "nothing is under way"
    parts = []
    for deployment in sorted({run.deployment for run in runs}):
        here = [run for run in runs if run.deployment == deployment]
        states = [f"{sum(run.state == state for run in here)} {state}" for state in sorted({run.state for run in here})]
        parts.append(f"{deployment}: {', '.join(states)} since {_clock(min(run.since for run in here))}")
    return f"{len(runs)} under way: {'; '.join(parts)}"


def _table(runs: Sequence[ActiveRun]) -> Table:
    table = Table(title=f"{len(runs)} under way" if runs else "nothing is under way", title_justify="left", box=None)
    for heading in ("deployment", "run", "state", "for"):
        table.add_column(heading, justify="left", no_wrap=True)
    for run in runs[:_ROWS]:
        note = " (its parts are held back)" if run.waits_for_parts else ""
        table.add_row(Text(run.deployment), Text(run.name), Text(run.state + note), _duration(run.since))
    if len(runs) > _ROWS:
        table.add_row(f"and {len(runs) - _ROWS} more", "", "", "")
    return table


def _clock(when: datetime) -> str:
    return f"{when.astimezone():%H:%M:%S}"


def _duration(since: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
