"""Wait for a request: the one polling loop of the project.

`poll_until_done` yields what each poll of the request shows, and the last one carries the result; the caller logs,
counts, or stops. A poll that fails says nothing about the request, so failures are tolerated, within bounds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import Clock, RateLimiter
from runcomfy.api.requests import GOES_ON, seen_after_cancel, succeeded
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
from runcomfy.telemetry.metrics import looking
from runcomfy.values import Result

__all__ = ["Poll", "poll_until_done"]

_CLOCKS_DIFFER_SECONDS = 60.0  # a little in the future is a submission of just now


@dataclass(frozen=True)
class Poll:
    """What one look at a request showed: its state, or why it could not be learnt, or, at the end, its result."""

    state: State
    waited_seconds: float
    queue_position: int | None = None
    seconds_left: float | None = None
    """The time within which it ends as likely as not, if it is running and others of its kind were seen."""
    failure: RunComfyError | None = None
    result: Result | None = None
    answer: Answer | None = None
    """What the service answered at the end, with URLs that may be signed: to be used at once, and never kept."""


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
    """Yield what each look at the request shows, until one carries its result.

    Args:
        client: The service.
        request_id: The request; nothing else is needed, so a request can be followed again after a crash.
        submitted_at: When it was submitted, UTC; the queue deadline counts from then, or else from now. The clock of
            the machine that submitted may be wrong by hours: a time that lies in the future, or so long ago that the
            deadline would be over at once, is not believed, and the deadline counts from now.
        deadlines: When to cancel it in the queue, and when to give up on a running one.
        polling: How often to look.
        clock: Time.
        workload: What it has in common with others that take as long: `runcomfy.models.workload_of`.
        run_times: What is known of those; what is seen of this one is added.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a video.
        QueueTimeout: it was cancelled at the queue deadline.
        RunTimeout, PollingFailed: it may be running and billed.
        ServiceError: the service refuses to tell: the token, or an unknown or expired request.
    """
    clock, polling = clock or Clock(), polling or Polling()
    run_times, rate_limiter = run_times or RunTimes(), client.rate_limiter
    deadlines, now = deadlines or Deadlines(), clock.monotonic()
    ago = _ago_seconds(submitted_at, clock, deadlines)
    plan = PollSchedule(polling, now - (ago or 0.0), ago is not None, lambda: run_times.forecast(workload))
    watch = PollState(request_id, deadlines, polling, clock, plan, last_success=now)
    try:
        while True:
            error: ServiceError | None = None
            try:
                with looking():
                    look = await _look(client, watch)
            except GenerationCancelled:
                if watch.cancels:  # by us: what the cancel did not say, the look does
                    raise _queue_timeout(watch) from None
                raise
            except ServiceError as caught:
                watch.failed(caught)
                error = caught
                look = Poll(watch.state, watch.elapsed(), failure=caught)
            if look.result is not None and workload:
                seen = plan.observed(clock.monotonic())
                if seen.tells:
                    run_times.saw(workload, seen.seconds)
            yield look
            if look.result is not None:
                return
            if watch.queue_deadline_passed():
                await _cancel_in_queue(client, watch)
            watch.check_run_deadline()
            await clock.sleep(_pause_seconds(watch, error, rate_limiter))
    finally:
        if rate_limiter is not None:
            rate_limiter.declare_rate(watch.request_id, 0.0)


def _ago_seconds(submitted_at: datetime | None, clock: Clock, deadlines: Deadlines) -> float | None:
    """Return how long ago a request was submitted, if that can be believed."""
    if submitted_at is None:
        return None
    ago = (clock.now() - submitted_at).total_seconds()
    if not -_CLOCKS_DIFFER_SECONDS <= ago < deadlines.queue_timeout_seconds:
        return None
    return max(0.0, ago)


def _pause_seconds(watch: PollState, error: ServiceError | None, rate_limiter: RateLimiter | None) -> float:
    """Return how long to wait, and tell those who wait at the same time how often this one would look."""
    pause = watch.pause_seconds(error)
    if rate_limiter is None:
        return pause
    if isinstance(error, RateLimited):
        rate_limiter.pause(pause)
    elif error is None:
        rate_limiter.declare_rate(watch.request_id, 1 / pause)
        if rate_limiter.backpressure > 1:
            return watch.pause_seconds(None, rate_limiter.backpressure)
    return pause


async def _look(client: RunComfyClient, watch: PollState) -> Poll:
    """Look once, and collect the result if the request is finished."""
    watch.polls += 1
    status = await client.status(watch.request_id)
    if status.state.is_final:
        answer: Answer | None = await client.result(watch.request_id)
    else:
        answer = await _told_all_the_same(client, watch) if status.state is State.UNKNOWN else None
    if answer is None or (answer.state is State.UNKNOWN and not status.state.is_final):
        watch.saw(status.state, status.queue_position)
        left = watch.plan.seconds_left(watch.clock.monotonic())
        return Poll(status.state, watch.elapsed(), queue_position=status.queue_position, seconds_left=left)
    watch.saw(State.COMPLETED if answer.state is State.UNKNOWN else answer.state)
    try:
        result = _conclude(answer, watch)
    except NoOutput as error:
        watch.named_no_output(error)
        return Poll(State.COMPLETED, watch.elapsed())
    return Poll(answer.state, watch.elapsed(), result=result, answer=answer)


async def _told_all_the_same(client: RunComfyClient, watch: PollState) -> Answer | None:
    """Ask for the result of a request whose status is a word that nobody knows: it may hide the end.

    Where the result is not told, the status was, so the look has not failed; unless the request is not known any more.
    """
    try:
        return await client.result(watch.request_id)
    except RequestNotFound:
        raise
    except ServiceError:
        return None


def _conclude(answer: Answer, watch: PollState) -> Result | None:
    """Return the result of a request that succeeded, and `None` for one whose result is not there yet."""
    if not succeeded(answer):
        return None
    plan, seen = watch.plan, watch.plan.observed(watch.clock.monotonic())
    left_queue_at = plan.left_queue_at
    return Result(
        request_id=watch.request_id,
        output_count=len(answer.outputs),
        noticed_at=watch.clock.now(),
        queued_seconds=None if left_queue_at is None else round(left_queue_at - plan.began, 3),
        running_seconds=round(seen.seconds, 3),
        running_error_seconds=round(seen.error_seconds, 3),
        polls=watch.polls,
        created_at=answer.created_at,
        finished_at=answer.finished_at,
        cost_usd=answer.cost_usd,
        warnings=answer.warnings,
    )


async def _cancel_in_queue(client: RunComfyClient, watch: PollState) -> None:
    """Cancel at the queue deadline, and believe the outcome; one that cannot be cancelled is followed on."""
    try:
        outcome = (await client.cancel(watch.request_id)).outcome
    except ServiceError:
        outcome = None
    seen = await seen_after_cancel(client, watch.request_id) if outcome == "cancelled" else None
    if seen is State.CANCELLED:
        raise _queue_timeout(watch)
    if outcome == "not_cancellable" or seen in GOES_ON:
        watch.cancel_is_refused()
    else:
        watch.cancel_not_confirmed()


def _queue_timeout(watch: PollState) -> QueueTimeout:
    return QueueTimeout(
        f"The request was still in the queue after {watch.elapsed():.0f} s and was cancelled.",
        request_id=watch.request_id,
    )
