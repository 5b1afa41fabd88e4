"""`python -m deployments.drain` on a real server: it waits for running work, and reports each pool left paused."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import task
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Completed, Running, Suspended

from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.deployments.conftest import ROOT, BusyServer, PrefectServer
from tests.deployments.test_running import api, archived, ended, parameters, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    """The project's deployments, and a worker that polls every second."""
    prefect_server.deploy()
    busy = BusyServer(prefect_server.api_url, prefect_server.home)
    with busy.running("prefect", "worker", "start", "--pool", "test-pool"):
        yield prefect_server


@task
def one_part() -> None:
    pass


class Drain:
    """A drain that runs beside the test, and its output."""

    def __init__(self, server: PrefectServer, log: Path, *words: str) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployments.drain", *words],
                cwd=ROOT, env=server.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.log.read_text()

    async def until_said(self, words: str) -> None:
        await until(lambda: words in self.said or self.process.poll() is not None, words)
        assert words in self.said, self.said

    async def code(self) -> int:
        await until(lambda: self.process.poll() is not None, "the drain to end")
        assert "Traceback" not in self.said
        assert self.process.returncode is not None
        return self.process.returncode


async def empty_pool(client: PrefectClient, name: str, *, paused: bool = False) -> str:
    """Create a pool without a worker, with a deployment of its own."""
    await client.create_work_pool(WorkPoolCreate(name=name, type="process", is_paused=paused))
    flow_id = await client.create_flow_from_name("drained")
    await client.create_deployment(flow_id, name, work_pool_name=name, entrypoint="nowhere.py:drained")
    return name


async def order(client: PrefectClient, pool: str) -> FlowRun:
    deployment = await client.read_deployment_by_name(f"drained/{pool}")
    return await client.create_flow_run_from_deployment(deployment.id)


async def is_paused(client: PrefectClient, pool: str) -> bool:
    return (await client.read_work_pool(pool)).is_paused


STATES = """
import asyncio, sys
from prefect import get_client
async def main():
    async with get_client() as client:
        for flow_run_id in sys.argv[1:]:
            print("seen", (await client.read_flow_run(flow_run_id)).state.type.value)
asyncio.run(main())
"""


async def test_running_runs_end_and_scheduled_runs_wait(
    served: PrefectServer, sandbox: Sandbox, object_store: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    """The command runs once the running generation is archived; an order that came in the meantime runs afterwards."""
    sandbox.hold()
    async with api(served) as client:
        given = await parameters(client, sandbox, object_store, prefix)
        deployment = await client.read_deployment_by_name("text-to-video/text-to-video")
        first, second = given | {"prompt": "rain"}, given | {"prompt": "snow"}
        running = await client.create_flow_run_from_deployment(deployment.id, parameters=first)
        await until(lambda: sandbox.books().polls > 2, "the request to be followed")

        later = tmp_path / "later"
        command = ["sh", "-c", f'{sys.executable} -c "$0" "$1" $(cat {later})', STATES, str(running.id)]
        drain = Drain(served, tmp_path / "log", "--pool", "test-pool", "--", *command)
        await drain.until_said("1 under way: text-to-video: 1 Running")
        assert await is_paused(client, "test-pool")
        waiting = await client.create_flow_run_from_deployment(deployment.id, parameters=second)
        later.write_text(str(waiting.id))
        sandbox.release()

        assert await drain.code() == 0, drain.said
        assert drain.said.index("Empty. Running:") < drain.said.index("seen COMPLETED") < drain.said.index("Resumed")
        assert "seen SCHEDULED" in drain.said, drain.said
        assert not await is_paused(client, "test-pool")
        for run in (running, waiting):
            finished = await ended(client, run.id)
            assert finished.state is not None and finished.state.type is StateType.COMPLETED, finished.state
    assert archived(object_store, prefix) == ["jpg", "jpg", "json", "json", "mp4", "mp4"]
    assert sandbox.books().submissions_accepted == 2


async def test_no_pool_is_left_paused_or_resumed_unasked(
    prefect_server: PrefectServer, prefix: str, tmp_path: Path
) -> None:
    """A failing command's code is passed on; pools paused before stay paused; without a command it says what to do."""
    async with api(prefect_server) as client:
        failing, paused, silent, waits = [
            await empty_pool(client, f"{prefix}-{name}", paused=name == "paused")
            for name in ("failing", "paused", "silent", "waits")
        ]
        queue = await client.create_work_queue("careful", work_pool_name=waits)
        await client.set_flow_run_state((await order(client, waits)).id, Running())  # in another queue
        await client.set_flow_run_state((await order(client, silent)).id, Suspended(), force=True)

        def drain(name: str, *words: str) -> Drain:
            return Drain(prefect_server, tmp_path / name, *words)

        drains = {
            failing: drain("1", "--pool", failing, "--", "sh", "-c", "exit 7"),
            paused: drain("2", "--pool", paused, "--", "sh", "-c", "exit 0"),
            silent: drain("3", "--pool", silent),
            waits: drain("4", "--pool", waits, "--queue", "careful"),
        }
        codes = {pool: await each.code() for pool, each in drains.items()}

        assert codes == {failing: 7, paused: 0, silent: 0, waits: 0}, [each.said for each in drains.values()]
        assert {pool: await is_paused(client, pool) for pool in drains} == {
            failing: False, paused: True, silent: True, waits: False
        }  # fmt: skip
        assert (await client.read_work_queue(queue.id)).is_paused
        assert f"Paused before, and stays so: work pool {paused}." in drains[paused].said
        for pool, words in {
            silent: f"--pool {silent} --resume",
            waits: f"--pool {waits} --queue careful --resume",
        }.items():
            assert f"python -m deployments.drain {words}" in drains[pool].said, drains[pool].said
            prefect_server.run("deployments.drain", *words.split())
            assert not await is_paused(client, pool)
        assert not (await client.read_work_queue(queue.id)).is_paused


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (None, 6)])
async def test_an_interrupted_drain_resumes_the_pool(
    prefect_server: PrefectServer, prefix: str, tmp_path: Path, how: signal.Signals | None, code: int
) -> None:
    """By Ctrl-C, by SIGTERM, or by the time-out: the command is not run, and the exit code says why."""
    ran = tmp_path / "ran"
    async with api(prefect_server) as client:
        pool = await empty_pool(client, prefix)
        await client.set_flow_run_state((await order(client, pool)).id, Running())
        minutes = "60" if how else "0.05"

        drain = Drain(prefect_server, tmp_path / "log", "--pool", pool, "--timeout", minutes, "--", "touch", str(ran))
        await drain.until_said("1 under way")
        if how:
            assert await is_paused(client, pool)
            drain.process.send_signal(how)

        assert await drain.code() == code, drain.said
        assert not await is_paused(client, pool)
    assert f"Resumed: work pool {pool}." in drain.said
    assert not ran.exists()
    assert how or "The command was not run. Give it longer: --timeout." in drain.said


async def test_a_batch_whose_shards_are_held_back_does_not_block_the_drain(
    prefect_server: PrefectServer, prefix: str, tmp_path: Path
) -> None:
    """It would wait indefinitely: its shards are not started any more. A batch with a running shard is waited for."""
    async with api(prefect_server) as client:
        pool = await empty_pool(client, prefix)
        batch, part = await order(client, pool), None
        await client.set_flow_run_state(batch.id, Running())
        for number in range(2):
            task_run = await client.create_task_run(
                task=one_part, flow_run_id=batch.id, dynamic_key=str(number), state=Running()
            )
            deployment = await client.read_deployment_by_name(f"drained/{pool}")
            part = await client.create_flow_run_from_deployment(deployment.id, parent_task_run_id=task_run.id)
        assert part is not None
        await client.set_flow_run_state(part.id, Running())

        drain = Drain(prefect_server, tmp_path / "log", "--pool", pool, "--", "true")
        await drain.until_said("2 under way")
        await client.set_flow_run_state(part.id, Completed(), force=True)

        assert await drain.code() == 0, drain.said
    assert f"Not waited for: {pool}, {batch.name}, Running: its parts are held back." in drain.said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--pool", "nonesuch", "--", "true"], 3, "no work pool 'nonesuch'"),
        (["--pool", "test-pool", "--queue", "nonesuch"], 3, "no queue 'nonesuch'"),
        (["--", "no-such-program"], 2, "no program 'no-such-program'"),
        (["--resume", "--", "true"], 2, "--resume runs no command"),
        (["--timeout", "0"], 2, "--timeout"),
    ],
)
def test_a_wrong_setting_is_reported(
    served: PrefectServer, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    """Before anything is paused, without a traceback."""
    drain = Drain(served, tmp_path / "log", *words)

    assert asyncio.run(drain.code()) == code
    assert said in drain.said
