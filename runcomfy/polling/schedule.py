"""When to poll a request next, from what was seen of it and what is known of others like it.

A poll costs a call, and a result that is not polled waits. Where the distribution of run times is known, the best
polls are as dense as the square root of the hazard rate (the inspection problem: R. E. Barlow, F. Proschan,
Mathematical Theory of Reliability, 1965, chapter 4): rarely while nothing can be ready, often when it is due. For a
log-logistic distribution that is one line, whatever its spread: the interval is the desired mean delay, times the
square root of age / (median x share that has ended). docs/performance.md has the measurements.
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
_RARE = 0.01  # so many end before they can be due, and as many are overdue
_LONGEST = timedelta(days=1)


@dataclass(frozen=True)
class Observed:
    """How long a request ran, as far as polls can show: `seconds`, plus or minus `error_seconds`."""

    seconds: float
    error_seconds: float
    is_complete: bool
    """Whether it can predict others: it was polled from the start of its run, or from the queue to its end."""


@dataclass
class PollSchedule:
    """What was seen of a request, on the monotonic clock.

    Args:
        polling: How often to poll.
        began: When it was submitted; or, if that is unknown, when the waiting began.
        submission_known: Which of the two.
        forecast: Returns how long such requests run, as far as that is known by now.
    """

    polling: Polling
    began: float
    submission_known: bool
    forecast: Callable[[], Forecast | None]
    state: State = State.UNKNOWN
    queued_at: float | None = None
    """The latest poll that found it in the queue."""
    left_queue_at: float | None = None
    """The first poll that did not."""
    running_at: float | None = None
    """The latest poll that found it running."""
    finished_at: float | None = None
    """The first poll of those that found it finished, although its result was not there yet."""
    _first_position: tuple[float, int] | None = None
    _position: int | None = None

    def record(self, state: State, now: float, queue_position: int | None = None) -> None:
        """Record a poll."""
        self.state = state
        if state is State.IN_QUEUE:
            self.queued_at, self.left_queue_at, self._position = now, None, queue_position
            if queue_position is not None and self._first_position is None:
                self._first_position = (now, queue_position)
        elif state is State.IN_PROGRESS:
            self.running_at = now
        if not state.is_final:
            self.finished_at = None
        elif self.finished_at is None:
            self.finished_at = now
        if state not in (State.IN_QUEUE, State.UNKNOWN) and self.left_queue_at is None:
            self.left_queue_at = now

    def interval_seconds(self, now: float, backpressure: float = 1.0) -> float:
        """Return the time until the next poll.

        Args:
            now: The monotonic clock.
            backpressure: How many times longer than the best interval to wait, where a rate has to be kept.
        """
        forecast, polling = self.forecast(), self.polling
        if self.state is State.IN_QUEUE:
            interval = self._in_queue(forecast, now) * backpressure
        elif self.state is State.IN_PROGRESS and forecast is None and self.submission_known:
            interval = polling.default_interval_seconds * backpressure
        elif self.state is State.IN_PROGRESS and (expected := self._expected(forecast)) is not None:
            interval = _until_next(expected, self.age(now), polling.fraction, backpressure)
        elif self.finished_at is not None:
            interval = (now - self.finished_at) * _HALF * backpressure
        else:
            interval = max(polling.default_interval_seconds, polling.fraction * (now - self.began)) * backpressure
        longest = polling.max_interval_seconds * backpressure
        return max(min(interval, longest), polling.min_interval_seconds)

    def seconds_left(self, now: float) -> float | None:
        """Return the median of the time left, if it is running and that is known."""
        expected = self._expected(self.forecast()) if self.state is State.IN_PROGRESS else None
        return None if expected is None else expected.seconds_left(self.age(now))

    def age(self, now: float) -> float:
        """Return how long it has been running: since midway between the last poll in the queue and the first after."""
        earliest, latest = self._start(now)
        return now - (earliest + latest) * _HALF

    def observed(self, now: float) -> Observed:
        """Return how long it ran, if this is the first poll that finds it finished."""
        earliest, latest = self._start(now)
        shortest = 0.0 if self.running_at is None else self.running_at - latest
        longest = now - earliest
        seconds = (shortest + longest) * _HALF
        start_known = latest - earliest <= _START_KNOWN * seconds
        seen_whole = self.queued_at is not None if self.running_at is None else start_known
        is_complete = self.submission_known and seen_whole
        return Observed(seconds, (longest - shortest) * _HALF, is_complete)

    def _start(self, now: float) -> tuple[float, float]:
        latest = now if self.left_queue_at is None else self.left_queue_at
        return (self.began if self.queued_at is None else self.queued_at), latest

    def _expected(self, forecast: Forecast | None) -> Forecast | None:
        """The forecast for this request once it runs; `None` if it was unknown when it began to run."""
        if forecast is None or self.left_queue_at is None or not (self.submission_known or self.queued_at is not None):
            return None
        earliest, latest = self._start(self.left_queue_at)
        return forecast.widened(latest - earliest)

    def _in_queue(self, forecast: Forecast | None, now: float) -> float:
        """Poll rarely while many are before it, but often enough to learn when it begins to run, so when it may end."""
        polling = self.polling
        often = polling.default_interval_seconds if forecast is None else polling.fraction * forecast.median_seconds
        return max(often, polling.fraction * (now - self.began), self._wait_in_queue(now) * _HALF)

    def _wait_in_queue(self, now: float) -> float:
        """The time that it may stay in the queue, at the pace of its positions so far; 0 if that is unknown."""
        if self._first_position is None or self._position is None or self._position >= self._first_position[1]:
            return 0.0
        since, first = self._first_position
        return (now - since) / (first - self._position) * (self._position - 1)


def _until_next(expected: Forecast, age: float, fraction: float, backpressure: float) -> float:
    """Return the seconds until the next poll of a request that has been running for `age` seconds.

    Before it can be due, nearly half the median at most: a few may end far earlier than any forecast says. Once it can
    be due, at most `fraction` of its age. Once it is overdue, longer and longer.
    """
    first, last = expected.age_when(_RARE), expected.age_when(1 - _RARE)
    if age < first:
        return min(first - age, _EARLY * expected.median_seconds * backpressure)
    best = _MEAN_DELAY * math.sqrt(expected.median_seconds * age * (1 + 1 / expected.odds(age)))
    return max(min(best, fraction * age), fraction * (age - last)) * backpressure


def due_in(run_times: RunTimes, workload: str, age: timedelta, state: State) -> timedelta:
    """Return in how long a request that is not being polled has most probably ended: five in six took no longer.

    A request in the queue has its whole run time ahead. One that is overdue, or old and still in the queue, is due
    again after a quarter of its age; one of a kind that is unknown, after half its age. So whatever is stuck is polled
    some dozens of times in all, not every few seconds for a day.
    """
    forecast = run_times.forecast(workload)
    if forecast is None:
        return min(age / 2, _LONGEST)
    likely = timedelta(seconds=min(forecast.age_when(5 / 6), 1e9))
    left = max(likely, age / 4) if state is State.IN_QUEUE else likely - age
    return min(left if left > timedelta() else age / 4, _LONGEST)
