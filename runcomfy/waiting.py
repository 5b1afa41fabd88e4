"""Wait for a request: the one polling loop of the project.

`follow` yields what each look at the request shows, and its last look carries the result; whoever iterates logs,
counts, or stops. A look that fails says nothing about the request, so failures are tolerated, within bounds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from runcomfy.cancelling import seen_after_cancel
from runcomfy.client import RunComfyClient
from runcomfy.errors import GenerationCancelled, QueueTimeout, RunComfyError, ServiceError
from runcomfy.outcome import succeeded
from runcomfy.polling import Clock, Deadlines, Polling, Watch
from runcomfy.wire import Answer, State

__all__ = ["Look", "Result", "follow"]


class Result(BaseModel):
    """A request that succeeded. It names no output URL: those may be signed, and are asked for when they are needed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str
    output_count: int
    noticed_at: datetime
    """When we saw that it had succeeded, UTC."""
    queued_seconds: float | None
    """From the submission to the first look that did not find it in the queue; `None` if the waiting began later."""
    running_seconds: float | None
    polls: int
    created_at: str | None = None
    finished_at: str | None = None
    cost_usd: float | None = None


@dataclass(frozen=True)
class Look:
    """What one look at a request showed: its state, or why it could not be learnt, or, at the end, its result."""

    state: State
    waited_seconds: float
    queue_position: int | None = None
    failure: RunComfyError | None = None
    result: Result | None = None


async def follow(
    client: RunComfyClient,
    request_id: str,
    *,
    submitted_at: datetime | None = None,
    deadlines: Deadlines | None = None,
    polling: Polling | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Look]:
    """Yield what each look at the request shows, until one carries its result.

    Args:
        client: The service.
        request_id: The request; nothing else is needed, so a request can be followed again after a crash.
        submitted_at: When it was submitted, UTC; the queue deadline counts from then, or else from now.
        deadlines: When to cancel it in the queue, and when to give up on a running one.
        polling: How often to look.
        clock: Time.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a video.
        QueueTimeout: it was cancelled at the queue deadline.
        RunTimeout, PollingFailed: it may be running and billed.
        ServiceError: the service refuses to tell: the token, or an unknown or expired request.
    """
    clock = clock or Clock()
    began = clock.monotonic() - (max(0.0, (clock.now() - submitted_at).total_seconds()) if submitted_at else 0.0)
    watch = Watch(
        request_id, deadlines or Deadlines(), polling or Polling(), clock, began, last_success=clock.monotonic()
    )
    while True:
        error: ServiceError | None = None
        try:
            look = await _look(client, watch)
        except GenerationCancelled:
            if watch.cancels:  # by us: what the cancel did not say, the look does
                raise _queue_timeout(watch) from None
            raise
        except ServiceError as caught:
            watch.failed(caught)
            error = caught
            look = Look(watch.state, watch.elapsed(), failure=caught)
        yield look
        if look.result is not None:
            return
        if watch.queue_deadline_passed():
            await _cancel_in_queue(client, watch)
        watch.check_run_deadline()
        await clock.sleep(watch.pause_seconds(error))


async def _look(client: RunComfyClient, watch: Watch) -> Look:
    """Look once, and collect the result if the request is finished."""
    watch.polls += 1
    status = await client.status(watch.request_id)
    if not status.state.is_final:
        watch.saw(status.state)
        return Look(status.state, watch.elapsed(), queue_position=status.queue_position)
    answer = await client.result(watch.request_id)
    watch.saw(State.COMPLETED if answer.state is State.UNKNOWN else answer.state)
    return Look(answer.state, watch.elapsed(), result=_conclude(answer, watch))


def _conclude(answer: Answer, watch: Watch) -> Result | None:
    """Return the result of a request that succeeded, and `None` for one whose result is not there yet."""
    if not succeeded(answer):
        return None
    started = watch.running_since
    return Result(
        request_id=watch.request_id,
        output_count=len(answer.outputs),
        noticed_at=watch.clock.now(),
        queued_seconds=None if started is None else round(started - watch.started, 3),
        running_seconds=None if started is None else round(watch.clock.monotonic() - started, 3),
        polls=watch.polls,
        created_at=answer.created_at,
        finished_at=answer.finished_at,
        cost_usd=answer.cost_usd,
    )


async def _cancel_in_queue(client: RunComfyClient, watch: Watch) -> None:
    """Cancel at the queue deadline, and believe the outcome; one that cannot be cancelled is followed on."""
    try:
        outcome = (await client.cancel(watch.request_id)).outcome
    except ServiceError:
        outcome = None
    seen = await seen_after_cancel(client, watch.request_id) if outcome == "cancelled" else None
    if seen is State.CANCELLED:
        raise _queue_timeout(watch)
    if outcome == "not_cancellable" or seen in (State.IN_PROGRESS, State.SUCCEEDED):
        watch.cancel_is_refused()
    else:
        watch.cancel_not_confirmed()


def _queue_timeout(watch: Watch) -> QueueTimeout:
    return QueueTimeout(
        f"The request was still in the queue after {watch.elapsed():.0f} s and was cancelled.",
        request_id=watch.request_id,
    )
