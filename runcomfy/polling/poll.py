"""Wait for a request: the one polling loop of the project.

`poll_until_done` yields what each poll of the request shows, and the last one carries the result; the caller logs,
counts, or stops. A poll that fails says nothing about the request, so failures are tolerated, within limits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import Clock, RateLimiter
from runcomfy.api.requests import NOT_CANCELLED, state_after_cancel, succeeded
from runcomfy.api.responses import Answer, State
from runcomfy.errors import (
    GenerationCancelled,
    NoOutput,
    QueueTimeout,
    RateLimited,
    RequestNotFound,
    RunComfyError,
    ServiceError,
)
from runcomfy.policy import Deadlines, Polling
from runcomfy.polling.forecast import RunTimes
from runcomfy.polling.poll_state import PollState
from runcomfy.polling.schedule import PollSchedule
from runcomfy.telemetry.metrics import count_poll
from runcomfy.values import Result

__all__ = ["Poll", "poll_until_done"]

_CLOCKS_DIFFER_SECONDS = 60.0  # a submission up to this far in the future was made just now


@dataclass(frozen=True)
class Poll:
    """What one poll of a request showed: its state, or why that is unknown, or, at the end, its result."""

    state: State
    waited_seconds: float
    queue_position: int | None = None
    seconds_left: float | None = None
    """The median of the time left, if it is running and others of its kind were seen."""
    failure: RunComfyError | None = None
    result: Result | None = None
    answer: Answer | None = None
    """The service's answer at the end. Its URLs may be signed: use them at once, and never store them."""


async def poll_until_done(
    client: RunComfyClient,
    request_id: str,
    *,
    submitted_at: datetime | None = None,
    deadlines: Deadlines | None = None,
    polling: Polling | None = None,
    clock: Clock | None = None,
    workload: str | None = None,
    run_times: RunTimes | None = None,
) -> AsyncIterator[Poll]:
    """Yield what each poll of the request shows, until one carries its result.

    Args:
        client: The service.
        request_id: The request; nothing else is needed, so polling can go on after a crash.
        submitted_at: When it was submitted, UTC; the queue deadline counts from then, or else from now. The clock of
            the machine that submitted may be wrong by hours: a time in the future, or so long ago that the deadline
            would be over at once, is ignored, and the deadline counts from now.
        deadlines: When to cancel it in the queue, and when to give up on a running one.
        polling: How often to poll.
        clock: Time.
        workload: What it has in common with others that take as long: `runcomfy.models.workload_of`.
        run_times: The run times of those; this one's is added.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a video.
        QueueTimeout: it was cancelled at the queue deadline.
        RunTimeout, PollingFailed: it may be running and billed.
        ServiceError: the service refused: the token is wrong, or the request unknown or expired.
    """
    clock, polling = clock or Clock(), polling or Polling()
    run_times, rate_limiter = run_times or RunTimes(), client.rate_limiter
    deadlines, now = deadlines or Deadlines(), clock.monotonic()
    ago = _ago_seconds(submitted_at, clock, deadlines)
    schedule = PollSchedule(polling, now - (ago or 0.0), ago is not None, lambda: run_times.forecast(workload))
    state = PollState(request_id, deadlines, polling, clock, schedule, last_success=now)
    try:
        while True:
            error: ServiceError | None = None
            try:
                with count_poll():
                    poll = await _poll(client, state)
            except GenerationCancelled:
                if state.cancels:  # by us: its answer was lost, and this poll confirms it
                    raise _queue_timeout(state) from None
                raise
            except ServiceError as caught:
                state.record_failure(caught)
                error = caught
                poll = Poll(state.last_state, state.elapsed(), failure=caught)
            if poll.result is not None and workload:
                observed = schedule.observed(clock.monotonic())
                if observed.is_complete:
                    run_times.record(workload, observed.seconds)
                if poll.result.cost_usd is not None:
                    run_times.record_cost(workload, poll.result.cost_usd)
            yield poll
            if poll.result is not None:
                return
            if state.queue_deadline_passed():
                await _cancel_in_queue(client, state)
            state.check_run_deadline()
            await clock.sleep(_pause_seconds(state, error, rate_limiter))
    finally:
        if rate_limiter is not None:
            rate_limiter.declare_rate(state.request_id, 0.0)


def _ago_seconds(submitted_at: datetime | None, clock: Clock, deadlines: Deadlines) -> float | None:
    """Return how long ago a request was submitted, if that is plausible."""
    if submitted_at is None:
        return None
    ago = (clock.now() - submitted_at).total_seconds()
    if not -_CLOCKS_DIFFER_SECONDS <= ago < deadlines.queue_timeout_seconds:
        return None
    return max(0.0, ago)


def _pause_seconds(state: PollState, error: ServiceError | None, rate_limiter: RateLimiter | None) -> float:
    """Return how long to wait, and declare to the rate limiter how often this request would be polled."""
    pause = state.pause_seconds(error)
    if rate_limiter is None:
        return pause
    if isinstance(error, RateLimited):
        rate_limiter.pause(pause)
    elif error is None:
        rate_limiter.declare_rate(state.request_id, 1 / pause)
        if rate_limiter.backpressure > 1:
            return state.pause_seconds(None, rate_limiter.backpressure)
    return pause


async def _poll(client: RunComfyClient, state: PollState) -> Poll:
    """Poll once, and fetch the result if the request is finished."""
    state.polls += 1
    status = await client.status(state.request_id)
    if status.state.is_final:
        answer: Answer | None = await client.result(state.request_id)
    else:
        answer = await _result_anyway(client, state) if status.state is State.UNKNOWN else None
    if answer is None or (answer.state is State.UNKNOWN and not status.state.is_final):
        state.record(status.state, status.queue_position)
        left = state.schedule.seconds_left(state.clock.monotonic())
        return Poll(status.state, state.elapsed(), queue_position=status.queue_position, seconds_left=left)
    state.record(State.COMPLETED if answer.state is State.UNKNOWN else answer.state)
    try:
        result = _conclude(answer, state)
    except NoOutput as error:
        state.record_no_output(error)
        return Poll(State.COMPLETED, state.elapsed())
    return Poll(answer.state, state.elapsed(), result=result, answer=answer)


async def _result_anyway(client: RunComfyClient, state: PollState) -> Answer | None:
    """Ask for the result of a request whose status is an unknown word: it may have ended.

    If that call fails, the poll has not: its status was answered. Only a request that no longer exists is an error.
    """
    try:
        return await client.result(state.request_id)
    except RequestNotFound:
        raise
    except ServiceError:
        return None


def _conclude(answer: Answer, state: PollState) -> Result | None:
    """Return the result of a request that succeeded, or `None` if its result is not there yet."""
    if not succeeded(answer):
        return None
    schedule, observed = state.schedule, state.schedule.observed(state.clock.monotonic())
    left_queue_at = schedule.left_queue_at
    return Result(
        request_id=state.request_id,
        output_count=len(answer.outputs),
        noticed_at=state.clock.now(),
        queued_seconds=None if left_queue_at is None else round(left_queue_at - schedule.began, 3),
        running_seconds=round(observed.seconds, 3),
        running_error_seconds=round(observed.error_seconds, 3),
        polls=state.polls,
        created_at=answer.created_at,
        finished_at=answer.finished_at,
        cost_usd=answer.cost_usd,
        warnings=answer.warnings,
    )


async def _cancel_in_queue(client: RunComfyClient, state: PollState) -> None:
    """Cancel at the queue deadline, and make sure of it; a request that cannot be cancelled is polled further."""
    try:
        outcome = (await client.cancel(state.request_id)).outcome
    except ServiceError:
        outcome = None
    after = await state_after_cancel(client, state.request_id) if outcome == "cancelled" else None
    if after is State.CANCELLED:
        raise _queue_timeout(state)
    if outcome == "not_cancellable" or after in NOT_CANCELLED:
        state.record_refused_cancel()
    else:
        state.record_unconfirmed_cancel()


def _queue_timeout(state: PollState) -> QueueTimeout:
    return QueueTimeout(
        f"The request was still in the queue after {state.elapsed():.0f} s and was cancelled.",
        request_id=state.request_id,
    )
