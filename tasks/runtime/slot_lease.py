"""Slots of a concurrency limit, leased from Prefect's server: waited for, renewed, and released.

Prefect's own `prefect.concurrency.asyncio.concurrency` does not let a process end that waits: the thread that asks the
server goes on when its caller is cancelled, and the interpreter's exit waits for it, until a slot was granted that
nobody wants any more (`_QueueServiceBase.drain` and `FutureQueueService._handle`; Prefect 3.9). After SIGTERM or Ctrl-C
such a process stayed for minutes beside the run's next attempt. So this asks with the client's public methods.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse, MinimalConcurrencyLimitResponse
from prefect.events import emit_event
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from runcomfy.interruption.keyboard import to_its_end
from tasks.runtime.interruption import sleep_or_cancelled
from tasks.runtime.slot_label import LEASE_SECONDS

__all__ = ["LimitChanged", "leased", "run_logger"]

_RENEW_SECONDS = 60.0
_RELEASE_SECONDS, _HURRIED_SECONDS = 60.0, 5.0
_ASK_AGAIN_SECONDS = 5.0  # where the server does not say when
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.2, 60.0


class LimitChanged(Exception):
    """The limit was deleted, or lowered to fewer slots than are waited for; or the server says so."""


@asynccontextmanager
async def leased(name: str, slots: int) -> AsyncIterator[None]:
    """Wait for slots of a limit, and hold them while the body runs; a cancellation ends either within seconds.

    If the lease cannot be renewed, the body goes on: what is paid for must not be cancelled because Prefect's server is
    unavailable. Slots that cannot be released come free when their lease ends.

    Args:
        name: The limit's.
        slots: How many, all at once.

    Raises:
        LimitChanged: the limit does not have so many slots any more.
        httpx.HTTPError: the server is unavailable, or refuses.
        ValueError: something else answers.
    """
    async with get_client() as client:
        lease = await _granted(client, name, slots)
        renewing = asyncio.create_task(_renew(client, name, lease.lease_id))
        seconds = _RELEASE_SECONDS
        try:
            for limit in lease.limits:
                _emit("acquired", limit, slots)
            yield
        except BaseException as error:
            if not isinstance(error, Exception):  # this process, or this run, is being stopped
                seconds = _HURRIED_SECONDS
            raise
        finally:
            renewing.cancel()
            releasing, interrupted = await to_its_end(_release(client, lease.lease_id, seconds))
            failure = asyncio.CancelledError() if releasing.cancelled() else releasing.exception()
            if failure is not None:
                run_logger().warning("The slots of %s could not be released (%s)", name, type(failure).__name__)
            for limit in lease.limits:
                _emit("released", limit, slots)
            if interrupted is not None:
                raise interrupted


async def _granted(client: PrefectClient, name: str, slots: int) -> ConcurrencyLimitWithLeaseResponse:
    """Ask until they are granted, as often as the server says."""
    while True:
        try:
            lease = await _answer(client, name, slots)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
                raise LimitChanged(name) from error
            if error.response.status_code != httpx.codes.LOCKED:
                raise
            pause = _pause(error.response)
        else:
            if lease.limits:
                return lease
            await _release(client, lease.lease_id, _HURRIED_SECONDS)
            raise LimitChanged(name)
        await sleep_or_cancelled(pause)


async def _answer(client: PrefectClient, name: str, slots: int) -> ConcurrencyLimitWithLeaseResponse:
    """Ask once; what is granted to a caller that is cancelled in the meantime is released.

    An event loop that shuts down cancels the request itself; what was just granted to that comes free with its lease.
    """
    asking = asyncio.ensure_future(
        client.increment_concurrency_slots_with_lease([name], slots, "concurrency", LEASE_SECONDS)
    )
    try:
        return _lease(await asyncio.shield(asking))
    except asyncio.CancelledError:
        await to_its_end(_release_if_granted(client, asking))
        raise


async def _release_if_granted(client: PrefectClient, asking: asyncio.Future[httpx.Response]) -> None:
    with suppress(Exception, asyncio.CancelledError):
        async with asyncio.timeout(_HURRIED_SECONDS):
            lease = _lease(await asking)
        await _release(client, lease.lease_id, _HURRIED_SECONDS)


async def _release(client: PrefectClient, lease_id: UUID, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await client.release_concurrency_slots_with_lease(lease_id)


async def _renew(client: PrefectClient, name: str, lease_id: UUID) -> None:
    renewed = time.monotonic()
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        try:
            await client.renew_concurrency_lease(lease_id, LEASE_SECONDS)
            renewed = time.monotonic()
        except Exception as error:
            forgotten = isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.GONE
            gone = forgotten or time.monotonic() - renewed > LEASE_SECONDS
            run_logger().log(
                logging.WARNING if gone else logging.DEBUG,
                "The slots of %s could not be kept (%s); what runs goes on", name, type(error).__name__,
            )  # fmt: skip
            if gone:
                return


def _lease(response: httpx.Response) -> ConcurrencyLimitWithLeaseResponse:
    return ConcurrencyLimitWithLeaseResponse.model_validate_json(response.content)


def _pause(response: httpx.Response) -> float:
    try:
        told = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        told = math.nan
    return min(max(told, _MIN_PAUSE_SECONDS), _MAX_PAUSE_SECONDS) if math.isfinite(told) else _ASK_AGAIN_SECONDS


def _emit(what: str, limit: MinimalConcurrencyLimitResponse, slots: int) -> None:
    """Emit an event like that of Prefect's own context manager: the server's feed and `slot_runs` know it."""
    resource = {
        "prefect.resource.id": f"prefect.concurrency-limit.{limit.id}", "prefect.resource.name": limit.name,
        "slots-acquired": str(slots), "limit": str(limit.limit),
    }  # fmt: skip
    emit_event(f"prefect.concurrency-limit.{what}", resource=resource)


def run_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the flow run's logger; Prefect's own outside of one."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("runcomfy.slots")
