"""Stopped workers, and runs cancelled by the dozen: nothing is paid twice, nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling

from runcomfy.journal import BucketJournalStore, EntryState, Journal
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.deployments.conftest import PrefectServer
from tests.deployments.test_running import api, archived, ended, parameters, registered, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool(prefect_server: PrefectServer) -> PrefectServer:
    """A server with the project's deployments, and no worker yet."""
    prefect_server.deploy()
    return prefect_server


@pytest.fixture
def narrow(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox that runs as many requests at once as the test says; the others wait."""
    settings = SandboxSettings(token="sandbox-4d7f0c", run_seconds=0.2, tiny_videos=True, slots=request.param)
    with Sandbox(settings) as running:
        yield running


def worker(server: PrefectServer) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return server.running("prefect", "worker", "start", "--pool", "test-pool")


async def start(client: PrefectClient, name: str, given: dict[str, Any], prompts: Sequence[str]) -> list[UUID]:
    deployment = await registered(client, name)
    runs = [
        await client.create_flow_run_from_deployment(deployment.id, parameters=given | {"prompt": prompt})
        for prompt in prompts
    ]
    return [run.id for run in runs]


async def states(object_store: ObjectStore, prefix: str) -> Counter[EntryState]:
    store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    return Counter([found.entry.state async for found in Journal(BucketJournalStore(store)).entries()])


@pytest.mark.parametrize("narrow", [2], indirect=True)
@pytest.mark.parametrize("how", ["worker", "serve"])
async def test_a_stopped_process_leaves_its_requests_to_the_next_run(
    pool: PrefectServer, narrow: Sandbox, object_store: ObjectStore, prefix: str, how: str
) -> None:
    """SIGTERM, with requests queued and running: none is cancelled, and the next run of each collects it."""
    serving, name = (worker(pool), "text-to-video/text-to-video") if how == "worker" else (
        pool.running("deployments.serve"), "text-to-video/served"
    )  # fmt: skip
    prompts = [f"rain {number}" for number in range(3)]
    narrow.hold(queue=False, runs=True)
    async with api(pool) as client:
        with serving as process:
            given = await parameters(client, narrow, object_store, prefix)
            stopped = await start(client, name, given, prompts)
            await until(lambda: narrow.books().submissions_accepted == len(prompts), "all to be submitted", 300)
            while await states(object_store, prefix) != {EntryState.SUBMITTED: len(prompts)}:  # noqa: ASYNC110
                await asyncio.sleep(0.2)  # Prefect's own worker kills its runs after a while
            running = sum(request.state == "running" for request in narrow.books().requests)
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, "it to be stopped")
        assert running == 2
        await asyncio.sleep(3)
        assert narrow.books().cancelled == 0
        assert await states(object_store, prefix) == {EntryState.SUBMITTED: len(prompts)}

        for run_id in stopped:  # no process works on them: the state that the platform would set, if it set any
            await client.delete_flow_run(run_id)
        narrow.release()
        with worker(pool):
            for run_id in await start(client, "text-to-video/text-to-video", given, prompts):
                run = await ended(client, run_id, 300)
                assert run.state is not None and run.state.type is StateType.COMPLETED, run.state
    assert narrow.books().submissions_accepted == len(prompts)
    assert Counter(archived(object_store, prefix)) == dict.fromkeys(("mp4", "jpg", "json"), len(prompts))


@pytest.mark.parametrize("narrow", [5], indirect=True)
async def test_ten_runs_are_cancelled_while_five_are_queued(
    pool: PrefectServer, narrow: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """Cancelled in Prefect: the five queued ones are cancelled, the five running ones are detached, then collected."""
    narrow.hold(queue=False, runs=True)
    async with api(pool) as client:
        with worker(pool):
            given = await parameters(client, narrow, object_store, prefix)
            runs = await start(client, "text-to-video/text-to-video", given, [f"rain {number}" for number in range(10)])
            await until(lambda: narrow.books().submissions_accepted == 10, "all to be submitted", 300)
            polled = narrow.books().polls
            await until(lambda: narrow.books().polls > polled + 50, "all to be followed")

            for run_id in runs:
                await client.set_flow_run_state(run_id, Cancelling())
            for run_id in runs:
                run = await ended(client, run_id, 300)
                assert run.state is not None and run.state.type is StateType.CANCELLED, run.state

            assert narrow.books().cancelled == 5
            assert await states(object_store, prefix) == {EntryState.CANCELLED: 5, EntryState.DETACHED: 5}
            narrow.release()
            await until(lambda: narrow.books().succeeded == 5, "the five to finish")

            reconciling = await client.read_deployment_by_name("reconcile/reconcile")
            blocks = {name: given[name] for name in ("credentials", "store")}
            run = await client.create_flow_run_from_deployment(reconciling.id, parameters=blocks)
            finished = await ended(client, run.id)
            assert finished.state is not None and finished.state.type is StateType.COMPLETED, finished.state
    assert await states(object_store, prefix) == {EntryState.CANCELLED: 5, EntryState.ARCHIVED: 5}
    assert Counter(archived(object_store, prefix)) == {"mp4": 5, "jpg": 5, "json": 5}
    assert narrow.books().submissions_accepted == 10
