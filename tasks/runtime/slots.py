"""Keep within what an account may do at once, over all workers: with one of Prefect's global concurrency limits."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from blocks import RunComfyCredentials
from runcomfy.errors import ConfigurationError
from tasks.runtime.interruption import sleep_or_cancelled
from tasks.runtime.slot_label import SlotsLabel
from tasks.runtime.slot_lease import LimitChanged, leased, run_logger

__all__ = ["LABEL_SECONDS", "slots"]

LABEL_SECONDS = 20.0
"""A run that could not record within this time that it holds slots gives them back: `reconcile` relies on it."""
_SERVER_AWAY_SECONDS = 1800.0
_ANOTHER_TROUBLE_SECONDS = 900.0  # a call that nobody answers takes seven minutes, with the client's own retries
_READ_AGAIN_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 30.0
_SAY_AFTER_SECONDS = 5.0
_NOT_PREFECT = (json.JSONDecodeError, ValidationError)
"""A proxy answers in its place."""


@asynccontextmanager
async def slots(credentials: RunComfyCredentials, wanted: int = 1) -> AsyncIterator[int]:
    """Take slots of the account's concurrency limit while the body runs, and yield how many.

    They are taken once for a whole flow run, since an acquisition costs a fifth of a second (and far more where many
    compete). Before anything is paid for, the run records what it holds in its label `runcomfy.slots`, so that
    `reconcile` can distinguish the slots of live runs from those that nobody holds any more. If Prefect's server is
    unavailable, it is waited for, for half an hour.

    Args:
        credentials: The account; if it names no limit, all that is wanted is granted at once.
        wanted: How many generations are to be in progress at the same time; no more than the limit are granted.

    Raises:
        ConfigurationError: the account names a limit that this Prefect server does not have, or that is 0.
        httpx.HTTPError: Prefect's server refused, or was unavailable for too long. Nothing was paid for.
        ValueError: something else answered for it for too long. Nothing was paid for.
    """
    name = credentials.concurrency_limit
    if not name:
        yield wanted
        return
    patience, granted, refused = _ErrorBudget(), 0, (0, -math.inf)
    while True:
        async with AsyncExitStack() as held:
            label = _Label()
            held.push_async_exit(label.given_back)
            try:
                granted = await _granted(name, wanted)
                await label.wait_for(name, granted)
                await held.enter_async_context(_taken(name, granted))
                taken_at = time.monotonic()
                async with asyncio.timeout(LABEL_SECONDS):
                    await label.hold()
            except LimitChanged:
                if granted == refused[0] and time.monotonic() - refused[1] < _READ_AGAIN_SECONDS:
                    raise ConfigurationError(
                        f"Prefect's server says that the concurrency limit {name!r} has {granted} slots, and refuses "
                        f"them: see `prefect gcl inspect {name}`."
                    ) from None
                refused, pause = (granted, time.monotonic()), 1.0  # it is read again
            except (httpx.HTTPError, TimeoutError, *_NOT_PREFECT) as error:
                pause = patience.after(error)
            else:
                if time.monotonic() - taken_at < LABEL_SECONDS:
                    yield granted
                    return
                pause = 0.0  # this process was suspended, and may have been taken for one that holds nothing
        await sleep_or_cancelled(pause)


class _ErrorBudget:
    """How long errors of Prefect's server are tolerated: a restart of it must not end what waits for hours."""

    def __init__(self) -> None:
        self._since = self._last = -math.inf
        self._pause = 1.0

    def after(self, error: Exception) -> float:
        """Return for how many seconds to pause; raise the error if it is not a passing one, or has lasted too long."""
        if not _passes(error):
            raise error
        now = time.monotonic()
        if now - self._last > _ANOTHER_TROUBLE_SECONDS:
            run_logger().warning(
                "Prefect's server does not grant slots (%s); waiting for it. Nothing is paid for yet.",
                type(error).__name__,
            )
            self._since, self._pause = now, 1.0
        if now - self._since > _SERVER_AWAY_SECONDS:
            raise error
        self._last, self._pause = now, min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        return self._pause


def _passes(error: BaseException) -> bool:
    """Whether the server is unavailable or busy, or something else answers for it, and has not refused."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, (httpx.TransportError, TimeoutError, *_NOT_PREFECT))


async def _granted(name: str, wanted: int) -> int:
    found: GlobalConcurrencyLimitResponse | None = None
    async with get_client() as client:
        with suppress(ObjectNotFound):
            found = await client.read_global_concurrency_limit_by_name(name)
    if found is None or found.name != name:  # by its id, the server finds it too, but grants none of its slots
        raise ConfigurationError(
            f"The account names the concurrency limit {name!r}, which this Prefect server does not have: create it "
            f"(`prefect gcl create {name} --limit 20`), or leave it empty in the credentials block."
        )
    limit = found.limit
    if limit < 1:
        raise ConfigurationError(f"The concurrency limit {name!r} is 0, so nothing may run: raise it.")
    granted = min(wanted, limit)
    if granted < wanted:
        run_logger().info("%d at once instead of %d, as the concurrency limit %s says", granted, wanted, name)
    return granted


@asynccontextmanager
async def _taken(name: str, granted: int) -> AsyncIterator[None]:
    """Wait for the slots, and log that if it takes more than a moment."""
    began = time.monotonic()
    saying = asyncio.create_task(_say_that_it_waits(name, granted))
    try:
        async with leased(name, granted):
            saying.cancel()
            if (waited := time.monotonic() - began) > _SAY_AFTER_SECONDS:
                run_logger().info("Got %d slot(s) of %s after %.0f s", granted, name, waited)
            yield
    finally:
        saying.cancel()


async def _say_that_it_waits(name: str, granted: int) -> None:
    await asyncio.sleep(_SAY_AFTER_SECONDS)
    run_logger().info(
        "Waiting for %d slot(s) of the concurrency limit %s, all of which other runs hold. "
        "`prefect gcl inspect %s` shows how many are taken; `reconcile` frees those that nobody holds any more.",
        granted, name, name,
    )  # fmt: skip


class _Label:
    """This run's label of the slots that it holds. Outside a flow run, nothing is recorded."""

    def __init__(self) -> None:
        self._run_id: UUID | None = None
        self._label: SlotsLabel | None = None

    async def wait_for(self, name: str, granted: int) -> None:
        """Record that they are waited for, before they can have been granted."""
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return
        run_id, process = context.flow_run.id, os.environ.get("PREFECT__FLOW_RUN_ID")
        async with get_client() as client:
            run = await client.read_flow_run(run_id)
            began = run.state.timestamp if run.state else datetime.now(UTC)
            before = SlotsLabel.of(run.labels) or SlotsLabel(run_count=run.run_count, slots=0, limit=name)
            label = before.followed_by(
                run.run_count, granted, name, began, process=process if process != str(run_id) else None
            )
            await client.update_flow_run_labels(run_id, label.to_labels())
        self._run_id, self._label = run_id, label

    async def hold(self) -> None:
        """Record that they are held."""
        await self._change(waiting=False)

    async def given_back(self, kind: type[BaseException] | None, *_: object) -> None:
        """Record that none are held any more; if that is unknown or cannot be recorded, they count for some minutes."""
        if kind and not issubclass(kind, Exception):
            return
        try:
            async with asyncio.timeout(LABEL_SECONDS):
                await self._change(slots=0)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            run_logger().debug("It could not be said that slots were given back (%s)", type(error).__name__)

    async def _change(self, **changes: int | bool) -> None:
        if self._run_id is None or self._label is None:
            return
        label = self._label.model_copy(update=changes)
        async with get_client() as client:
            await client.update_flow_run_labels(self._run_id, label.to_labels())
        self._label = label
