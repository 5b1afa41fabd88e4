"""An account's limit holds over all flow runs that share it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from pydantic import SecretStr

from blocks import RunComfyCredentials
from runcomfy.errors import ConfigurationError
from tasks.runtime.slot_label import SlotsLabel
from tasks.runtime.slot_lease import leased
from tasks.runtime.slots import slots

T = TypeVar("T")


@pytest.fixture(autouse=True)
def prefect(prefect_api: str) -> None:
    """Every test here runs on the test server."""


def account(limit: str = "") -> RunComfyCredentials:
    return RunComfyCredentials(api_token=SecretStr("t"), concurrency_limit=limit)


async def limited(name: str, limit: int) -> RunComfyCredentials:
    name = f"{name}-{uuid4().hex[:8]}"
    async with get_client() as client:
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=limit))
    return account(name)


async def active(name: str) -> int:
    async with get_client() as client:
        return (await client.read_global_concurrency_limit_by_name(name)).active_slots


async def until_none_is_active(name: str) -> None:
    """Wait for a release that a busy server answers late."""
    async with asyncio.timeout(120):
        while await active(name):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def runs_named(name: str) -> list[FlowRun]:
    async with get_client() as client:
        return await client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))


async def test_without_a_limit_every_run_gets_its_slots() -> None:
    """At once, and without a call to Prefect."""
    async with slots(account(), 500) as granted:
        assert granted == 500


async def test_a_limit_holds_over_all_runs() -> None:
    """Three runs want two slots of three: they take turns, two of them never at the same time."""
    shared, under_way, most = await limited("shared-by-runs", 3), 0, 0

    @flow
    async def run() -> None:
        nonlocal under_way, most
        async with slots(shared, 2) as granted:
            under_way += granted
            most = max(most, under_way)
            await asyncio.sleep(0.3)
            under_way -= granted

    await asyncio.gather(run(), run(), run())

    assert most == 2


async def test_a_request_for_more_slots_than_exist_gets_all() -> None:
    """A batch that wants a hundred at once of ten gets ten, instead of waiting indefinitely."""
    ten = await limited("ten", 10)

    @flow
    async def run() -> int:
        async with slots(ten, 100) as granted:
            return granted

    assert await run() == 10


async def test_a_missing_limit_is_reported() -> None:
    """With how to create it; nothing was paid for."""
    with pytest.raises(ConfigurationError, match="prefect gcl create no-such-limit"):
        async with slots(account("no-such-limit")):
            pass


async def test_a_limit_is_not_named_by_its_id() -> None:
    """The server finds it so, and grants none of its slots."""
    shared = await limited("named", 1)
    async with get_client() as client:
        found = await client.read_global_concurrency_limit_by_name(shared.concurrency_limit)
    with pytest.raises(ConfigurationError, match="does not have"):
        async with slots(account(str(found.id))):
            pass


async def test_a_limit_of_zero_is_reported() -> None:
    """Instead of waiting indefinitely."""
    with pytest.raises(ConfigurationError, match="is 0"):
        async with slots(await limited("nothing", 0)):
            pass


WAITER = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from prefect import flow
from pydantic import SecretStr
from blocks import RunComfyCredentials
from tasks.runtime.slots import slots

@flow(flow_run_name=sys.argv[1])
async def waiter():
    async with slots(RunComfyCredentials(api_token=SecretStr("t"), concurrency_limit=sys.argv[1])):
        raise AssertionError("it got a slot that another holds")

@flow
def parent():
    with ThreadPoolExecutor() as threads:
        threads.submit(asyncio.run, waiter()).result()

parent() if sys.argv[2] == "in a thread" else asyncio.run(waiter())
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sigterm", "ctrl-c", "in a thread", "cancelled"])
async def test_a_stopped_run_that_waits_for_a_slot_ends_its_process(prefect_api: str, how: str) -> None:
    """At once, and not when the slot is released that it no longer wants; nor does it take that one."""
    shared = await limited("held", 1)
    environment = os.environ | {"PREFECT_API_URL": prefect_api, "PYTHONUNBUFFERED": "1"}
    async with slots(shared):
        waiting = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WAITER, shared.concurrency_limit, how,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            assert waiting.stdout is not None
            async with asyncio.timeout(600):
                while b"Waiting for 1 slot" not in await waiting.stdout.readline():
                    assert not waiting.stdout.at_eof()
            if how == "cancelled":
                (run,) = await runs_named(shared.concurrency_limit)
                async with get_client() as client:
                    await client.set_flow_run_state(run.id, Cancelling())
            else:
                waiting.send_signal(signal.SIGINT if how == "ctrl-c" else signal.SIGTERM)
            async with asyncio.timeout(120):
                said = (await waiting.stdout.read()).decode()
                await waiting.wait()
        finally:
            if waiting.returncode is None:
                waiting.kill()
        assert "it got a slot" not in said
        assert await active(shared.concurrency_limit) == 1
    await until_none_is_active(shared.concurrency_limit)


@pytest.mark.parametrize("limit", [1, None], ids=["lowered", "deleted"])
async def test_a_limit_that_changes_while_a_run_waits_is_read_again(limit: int | None) -> None:
    """Lowered: it waits for what it may have at most. Deleted: it says what to do."""
    shared = await limited("changing", 2)

    @flow(flow_run_name=shared.concurrency_limit)
    async def run() -> int:
        async with slots(shared, 2) as granted:
            return granted

    async with slots(shared, 2), get_client() as client:
        waiting = asyncio.create_task(run())
        while not any(SlotsLabel.of(each.labels) for each in await runs_named(shared.concurrency_limit)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)  # it says that it waits just before it asks
        if limit is None:
            await client.delete_global_concurrency_limit_by_name(shared.concurrency_limit)
        else:
            await client.update_global_concurrency_limit(
                shared.concurrency_limit, GlobalConcurrencyLimitUpdate(limit=limit)
            )
        if limit is None:
            with pytest.raises(ConfigurationError, match="prefect gcl create"):
                await waiting
    if limit is not None:
        assert await waiting == 1


PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>"


class Proxy:
    """Stands before Prefect's server, in a thread of its own, and answers for a while with a page of its own."""

    def __init__(self, api_url: str) -> None:
        self._target, self._loop = httpx.URL(api_url), asyncio.new_event_loop()
        self._until, self._open = 0.0, set[asyncio.StreamWriter]()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        listening = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/api"

    def answer_with_pages(self, seconds: float) -> None:
        """Answer so for a while, on new connections."""
        self._do(self._break_off(seconds))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _break_off(self, seconds: float) -> None:
        self._until = self._loop.time() + seconds
        for each in self._open:
            each.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            request = await reader.readuntil(b"\r\n\r\n")
            if self._loop.time() < self._until:
                writer.write(PAGE)
                return
            self._open.add(writer)
            there, back = await asyncio.open_connection(self._target.host, self._target.port)
            with contextlib.closing(back):
                back.write(request)
                await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(65_536):
            writer.write(some)
        writer.close()


@pytest.mark.slow
async def test_a_page_in_place_of_an_answer_is_waited_out(prefect_api: str) -> None:
    """A proxy answers while the server is redeployed, also where the run asks whether it was cancelled."""
    shared, proxy = await limited("proxied", 1), Proxy(prefect_api)

    @flow
    async def run() -> int:
        proxy.answer_with_pages(5)
        async with slots(shared) as granted:
            return granted

    with temporary_settings({PREFECT_API_URL: proxy.url}):
        assert await run() == 1


async def test_a_cancelled_wait_takes_no_slot_and_stands_in_nobodys_way() -> None:
    """Nor does a cancellation at the moment of the grant: what nobody waits for any more is released."""
    shared = await limited("cancelled", 1)
    for pause in (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.1, 0.2):
        async with asyncio.timeout(60):
            taking = asyncio.create_task(_take(shared))
            await asyncio.sleep(pause)
            taking.cancel()
            await asyncio.wait({taking})
            await until_none_is_active(shared.concurrency_limit)


async def _take(shared: RunComfyCredentials) -> None:
    async with leased(shared.concurrency_limit, 1):
        await asyncio.sleep(0.02)
