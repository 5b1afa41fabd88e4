"""Slots of the account's limit on a server that forgets its leases: which runs die, which wait, what comes free."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed

from tasks.runtime.slot_label import SlotsLabel
from tasks.upkeep.held import SlotsInspection, free_leaked_slots
from tests.deployments.conftest import ROOT, PrefectServer
from tests.ports import free_ports
from tests.prefect_server import patient_server
from tests.tasks.deployed import Deployed

pytestmark = pytest.mark.slow

LIMIT = "account"
LONG, PASSED = timedelta(minutes=10), timedelta(seconds=1)
"""A lease that outlasts this test, and one that has passed: the server has forgotten its own, and frees nothing."""
HOLDER = """
import asyncio, sys
from pathlib import Path
from prefect import flow
from pydantic import SecretStr
from blocks import RunComfyCredentials
from tasks.runtime.slots import slots

@flow(flow_run_name=sys.argv[1])
async def holder():
    async with slots(RunComfyCredentials(api_token=SecretStr("t"), concurrency_limit="account")):
        print("took it", flush=True)
        while not Path(sys.argv[2]).exists():
            await asyncio.sleep(0.2)

asyncio.run(holder())
print("ended", flush=True)
"""


class Server(PrefectServer):
    """A server that can be killed and restarted: what was in its memory is gone."""

    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        object.__setattr__(self, "process", self._started())
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.api_url}/health", timeout=2).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.3)
        raise AssertionError("the Prefect server did not come up")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        port = int(self.api_url.split(":")[2].split("/")[0])
        command = [sys.executable, "-m", *patient_server(port)]
        with (self.home / "server.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (port,) = free_ports()
    running = Server(f"http://127.0.0.1:{port}/api", tmp_path)
    running.start()
    try:
        yield running
    finally:
        running.kill()


@asynccontextmanager
async def api(server: Server) -> AsyncIterator[PrefectClient]:
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        async with get_client() as client:
            yield client


class Holder:
    """A process that acquires a slot as our flows do, and releases it on command."""

    def __init__(self, server: Server, name: str) -> None:
        self.name, self.over, self.log = name, server.home / f"{name}.over", server.home / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", HOLDER, name, str(self.over)],
                cwd=ROOT, env=server.environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    async def said(self, what: str, seconds: float = 900) -> None:
        deadline = time.monotonic() + seconds
        while what not in self.log.read_text():
            assert time.monotonic() < deadline, f"{self.name} did not say {what!r}: {self.log.read_text()[-2000:]}"
            await asyncio.sleep(0.3)

    async def end(self) -> None:
        self.over.touch()
        await self.said("ended")
        self.process.wait(300)


async def active(client: PrefectClient) -> int:
    return (await client.read_global_concurrency_limit_by_name(LIMIT)).active_slots


async def run_named(client: PrefectClient, name: str) -> FlowRun:
    return next(run for run in await client.read_flow_runs() if run.name == name)


async def test_slots_of_dead_runs_and_of_forgotten_leases_come_free(server: Server) -> None:
    """And the restart harms neither a run that waits for a slot nor one that holds one."""
    looks: list[SlotsInspection] = []
    lease = LONG

    async def look() -> None:
        context = FlowRunContext.get()
        assert context is not None
        async with get_client() as client:
            looks.append(await free_leaked_slots(client, [LIMIT], context.flow_run, lease=lease))

    holders: list[Holder] = []
    try:
        async with api(server) as client:
            await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=3))
            killed, forgotten, stays = (Holder(server, name) for name in ("killed", "forgotten", "stays"))
            holders += [killed, forgotten, stays]
            for holder in holders:
                await holder.said("took it")
            waiting = Holder(server, "waiting")
            holders.append(waiting)
            await waiting.said("Waiting for 1 slot")

            server.kill()
            killed.process.kill()
            await asyncio.sleep(10)
            server.start()
        async with api(server) as client:
            await client.set_flow_run_state((await run_named(client, "killed")).id, Crashed(), force=True)
            await forgotten.end()
            assert await active(client) == 3, "the server forgot the leases, so nothing was freed"

            deployed = Deployed(look)
            await deployed.create()
            for _ in range(2):
                await deployed.carry_out()
                assert looks[-1].held[0].freed == 0 and looks[-1].due is not None
            await asyncio.sleep(2 * PASSED.total_seconds())
            lease = PASSED
            await deployed.carry_out()

            assert looks[-1].held[0].freed == 2, looks[-1]
            await waiting.said("took it")
            assert await active(client) == 2
            label = SlotsLabel.of((await run_named(client, "stays")).labels)
            assert label is not None and (label.slots, label.waiting) == (1, False)
            await waiting.end()
            await stays.end()
            assert await active(client) == 1, "that of the run whose lease was forgotten"
    finally:
        for holder in holders:
            holder.process.kill()
            holder.process.wait()
