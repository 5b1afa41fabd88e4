"""What becomes of a request when the code that waits for it is interrupted.

A person who cancels a flow run means the request as well. A platform that stops a process (a redeploy, an eviction)
does not, though both arrive as the same exception; what tells them apart is the flow run's state.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import anyio
import httpx
from cachetools import LRUCache
from prefect import get_client, get_run_logger, runtime
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from blocks import RunComfyCredentials
from runcomfy.cancelling import cancel
from runcomfy.errors import RunComfyError

__all__ = ["OnInterrupt", "cancellation_requested", "settle", "watchful_sleep"]

OnInterrupt = Literal["ask", "cancel", "leave"]
"""`ask` the flow run's state whether a person cancelled it; or `cancel` the request always; or `leave` it always."""

_PATIENCE_SECONDS = 20
_WATCH_SECONDS = 3.0


@dataclass
class _Watch:
    """What is known of one flow run's wish to be cancelled."""

    looked_at: float = 0.0
    cancelled: bool = False


_watches: LRUCache[UUID, _Watch] = LRUCache(maxsize=1024)


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

    A run that was started by a worker or by `serve` is interrupted by them. One that a script started is not, so it
    has to look; all waits of one flow run share one look every few seconds.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is not None:
        await asyncio.sleep(seconds)
        return
    watch, until = _watches.setdefault(run.id, _Watch()), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, _WATCH_SECONDS))
        if time.monotonic() >= watch.looked_at + _WATCH_SECONDS:
            watch.looked_at = time.monotonic()
            watch.cancelled = await _asked()
        if watch.cancelled:
            raise asyncio.CancelledError("the flow run was cancelled")


async def settle(request_id: str, credentials: RunComfyCredentials, on_interrupt: OnInterrupt) -> None:
    """Cancel the request if that is what was meant, and say in the run's log what became of it.

    To be awaited while a cancellation is under way: it runs to its end all the same, within 20 seconds.
    """
    logger = get_run_logger()
    with anyio.move_on_after(_PATIENCE_SECONDS, shield=True) as scope:
        if not await _meant(on_interrupt):
            logger.warning("Interrupted, not cancelled: request %s goes on, and can be fetched by its id", request_id)
            return
        try:
            async with credentials.get_client() as client:
                cancellation = await cancel(client, request_id)
        except RunComfyError as error:
            logger.error("Request %s could not be cancelled and may be billed: %s", request_id, error)
            return
        if cancellation.outcome == "cancelled":
            logger.warning("Request %s was cancelled in the queue", request_id)
        else:
            logger.warning(
                "Request %s cannot be cancelled any more: it may be billed, and can be fetched by its id", request_id
            )
    if scope.cancelled_caught:
        logger.error(
            "There was no time to cancel request %s; it may be billed, and can be fetched by its id", request_id
        )


async def _meant(on_interrupt: OnInterrupt) -> bool:
    return on_interrupt == "cancel" or (on_interrupt == "ask" and await _asked())


async def _asked() -> bool:
    try:
        return await cancellation_requested()
    except (PrefectException, httpx.HTTPError, OSError) as error:
        get_run_logger().error("Prefect's API did not say whether this run was cancelled (%s)", type(error).__name__)
        return False
