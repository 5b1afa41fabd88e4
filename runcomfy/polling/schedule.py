"""When the next look at one request is due, from what has been seen of it and what is known of others like it.

A look costs a call, and a result that is not looked at waits. Where it is known how such requests end, the best looks
are as dense as the square root of the hazard rate (the inspection problem: R. E. Barlow, F. Proschan, Mathematical
Theory of Reliability, 1965, chapter 4): rarely while nothing can be ready, often when it is due. For a log-logistic
distribution that is one line, whatever its spread: the interval is the mean delay that is wanted, times the square root
of age / (median x share that has ended). docs/performance.md has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from runcomfy.api.responses import State
from runcomfy.policy import Polling
from runcomfy.polling.forecast import Forecast, RunTimes

__all__ = ["Observed", "PollSchedule", "due_in"]

_START_KNOWN = 0.25  # of the run time
_HALF = 0.5
_MEAN_DELAY = 0.007  # of the median
_EARLY = 0.45  # of the median: two such steps, not three, until one that spreads by five per cent can be due
_RARE = 0.01  # of all end before they can be due, and as many are overdue
_LONGEST = timedelta(days=1)


@dataclass(frozen=True)
class Observed:
    """How long a request ran, as looks can tell: `seconds`, give or take `error_seconds`."""

    seconds: float
    error_seconds: float
    tells: bool
    """Whether others can learn from it: it was followed while it ran, or from the queue to its end."""


@dataclass
class PollSchedule:
    """What was seen of a request, on the monotonic clock.

    Args:
        polling: How often to look.
        began: When it was submitted; or, if nobody knows, when the waiting began.
        submission_known: Which of the two.
        forecast: Tells how long such requests run, as far as that is known by now.
    """

    polling: Polling
    began: float
    submission_known: bool
    forecast: Callable[[], Forecast | None]
    state: State = State.UNKNOWN
    queued_at: float | None = None
    """The latest look that found it in the queue."""
    left_queue_at: float | None = None
    """The first look that did not."""
    running_at: float | None = None
    """The latest look that found it running."""
    finished_at: float | None = None
    """The first look of those that found it finished, though its result was not there yet."""
    _first_place: tuple[float, int] | None = None
    _place: int | None = None

    def saw(self, state: State, now: float, place: int | None = None) -> None:
        """Take note of a look."""
        self.state = state
        if state is State.IN_QUEUE:
            self.queued_at, self.left_queue_at, self._place = now, None, place
            if place is not None and self._first_place is None:
                self._first_place = (now, place)
        elif state is State.IN_PROGRESS:
            self.running_at = now
        if not state.is_final:
            self.finished_at = None
        elif self.finished_at is None:
            self.finished_at = now
        if state not in (State.IN_QUEUE, State.UNKNOWN) and self.left_queue_at is None:
            self.left_queue_at = now

    def interval_seconds(self, now: float, stretch: float = 1.0) -> float:
        """Return the time until the next look.

        Args:
            now: The monotonic clock.
            stretch: How many times fewer looks there may be than the best plan has, where a rate has to be kept.
        """
        forecast = self.forecast()
        if self.state is State.IN_QUEUE:
            interval = self._in_queue(forecast, now) * stretch
        elif self.state is State.IN_PROGRESS and forecast is None and self.submission_known:
            interval = self.polling.default_interval_seconds * stretch
        elif self.state is State.IN_PROGRESS and (expected := self._expected(forecast)) is not None:
            interval = _until_next(expected, self.age(now), self.polling.fraction, stretch)
        elif self.finished_at is not None:
            interval = (now - self.finished_at) * _HALF * stretch
        else:
            interval = max(self.polling.default_interval_seconds, self.polling.fraction * (now - self.began)) * stretch
        longest = self.polling.max_interval_seconds * stretch
        return max(min(interval, longest), self.polling.min_interval_seconds)

    def seconds_left(self, now: float) -> float | None:
        """Return the time within which it ends as likely as not, if it is running and that is known."""
        expected = self._expected(self.forecast()) if self.state is State.IN_PROGRESS else None
        return None if expected is None else expected.seconds_left(self.age(now))

    def age(self, now: float) -> float:
        """Return how long it has been running: between the last look at it in the queue and the first after that."""
        earliest, latest = self._start(now)
        return now - (earliest + latest) * _HALF

    def observed(self, now: float) -> Observed:
        """Return how long it ran, if this is the first look that finds it finished."""
        earliest, latest = self._start(now)
        shortest = 0.0 if self.running_at is None else self.running_at - latest
        longest = now - earliest
        seconds = (shortest + longest) * _HALF
        start_known = latest - earliest <= _START_KNOWN * seconds
        seen_whole = self.queued_at is not None if self.running_at is None else start_known
        tells = self.submission_known and seen_whole
        return Observed(seconds, (longest - shortest) * _HALF, tells)

    def _start(self, now: float) -> tuple[float, float]:
        latest = now if self.left_queue_at is None else self.left_queue_at
        return (self.began if self.queued_at is None else self.queued_at), latest

    def _expected(self, forecast: Forecast | None) -> Forecast | None:
        """The forecast for this request once it runs; none where nobody knows when it began to run."""
        if forecast is None or self.left_queue_at is None or not (self.submission_known or self.queued_at is not None):
            return None
        earliest, latest = self._start(self.left_queue_at)
        return forecast.widened(latest - earliest)

    def _in_queue(self, forecast: Forecast | None, now: float) -> float:
        """Rarely while many are before it; but often enough to know when it began to run, and so when it may end."""
        polling = self.polling
        often = polling.default_interval_seconds if forecast is None else polling.fraction * forecast.median_seconds
        return max(often, polling.fraction * (now - self.began), self._wait_in_queue(now) * _HALF)

    def _wait_in_queue(self, now: float) -> float:
        """The time that it may be in the queue still: as long as its places have taken until now, or nobody knows."""
        if self._first_place is None or self._place is None or self._place >= self._first_place[1]:
            return 0.0
        since, first = self._first_place
        return (now - since) / (first - self._place) * (self._place - 1)


def _until_next(expected: Forecast, age: float, fraction: float, stretch: float) -> float:
    """Return the seconds until the next look at a request that has been running for `age` seconds.

    Before it can be due, nearly half the median at most: a few may end far earlier, and a forecast knows none of those.
    Once it can be due, at most `fraction` of its age; and where it is overdue, like hardly any before, ever longer.
    """
    first, last = expected.age_when(_RARE), expected.age_when(1 - _RARE)
    if age < first:
        return min(first - age, _EARLY * expected.median_seconds * stretch)
    best = _MEAN_DELAY * math.sqrt(expected.median_seconds * age * (1 + 1 / expected.odds(age)))
    return max(min(best, fraction * age), fraction * (age - last)) * stretch


def due_in(run_times: RunTimes, workload: str, age: timedelta, state: State) -> timedelta:
    """Return when a request that nobody follows has most probably ended: five in six of its kind took no longer.

    One that is in the queue has all of that before it. One that takes longer than that is due again after a quarter of
    its age, as is one that is old and in the queue still; and one of which nothing is known, when it is half as old
    again. So whatever is stuck is polled some dozens of times in all, not every few seconds for a day.
    """
    forecast = run_times.forecast(workload)
    if forecast is None:
        return min(age / 2, _LONGEST)
    likely = timedelta(seconds=min(forecast.age_when(5 / 6), 1e9))
    left = max(likely, age / 4) if state is State.IN_QUEUE else likely - age
    return min(left if left > timedelta() else age / 4, _LONGEST)
