"""What becomes of a request when the code that waits for it is interrupted.

A person who cancels a flow run, or presses Ctrl-C, means the request as well, and so does a time-out that somebody set.
A platform that stops a process (a redeploy, an eviction) does not, though all of them arrive as the same exception;
what tells them apart is the flow run's state, the clock, and who sent the signal.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import anyio
import httpx
from cachetools import LRUCache
from prefect import get_client, get_run_logger, runtime
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException

from blocks import MediaStore
from runcomfy.client import RunComfyClient
from runcomfy.errors import RunComfyError
from runcomfy.journal import EntryState, withdraw
from runcomfy.policy import OnInterrupt
from runcomfy.shutdown import shutdown
from runcomfy.telemetry.request import MeasuredRequest
from tasks.events import tell_event
from tasks.keyboard import ctrl_c_pressed, noticing_ctrl_c

__all__ = ["cancellation_requested", "settle", "settled_if_interrupted", "watchful_sleep"]


_PATIENCE_SECONDS = 20
_WATCH_SECONDS = 3.0
_WATCH_DEPLOYED_SECONDS = 15.0
_STOP_SECONDS = 1.0
_TIMEOUT_TOLERANCE_SECONDS = 0.5


class _Watch:
    """What is known of the wish to cancel one flow run; a thousand requests that ask at once share a look or two."""

    def __init__(self) -> None:
        self.cancelled = False
        self._looked_at = -math.inf
        self._one_at_a_time = asyncio.Lock()

    async def asked(self, not_before: float) -> bool:
        """Whether somebody wanted it, as seen by a look that began at this time of the monotonic clock or later."""
        async with self._one_at_a_time:
            if not self.cancelled and self._looked_at < not_before:
                self._looked_at = time.monotonic()
                self.cancelled = await _look()
        return self.cancelled


_watches: LRUCache[tuple[UUID, int], _Watch] = LRUCache(maxsize=1024)


def _watch(run_id: UUID) -> _Watch:
    """One for each run and event loop, since a lock belongs to its loop."""
    return _watches.setdefault((run_id, id(asyncio.get_running_loop())), _Watch())


async def cancellation_requested() -> bool:
    """Whether somebody cancelled this flow run, or the one that it is part of, in Prefect's UI or API."""
    ids = {runtime.flow_run.id, await asyncio.to_thread(lambda: runtime.flow_run.root_flow_run_id)} - {None}
    async with get_client() as client:
        for flow_run_id in ids:
            state = (await client.read_flow_run(UUID(str(flow_run_id)))).state
            if state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                return True
    return False


async def watchful_sleep(seconds: float) -> None:
    """Sleep, and end early with a cancellation if somebody cancels this flow run meanwhile.

    A run that a script started has to look for itself. One that was started by a worker or by `serve` is interrupted
    by them, within seconds; but they hear of the wish by one message that nobody repeats (Prefect 3.8:
    `FlowRunCancellingObserver`), so it looks too, less often. All waits of one flow run share one look.

    A SIGTERM is raised in the main thread only; a wait in another one, which the main thread waits for, ends by itself.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    in_main_thread = threading.current_thread() is threading.main_thread()
    every = math.inf
    if run is not None:
        every = _WATCH_SECONDS if run.deployment_id is None else _WATCH_DEPLOYED_SECONDS
    step, until = every if in_main_thread else min(every, _STOP_SECONDS), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, step))
        if not in_main_thread and shutdown.requested:
            raise asyncio.CancelledError("this process is being stopped")
        if run is not None and await _watch(run.id).asked(time.monotonic() - every):
            raise asyncio.CancelledError("the flow run was cancelled")


@asynccontextmanager
async def settled_if_interrupted(
    client: RunComfyClient, request_id: str, store: MediaStore | None, key: str | None, how: OnInterrupt
) -> AsyncIterator[None]:
    """Settle what becomes of a request if the body is cancelled; the cancellation goes on after it."""
    with noticing_ctrl_c():
        try:
            yield
        except asyncio.CancelledError:
            await settle(client, request_id, store, key, how)
            raise


async def settle(
    client: RunComfyClient, request_id: str, store: MediaStore | None, key: str | None, how: OnInterrupt
) -> None:
    """Cancel the request if that is what was meant, and tell the journal and the run's log what became of it.

    To be awaited while a cancellation is under way: it runs to its end all the same, within 20 seconds.
    """
    logger = get_run_logger()
    timed_out = _timed_out()  # before anything else takes time
    with anyio.move_on_after(_PATIENCE_SECONDS, shield=True) as scope:
        wish = await _wish(how, timed_out=timed_out)
        if wish is None:
            logger.warning("Interrupted, not cancelled: request %s goes on, and the next run collects it", request_id)
            return
        try:
            journal = store.get_journal() if store is not None else None
            state = await withdraw(client, journal, key, request_id, reason=wish)
        except RunComfyError as error:
            logger.error("Request %s could not be cancelled and may be billed: %s", request_id, error)
            return
        if store is not None:
            tell_event(state, store, key=key, request_id=request_id, reason=wish)
        if state is EntryState.CANCELLED:
            MeasuredRequest(request_id, key=key).end(state)
            logger.warning("Request %s was cancelled in the queue (%s)", request_id, wish)
        else:
            logger.warning(
                "Request %s cannot be cancelled any more (%s): it may be billed, and is collected by the next run or "
                "by reconcile",
                request_id,
                wish,
            )
    if scope.cancelled_caught:
        logger.error(
            "There was no time to cancel request %s: it may be billed, and the next run collects it", request_id
        )


async def _wish(how: OnInterrupt, *, timed_out: bool) -> str | None:
    """Return who wanted the request to be cancelled, `None` if nobody did."""
    if how == "cancel":
        return "interrupted, and on_interrupt is cancel"
    if how == "leave":
        return None
    if ctrl_c_pressed():
        return "somebody pressed Ctrl-C"
    if timed_out:
        return "the run's or the task's timeout_seconds was over"
    return "somebody cancelled the run" if await _asked() else None


def _timed_out() -> bool:
    """Whether Prefect's `timeout_seconds` of this task, of this flow, or of one that it is part of, is over.

    Those of outer flows are anyio's cancel scopes, as Prefect makes them: a scope around us that is over says so.
    """
    if anyio.current_effective_deadline() == -math.inf:
        return True
    task_run, flow_run = TaskRunContext.get(), FlowRunContext.get()
    limits = (
        (task_run.start_time, task_run.task.timeout_seconds) if task_run else (None, None),
        (flow_run.start_time, flow_run.flow.timeout_seconds if flow_run.flow else None) if flow_run else (None, None),
    )
    return any(
        started is not None and limit is not None
        and (datetime.now(UTC) - started).total_seconds() >= limit - _TIMEOUT_TOLERANCE_SECONDS
        for started, limit in limits
    )  # fmt: skip


async def _asked() -> bool:
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return await (_look() if run is None else _watch(run.id).asked(time.monotonic()))


async def _look() -> bool:
    try:
        return await cancellation_requested()
    except (PrefectException, httpx.HTTPError, OSError) as error:
        get_run_logger().error("Prefect's API did not say whether this run was cancelled (%s)", type(error).__name__)
        return False
