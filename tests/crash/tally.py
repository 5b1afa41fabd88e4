"""The results of the crashes: one row a story, shown at the end of the session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.crash.promises import Verdict

__all__ = ["Row", "Tally"]

_HEADINGS = ("points", "kills", "paid", "paid twice", "archived", "uncertain", "lost", "left over")


@dataclass
class Row:
    """The sums of one story."""

    story: str
    points: int = 0
    kills: int = 0
    paid: int = 0
    paid_twice: int = 0
    archived: int = 0
    uncertain: int = 0
    lost: int = 0
    left_over: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Add one generation."""
        self.points += 1
        self.kills += verdict.kills
        self.paid += len(verdict.found.requests)
        self.paid_twice += len(verdict.found.requests) > 1
        self.archived += bool(verdict.found.videos) and not verdict.lost
        self.uncertain += verdict.uncertain
        self.lost += verdict.lost
        self.left_over += verdict.found.left_over
        self.broken += [f"{verdict.label}: {'; '.join(verdict.broken)}"] if verdict.broken else []

    @property
    def numbers(self) -> tuple[int, ...]:
        return (
            self.points,
            self.kills,
            self.paid,
            self.paid_twice,
            self.archived,
            self.uncertain,
            self.lost,
            self.left_over,
        )


@dataclass
class Tally:
    """All stories of a session."""

    rows: list[Row] = field(default_factory=list)

    def row(self, story: str, verdicts: Iterable[Verdict]) -> Row:
        """Add a story."""
        row = Row(story)
        for verdict in verdicts:
            row.add(verdict)
        self.rows.append(row)
        return row

    def total(self, number: str) -> int:
        """Add up one number over all stories."""
        return sum(getattr(row, number) for row in self.rows)

    def lines(self) -> Iterator[str]:
        """Yield the table, line by line, and every broken promise under it."""
        yield f"{'story':<34}" + "".join(f"{heading:>13}" for heading in _HEADINGS)
        for row in self.rows:
            yield f"{row.story:<34}" + "".join(f"{number:>13}" for number in row.numbers)
        totals = [sum(numbers) for numbers in zip(*(row.numbers for row in self.rows), strict=True)]
        yield f"{'all':<34}" + "".join(f"{number:>13}" for number in totals)
        for row in self.rows:
            yield from (f"BROKEN {row.story}: {promise}" for promise in row.broken)
