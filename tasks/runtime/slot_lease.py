"""Slots of a concurrency limit, leased from Prefect's server: waited for, renewed, and released.

Prefect's own `prefect.concurrency.asyncio.concurrency` does not let a process end that waits: the thread that asks the
server goes on when its caller is cancelled, and the interpreter's exit waits for it, until a slot was granted that
nobody wants any more (`_QueueServiceBase.drain` and `FutureQueueService._handle`; Prefect 3.9). After SIGTERM or Ctrl-C
such a process stayed for minutes beside the run's next attempt. So this asks with the client's public methods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from uuid import UUID

import anyio
import httpx
from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse, MinimalConcurrencyLimitResponse
from prefect.events import emit_event

from tasks.runtime.slot_label import LEASE_SECONDS

__all__ = ["LimitChanged", "leased"]

_RENEW_SECONDS = 60.0
_RELEASE_SECONDS = 10.0

_T = TypeVar("_T")


class LimitChanged(Exception):
    """The limit was deleted, or lowered to fewer slots than are waited for."""


@asynccontextmanager
async def leased(name: str, slots: int) -> AsyncIterator[None]:
    """Wait for slots of a limit, and hold them while the body runs; a cancellation ends either at once.

    If the lease cannot be renewed, the body goes on: what is paid for must not be cancelled because Prefect's server is
    unavailable. Slots that cannot be released come free when their lease ends.

    Args:
        name: The limit's.
        slots: How many, all at once.

    Raises:
        LimitChanged: the limit does not have so many slots any more.
        httpx.HTTPError: the server is unavailable, or refuses.
    """
    lease = await _granted(name, slots)
    renewing = asyncio.create_task(_renew(name, lease.lease_id))
    try:
        for limit in lease.limits:
            _emit("acquired", limit, slots)
        yield
    finally:
        renewing.cancel()
        try:
            await _release(lease.lease_id)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            get_run_logger().warning("The slots of %s could not be released (%s)", name, type(error).__name__)
        for limit in lease.limits:
            _emit("released", limit, slots)


async def _granted(name: str, slots: int) -> ConcurrencyLimitWithLeaseResponse:
    """Ask until they are granted, as often as the server says."""
    async with get_client() as client:
        while True:
            try:
                lease = ConcurrencyLimitWithLeaseResponse.model_validate_json(await _answer(client, name, slots))
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
                    raise LimitChanged(name) from error
                if error.response.status_code != httpx.codes.LOCKED:
                    raise
                await asyncio.sleep(float(error.response.headers["Retry-After"]))
            else:
                if not lease.limits:
                    raise LimitChanged(name)
                return lease


async def _answer(client: PrefectClient, name: str, slots: int) -> bytes:
    """Ask once; what is granted to a caller that is cancelled in the meantime is released."""
    asking = asyncio.ensure_future(
        client.increment_concurrency_slots_with_lease([name], slots, "concurrency", LEASE_SECONDS)
    )
    try:
        return (await _to_its_end(asking)).content
    except asyncio.CancelledError:
        if asking.done() and not asking.cancelled() and asking.exception() is None:
            with suppress(httpx.HTTPError, TimeoutError, OSError):
                await _release(ConcurrencyLimitWithLeaseResponse.model_validate_json(asking.result().content).lease_id)
        raise


async def _renew(name: str, lease_id: UUID) -> None:
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        try:
            async with get_client() as client:
                await client.renew_concurrency_lease(lease_id, LEASE_SECONDS)
        except (httpx.HTTPError, OSError) as error:
            gone = isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.GONE
            get_run_logger().log(
                logging.WARNING if gone else logging.DEBUG,
                "The slots of %s could not be kept (%s); what runs goes on", name, type(error).__name__,
            )  # fmt: skip
            if gone:  # a server whose leases are in its memory was restarted
                return


async def _release(lease_id: UUID) -> None:
    async def release() -> None:
        async with asyncio.timeout(_RELEASE_SECONDS), get_client() as client:
            await client.release_concurrency_slots_with_lease(lease_id)

    await _to_its_end(asyncio.ensure_future(release()))


async def _to_its_end(request: asyncio.Future[_T]) -> _T:
    """Await a request; let a cancellation, and a flow's time that is over, wait a little until it is answered."""
    try:
        return await asyncio.shield(request)
    except asyncio.CancelledError:
        with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
            await asyncio.wait({request})
        request.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else looks at it
        request.cancel()
        raise


def _emit(what: str, limit: MinimalConcurrencyLimitResponse, slots: int) -> None:
    """Emit the event that Prefect's own context manager emits."""
    resource = {
        "prefect.resource.id": f"prefect.concurrency-limit.{limit.id}", "prefect.resource.name": limit.name,
        "slots-acquired": str(slots), "limit": str(limit.limit),
    }  # fmt: skip
    emit_event(f"prefect.concurrency-limit.{what}", resource=resource)
