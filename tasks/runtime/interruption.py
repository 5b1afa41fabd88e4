"""Who interrupted a flow run: a person, a time-out, or a platform that stops the process.

All of them arrive as the same exception; the flow run's state, the clock, and the sender of the signal distinguish
them. What that means for a request is decided by `runcomfy.generation.ending`.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

import anyio
import httpx
from cachetools import LRUCache
from prefect import get_client, get_run_logger, runtime
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException

from runcomfy.interruption.shutdown import shutdown

__all__ = ["cancellation_requested", "cancelled_by_person", "sleep_or_cancelled", "timed_out"]


_WATCH_SECONDS = 3.0
_WATCH_DEPLOYED_SECONDS = 15.0
_STOP_SECONDS = 1.0
_TIMEOUT_TOLERANCE_SECONDS = 0.5


class _CancelWatch:
    """What is known of the cancellation of one flow run; a thousand requests that ask at once share a poll or two."""

    def __init__(self) -> None:
        self.cancelled = False
        self._looked_at = -math.inf
        self._one_at_a_time = asyncio.Lock()

    async def asked(self, not_before: float) -> bool:
        """Whether somebody cancelled it, by a poll that began at this time of the monotonic clock or later."""
        async with self._one_at_a_time:
            if not self.cancelled and self._looked_at < not_before:
                self._looked_at = time.monotonic()
                self.cancelled = await _look()
        return self.cancelled


_watches: LRUCache[tuple[UUID, int], _CancelWatch] = LRUCache(maxsize=1024)


def _watch(run_id: UUID) -> _CancelWatch:
    """One for each run and event loop, since a lock belongs to its loop."""
    return _watches.setdefault((run_id, id(asyncio.get_running_loop())), _CancelWatch())


async def cancellation_requested() -> bool:
    """Whether somebody cancelled this flow run, or the one that it is part of, in Prefect's UI or API."""
    ids = {runtime.flow_run.id, await asyncio.to_thread(lambda: runtime.flow_run.root_flow_run_id)} - {None}
    async with get_client() as client:
        for flow_run_id in ids:
            state = (await client.read_flow_run(UUID(str(flow_run_id)))).state
            if state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                return True
    return False


async def sleep_or_cancelled(seconds: float) -> None:
    """Sleep, and end early with a cancellation if somebody cancels this flow run in the meantime.

    A run that a script started has to poll for it. One that a worker or `serve` started is interrupted by them within
    seconds; but they learn of the cancellation from a single message, which is not repeated as long as their connection
    to the server holds (Prefect 3.9: `FlowRunCancellingObserver`), so it polls too, less often. All waits of one flow
    run share one poll.

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


def timed_out() -> bool:
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


async def cancelled_by_person() -> bool:
    """Whether a person cancelled the run; if Prefect's API does not answer, no."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return await (_look() if run is None else _watch(run.id).asked(time.monotonic()))


async def _look() -> bool:
    try:
        return await cancellation_requested()
    except (PrefectException, httpx.HTTPError, OSError, ValueError) as error:  # ValueError: something else answers
        get_run_logger().error("Prefect's API did not say whether this run was cancelled (%s)", type(error).__name__)
        return False
