"""`prefect flow-run execute`, which the containers of Docker, Kubernetes and ECS run, is stopped."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest
from prefect.client.schemas.objects import StateType

from runcomfy.journal import EntryState
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.deployments.conftest import PrefectServer
from tests.deployments.test_running import api, archived, ended, parameters, until
from tests.deployments.test_stopping import narrow, pool, start, states

__all__ = ["narrow", "pool"]

pytestmark = pytest.mark.slow


class Rescheduling(PrefectServer):
    """The environment of a container whose work pool has the job variable that docs/production.md recommends."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR": "reschedule"}


@pytest.mark.parametrize("narrow", [1], indirect=True)
async def test_a_stopped_container_leaves_its_run_to_a_worker(
    pool: PrefectServer, narrow: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """SIGTERM while one request runs, and one is being submitted: both runs are scheduled again, and pay nothing."""
    narrow.hold(queue=False, runs=True)
    containers = Rescheduling(pool.api_url, pool.home)
    async with api(pool) as client:
        given = await parameters(client, narrow, object_store, prefix)
        prompts = ["rain", "snow [sandbox: submit=slow:seconds=8]"]
        runs = await start(client, "text-to-video/text-to-video", given, prompts)
        with ExitStack() as stack:
            running = [containers.running("prefect", "flow-run", "execute", str(run_id)) for run_id in runs]
            commands = [stack.enter_context(running[0])]
            await until(lambda: narrow.books().submissions_accepted == 1, "one to be submitted")
            commands.append(stack.enter_context(running[1]))
            await until(lambda: narrow.books().submissions_accepted == 2, "the other to be submitted")
            for command in commands:
                command.send_signal(signal.SIGTERM)
            await until(lambda: all(command.poll() == 0 for command in commands), "both to end well")

        assert await states(object_store, prefix) == {EntryState.SUBMITTED: 2}
        assert narrow.books().cancelled == 0
        for run_id in runs:
            stopped = await client.read_flow_run(run_id)
            assert stopped.state is not None and stopped.state.name == "AwaitingRetry", stopped.state

        narrow.release()
        with pool.running("deployments.worker", "--pool", "test-pool"):
            for run_id in runs:
                run = await ended(client, run_id)
                assert run.state is not None and run.state.type is StateType.COMPLETED, run.state
    assert narrow.books().submissions_accepted == 2
    assert sorted(archived(object_store, prefix)) == ["jpg"] * 2 + ["json"] * 2 + ["mp4"] * 2
