"""How far a batch is, and how long it may take: a range, since a single number would claim too much."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import humanize

from runcomfy.values import Outcome, OutcomeStatus

__all__ = ["Tally"]

_ENOUGH = 3
_MARGIN = 1.25


@dataclass(frozen=True)
class Tally:
    """Counts what has ended.

    Args:
        total: How many generations there are.
        at_once: How many are in progress at the same time.
        outcomes: The outcomes of those that have ended; it grows.
    """

    total: int
    at_once: int
    outcomes: Mapping[int, Outcome]

    @property
    def done(self) -> int:
        """How many have ended, well or not."""
        return len(self.outcomes)

    @property
    def good(self) -> int:
        """How many are in the archive."""
        return sum(outcome.status.is_good for outcome in self.outcomes.values())

    @property
    def percent(self) -> float:
        """How many of all have ended, in per cent."""
        return round(100 * self.done / self.total, 1) if self.total else 100.0

    def left_seconds(self, elapsed_seconds: float) -> tuple[float, float] | None:
        """Return the shortest and the longest time that the rest is likely to take; `None` until enough have ended.

        The first follows from how long those took that have ended, the second from the throughput until now. Early on,
        both know only the quick ones, so the second is at least a quarter above the first.

        Args:
            elapsed_seconds: Since the first was started.
        """
        seconds = [each.seconds for each in self.outcomes.values() if each.status is OutcomeStatus.ARCHIVED]
        if len(seconds) < _ENOUGH or elapsed_seconds <= 0:
            return None
        left = self.total - self.done
        if left <= 0:
            return 0.0, 0.0
        waves = max(left / self.at_once, 0.5)
        by_throughput = left * elapsed_seconds / len(seconds)
        likely = waves * statistics.fmean(seconds)
        slowest = max(seconds) if left <= self.at_once else 0.0
        return min(likely, by_throughput), max(likely * _MARGIN, by_throughput, slowest)

    def sentence(self, elapsed_seconds: float) -> str:
        """Return the progress as one line."""
        parts = [f"{self.done:,} of {self.total:,}", f"{self.good:,} archived"]
        parts += [
            f"{count:,} {status.replace('_', ' ')}"
            for status, count in sorted(Counter(each.status for each in self.outcomes.values()).items())
            if not status.is_good
        ]
        left = self.left_seconds(elapsed_seconds)
        if left and left[1]:
            parts.append(f"{_words(left[0])} to {_words(left[1])} left")
        return ", ".join(parts)


def _words(seconds: float) -> str:
    unit = "seconds" if seconds < 90 else "minutes"
    return humanize.precisedelta(timedelta(seconds=round(seconds)), minimum_unit=unit, format="%0.0f")
