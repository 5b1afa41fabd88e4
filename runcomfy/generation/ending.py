"""How the waiting for a request ends: what an error, or an interruption, means for it, recorded and emitted.

A person who cancels a run, or presses Ctrl-C, means the request as well, and so does a configured time-out. A
platform that stops a process (a redeploy, an eviction) does not. All of them arrive as the same exception; the hooks
know which it was. A cancelled run whose process is dead is for `reconcile`, a cancelled batch for
`tasks.batch.shards`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio

from runcomfy.api.client import RunComfyClient
from runcomfy.errors import RunComfyError, UncertainSubmission
from runcomfy.generation.destination import Destination
from runcomfy.generation.hooks import Hooks, StateChange
from runcomfy.interruption.keyboard import ctrl_c_pressed, noticing_ctrl_c
from runcomfy.journal import EntryState, cancel_or_detach, record_outcome
from runcomfy.journal.record import state_after
from runcomfy.policy import OnInterrupt
from runcomfy.telemetry.request import MeasuredRequest

__all__ = ["end_emitted", "end_recorded", "handle_cancellation", "handled_if_interrupted"]

_CANCELLING_SECONDS = 20


@contextmanager
def end_emitted(
    hooks: Hooks, destination: Destination | None, key: str | None, request_id: str | None
) -> Iterator[None]:
    """Emit the error that ends the body, if it is about the generation's state; nothing without a bucket."""
    try:
        yield
    except RunComfyError as error:
        state = EntryState.UNCERTAIN if isinstance(error, UncertainSubmission) else state_after(error)
        if destination is not None and state is not None:
            hooks.changed(
                StateChange(
                    state,
                    destination.uri,
                    key=key or error.generation_key,
                    request_id=request_id or error.request_id,
                    model_id=error.model_id,
                    reason=error.message,
                    error_type=type(error).__name__,
                )
            )
        raise


@asynccontextmanager
async def end_recorded(
    hooks: Hooks, destination: Destination | None, key: str | None, request_id: str
) -> AsyncIterator[None]:
    """Record the error that ends the body in the journal, and emit it, if it is about the request's state.

    Every error gets the ids of the request and of its generation, which show that something was paid for.
    """
    journal = destination.journal if destination is not None and key is not None else None
    with end_emitted(hooks, destination, key, request_id):
        try:
            async with record_outcome(journal, key, request_id):
                yield
        except RunComfyError as error:
            error.request_id = error.request_id or request_id
            error.generation_key = error.generation_key or key
            raise


@asynccontextmanager
async def handled_if_interrupted(
    client: RunComfyClient,
    hooks: Hooks,
    destination: Destination | None,
    key: str | None,
    request_id: str,
    how: OnInterrupt,
) -> AsyncIterator[None]:
    """Cancel or leave the request if the body is cancelled; the cancellation continues afterwards."""
    with noticing_ctrl_c(hooks.notices_ctrl_c):
        try:
            yield
        except asyncio.CancelledError:
            await handle_cancellation(client, hooks, destination, key, request_id, how)
            raise


async def handle_cancellation(
    client: RunComfyClient,
    hooks: Hooks,
    destination: Destination | None,
    key: str | None,
    request_id: str,
    how: OnInterrupt,
    *,
    timed_out: bool = False,
) -> None:
    """Cancel the request if that was intended, and record, emit and log the outcome.

    Await it during a cancellation: it still runs to its end, within 20 seconds. Say `timed_out` where a time-out that
    the hooks do not know of interrupted the run.
    """
    timed_out = timed_out or hooks.timed_out()  # before anything else takes time
    with anyio.move_on_after(_CANCELLING_SECONDS, shield=True) as scope:
        reason = await _reason_to_cancel(how, hooks, timed_out=timed_out)
        if reason is None:
            hooks.log.warning(
                "Interrupted, not cancelled: request %s goes on, and the next run collects it", request_id
            )
            return
        journal = destination.journal if destination is not None else None
        try:
            state = await cancel_or_detach(client, journal, key, request_id, reason=reason)
        except RunComfyError as error:
            hooks.log.error("Request %s could not be cancelled and may be billed: %s", request_id, error)
            return
        if state is EntryState.ARCHIVED:
            hooks.log.info("Request %s is archived already, so there was nothing to cancel", request_id)
            return
        if destination is not None:
            hooks.changed(StateChange(state, destination.uri, key=key, request_id=request_id, reason=reason))
        if state is EntryState.CANCELLED:
            MeasuredRequest(request_id, key=key).record_end(state)
            hooks.log.warning("Request %s was cancelled in the queue (%s)", request_id, reason)
        else:
            hooks.log.warning(
                "Request %s cannot be cancelled any more (%s): it may be billed, and is collected by the next run or "
                "by reconcile",
                request_id,
                reason,
            )
    if scope.cancelled_caught:
        hooks.log.error(
            "There was no time to cancel request %s: it may be billed, and the next run collects it", request_id
        )


async def _reason_to_cancel(how: OnInterrupt, hooks: Hooks, *, timed_out: bool) -> str | None:
    """Return why the request is to be cancelled; `None` if it is not."""
    if how == "cancel":
        return "interrupted, and on_interrupt is cancel"
    if how == "leave":
        return None
    if ctrl_c_pressed():
        return "somebody pressed Ctrl-C"
    if timed_out:
        return "the run's or the task's timeout_seconds was over"
    return "somebody cancelled the run" if await hooks.cancellation_requested() else None
