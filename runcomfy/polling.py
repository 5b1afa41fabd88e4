"""When to look at a request, when to give up on it, and what is known of it in between."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import PollingFailed, RunTimeout, ServiceError
from runcomfy.wire import State

__all__ = ["Clock", "Deadlines", "Polling", "Watch"]

_CANCELS = 10
_MARGIN = timedelta(minutes=15)
_LONGEST_SECONDS = 30 * 86400.0
_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_RETRY_AFTER_SECONDS = 300.0


class Deadlines(BaseModel):
    """How long to wait for a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue_timeout_seconds: float = Field(
        3600,
        gt=0,
        le=_LONGEST_SECONDS,
        title="Queue timeout (s)",
        description="Still queued after this long: cancelled.",
    )
    run_timeout_seconds: float = Field(
        3600,
        gt=0,
        le=_LONGEST_SECONDS,
        title="Run timeout (s)",
        description="Still running after this long: given up, since nothing can stop it; it may be billed.",
    )

    @property
    def signed_for(self) -> timedelta:
        """How long a picture's URL is signed for: nobody knows when it is fetched, so it is both, and a margin."""
        return timedelta(seconds=self.queue_timeout_seconds + self.run_timeout_seconds) + _MARGIN


class Polling(BaseModel):
    """How often to look, and how many failed looks to bear.

    The interval grows with the time waited, so that a result is noticed within `fraction` of what it took, however
    long that is, in few calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fraction: float = Field(
        0.1, gt=0, title="Share of the time waited", description="The next look comes this much later."
    )
    min_interval_seconds: float = Field(
        1.0, gt=0, title="Shortest interval (s)", description="Between the first looks."
    )
    max_interval_seconds: float = Field(
        15.0, gt=0, title="Longest interval (s)", description="However long it has been waited."
    )
    max_failures: int = Field(60, ge=1, title="Failed looks in a row", description="Give up after this many.")
    failure_window_seconds: float = Field(
        900, gt=0, title="Failing for (s)", description="Give up when no look has worked for this long."
    )


@dataclass(frozen=True)
class Clock:
    """Time as an argument: wall clock (UTC), monotonic seconds, a sleep in seconds, and a random number in [0, 1)."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    random: Callable[[], float] = random.random


@dataclass
class Watch:
    """What is known of a request while it is followed, and what follows from it: go on, pause, or give up."""

    request_id: str
    deadlines: Deadlines
    polling: Polling
    clock: Clock
    started: float
    last_success: float
    polls: int = 0
    failures: int = 0
    cancels: int = 0
    cancel_refused: bool = False
    running_since: float | None = None
    state: State = field(default=State.UNKNOWN)

    def elapsed(self) -> float:
        """Return the seconds since the submission."""
        return self.clock.monotonic() - self.started

    def saw(self, state: State) -> None:
        """Take note of a look that worked. A word that nobody knows does not tell whether it has left the queue."""
        self.failures, self.last_success, self.state = 0, self.clock.monotonic(), state
        if state is State.IN_QUEUE and not self.cancel_refused:
            self.running_since = None
        elif state not in (State.IN_QUEUE, State.UNKNOWN) and self.running_since is None:
            self.running_since = self.clock.monotonic()

    def failed(self, error: ServiceError) -> None:
        """Bear a failed look, or give up.

        Raises:
            ServiceError: it is not of the kind that passes.
            PollingFailed: too many, or for too long.
        """
        if not error.retryable:
            raise error
        self.failures += 1
        failing_for = self.clock.monotonic() - self.last_success
        if self.failures >= self.polling.max_failures or failing_for >= self.polling.failure_window_seconds:
            raise PollingFailed(
                f"The state of the request could not be learnt for {failing_for:.0f} s ({self.failures} calls in a row "
                f"failed, the last with: {error.message}) It may be running and may be billed: fetch it later.",
                request_id=self.request_id,
                last_state=str(self.state),
            )

    def queue_deadline_passed(self) -> bool:
        """Whether the request is due to be cancelled: never seen out of the queue, and the queue deadline is over."""
        return self.running_since is None and self.elapsed() >= self.deadlines.queue_timeout_seconds

    def check_run_deadline(self) -> None:
        """Give up on a request that runs too long.

        Raises:
            RunTimeout: the run deadline is over.
        """
        if self.running_since is None:
            return
        running = self.clock.monotonic() - self.running_since
        if running >= self.deadlines.run_timeout_seconds:
            raise RunTimeout(
                f"The request was not finished {running:.0f} s after it left the queue (last seen: {self.state}). "
                "It may be running still, cannot be stopped, and may be billed: fetch it later.",
                request_id=self.request_id,
                last_state=str(self.state),
            )

    def pause_seconds(self, error: ServiceError | None) -> float:
        """How long to wait for the next look: at most to the next deadline, so that the last look comes right at it."""
        polling = self.polling
        pause = min(max(self.elapsed() * polling.fraction, polling.min_interval_seconds), polling.max_interval_seconds)
        if error is not None:
            back_off = min(
                polling.min_interval_seconds * 2.0 ** min(self.failures, 16), 2 * polling.max_interval_seconds
            )
            pause = max(back_off, min(error.retry_after_seconds or 0.0, _LONGEST_RETRY_AFTER_SECONDS))
        pause *= 1 + 0.1 * self.clock.random()
        if self.running_since is None:
            left = self.deadlines.queue_timeout_seconds - self.elapsed()
        else:
            left = self.deadlines.run_timeout_seconds - (self.clock.monotonic() - self.running_since)
        return min(pause, max(left, _SHORTEST_PAUSE_SECONDS) if left > 0 else polling.max_interval_seconds)

    def cancel_not_confirmed(self) -> None:
        """Count a cancel that was lost, refused or answered oddly; after the last, treat the request as running."""
        self.cancels += 1
        if self.cancels >= _CANCELS:
            self.cancel_is_refused()

    def cancel_is_refused(self) -> None:
        """Treat the request as running from now on, whatever it says of the queue."""
        self.cancel_refused, self.running_since = True, self.clock.monotonic()
