"""What is known of a request while it is polled, and what follows from it: poll again, when, or give up."""

from __future__ import annotations

from dataclasses import dataclass

from runcomfy.api.rate_limit import Clock
from runcomfy.api.refusals import ANOTHER_ACCOUNT, REPLICAS_LAG_SECONDS
from runcomfy.api.responses import State
from runcomfy.errors import NoOutput, PollingFailed, RequestNotFound, RunTimeout, ServiceError
from runcomfy.policy import Deadlines, Polling
from runcomfy.polling.schedule import PollSchedule

__all__ = ["PollState"]

_MAX_CANCELS = 10
_SHORTEST_PAUSE_SECONDS = 0.05
_AFTER_DEADLINE_SECONDS = 15.0  # between cancels that are not confirmed
_LONGEST_BACK_OFF_SECONDS = 30.0
_LONGEST_RETRY_AFTER_SECONDS = 300.0
_MAX_POLLS_FOR_OUTPUT = 5  # with pauses of 1, 2, 4 and 8 times the shortest interval between them


@dataclass
class PollState:
    """What is known of a request while it is polled, and what follows from it: go on, pause, or give up."""

    request_id: str
    deadlines: Deadlines
    polling: Polling
    clock: Clock
    schedule: PollSchedule
    last_success: float
    polls: int = 0
    failures: int = 0
    cancels: int = 0
    cancel_refused: bool = False
    running_since: float | None = None
    """When the run deadline began to count."""
    no_output: NoOutput | None = None
    """Set while the latest result says that it succeeded but names no file, which may lag behind."""
    polls_for_output: int = 0

    @property
    def last_state(self) -> State:
        """The state that the latest successful poll showed."""
        return self.schedule.state

    def elapsed(self) -> float:
        """Return the seconds since the submission."""
        return self.clock.monotonic() - self.schedule.began

    def record(self, state: State, queue_position: int | None = None) -> None:
        """Record a successful poll. With an unknown word for a state, the request may still be in the queue."""
        self.failures, self.last_success = 0, self.clock.monotonic()
        self.schedule.record(state, self.last_success, queue_position)
        if state is State.IN_QUEUE and not self.cancel_refused:
            self.running_since = None
        elif state not in (State.IN_QUEUE, State.UNKNOWN) and self.running_since is None:
            self.running_since = self.clock.monotonic()

    def record_failure(self, error: ServiceError) -> None:
        """Tolerate a failed poll, or give up.

        Raises:
            ServiceError: trying again cannot help.
            PollingFailed: too many failed, or for too long.
        """
        if not error.retryable and not self._may_lag(error):
            raise error
        self.failures += 1
        failing_for = self.clock.monotonic() - self.last_success
        if self.failures >= self.polling.max_failures or failing_for >= self.polling.failure_window_seconds:
            raise PollingFailed(
                f"The state of the request could not be read for {failing_for:.0f} s ({self.failures} calls in a row "
                f"failed, the last with: {error.message}) It may be running and may be billed: fetch it later.",
                request_id=self.request_id,
                last_state=str(self.last_state),
            )

    def _may_lag(self, error: ServiceError) -> bool:
        """Whether a replica may not know our own submission yet."""
        unknown = isinstance(error, RequestNotFound) and error.error_code != ANOTHER_ACCOUNT
        return unknown and self.schedule.submission_known and self.elapsed() < REPLICAS_LAG_SECONDS

    def record_no_output(self, error: NoOutput) -> None:
        """Tolerate a result without its file, which may lag behind.

        Raises:
            NoOutput: this happened a few times.
        """
        self.no_output, self.polls_for_output = error, self.polls_for_output + 1
        if self.polls_for_output >= _MAX_POLLS_FOR_OUTPUT:
            raise error

    def queue_deadline_passed(self) -> bool:
        """Whether to cancel the request: it was never seen outside the queue, and the queue deadline is over."""
        return self.running_since is None and self.elapsed() >= self.deadlines.queue_timeout_seconds

    def check_run_deadline(self) -> None:
        """Give up on a request that runs too long.

        Raises:
            RunTimeout: the run deadline is over.
            NoOutput: it is over, and the request succeeded without a file.
        """
        if self.running_since is None:
            return
        running = self.clock.monotonic() - self.running_since
        if running >= self.deadlines.run_timeout_seconds:
            if self.no_output is not None:
                raise self.no_output
            raise RunTimeout(
                f"The request was not finished {running:.0f} s after it left the queue (last seen: {self.last_state}). "
                "It may be running still, cannot be stopped, and may be billed: fetch it later.",
                request_id=self.request_id,
                last_state=str(self.last_state),
            )

    def pause_seconds(self, error: ServiceError | None, backpressure: float = 1.0) -> float:
        """How long to wait for the next poll: at most to the next deadline, so that the last poll comes right at it.

        Args:
            error: What the last poll failed with.
            backpressure: How many times longer than the best interval, so that all together keep within a rate.
        """
        if error is None and self.no_output is not None:
            pause = self.polling.min_interval_seconds * 2.0 ** (self.polls_for_output - 1)
        elif error is None:
            pause = self.schedule.interval_seconds(self.clock.monotonic(), backpressure)
        else:
            pause = self._back_off_seconds(error)
        if self.running_since is None:
            left = self.deadlines.queue_timeout_seconds - self.elapsed()
        else:
            left = self.deadlines.run_timeout_seconds - (self.clock.monotonic() - self.running_since)
        return min(pause, max(left, _SHORTEST_PAUSE_SECONDS) if left > 0 else _AFTER_DEADLINE_SECONDS)

    def _back_off_seconds(self, error: ServiceError) -> float:
        doubled = self.polling.min_interval_seconds * 2.0 ** min(self.failures, 16)
        asked = min(error.retry_after_seconds or 0.0, _LONGEST_RETRY_AFTER_SECONDS)
        return max(min(doubled, _LONGEST_BACK_OFF_SECONDS), asked) * (1 + 0.1 * self.clock.random())

    def record_unconfirmed_cancel(self) -> None:
        """Count a cancel that was lost, refused or answered oddly; after ten, treat the request as running."""
        self.cancels += 1
        if self.cancels >= _MAX_CANCELS:
            self.record_refused_cancel()

    def record_refused_cancel(self) -> None:
        """Treat the request as running from now on, even if it says that it is in the queue."""
        self.cancel_refused, self.running_since = True, self.clock.monotonic()
