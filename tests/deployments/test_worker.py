"""`python -m deployments.worker` and `serve`: a redeploy ends their runs cleanly, where Prefect itself kills them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType

from runcomfy.journal import EntryState
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.deployments.conftest import ROOT, PrefectServer
from tests.deployments.test_running import api, archived, ended, parameters, until
from tests.deployments.test_stopping import narrow, pool, start, states

__all__ = ["narrow", "pool"]

pytestmark = pytest.mark.slow


WORKER = ("deployments.worker", "--pool", "test-pool", "--limit", "20")


@pytest.mark.parametrize("narrow", [1], indirect=True)
@pytest.mark.parametrize(
    ("command", "name"),
    [(WORKER, "text-to-video/text-to-video"), (("deployments.serve",), "text-to-video/served")],
    ids=["worker", "serve"],
)
async def test_a_stop_keeps_the_answers_of_paid_calls(
    pool: PrefectServer, narrow: Sandbox, object_store: ObjectStore, prefix: str, command: tuple[str, ...], name: str
) -> None:
    """SIGTERM with requests running, queued and being submitted: each is known, each run reports its own end.

    Afterwards each is run again as the same flow run, and continues; nothing is paid twice.
    """
    narrow.hold(queue=False, runs=True)
    prompts = ["rain", "hail", "snow [sandbox: submit=slow:seconds=8]"]
    async with api(pool) as client:
        given = await parameters(client, narrow, object_store, prefix)
        with pool.running(*command) as process:
            runs = await start(client, name, given, prompts[:2])
            await until(lambda: narrow.books().submissions_accepted == 2, "two to be submitted")
            runs += await start(client, name, given, prompts[2:])
            await until(lambda: narrow.books().submissions_accepted == 3, "the third to be submitted")

            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, "it to be stopped")

            assert process.returncode == 0
            assert await states(object_store, prefix) == {EntryState.SUBMITTED: 3}
            for run_id in runs:
                stopped = await client.read_flow_run(run_id)
                assert stopped.state is not None and stopped.state.type is StateType.CRASHED, stopped.state
        assert narrow.books().cancelled == 0

        narrow.release()
        with pool.running(*command):
            for run_id in runs:
                pool.run("prefect", "flow-run", "retry", str(run_id))
            for run_id in runs:
                run = await ended(client, run_id)
                assert run.state is not None and run.state.type is StateType.COMPLETED, run.state
    assert narrow.books().submissions_accepted == 3
    assert sorted(archived(object_store, prefix)) == ["jpg"] * 3 + ["json"] * 3 + ["mp4"] * 3


def runs(pid: str) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # that of a zombie is empty
    except OSError:
        return False


SLOW = f"""{sys.executable} -c '
import os, pathlib, signal, subprocess, sys, time
os.setsid()
child = subprocess.Popen(["sleep", "600"])
def stop(*_):
    time.sleep(float(sys.argv[2]))
    note("ended")
    child.kill()
    os._exit(3)
def note(what):
    pathlib.Path(sys.argv[1]).write_text(f"{{what}} {{os.getpid()}} {{child.pid}}")
signal.signal(signal.SIGTERM, stop)
note("began")
time.sleep(600)' """


@pytest.mark.parametrize("narrow", [1], indirect=True)
async def test_a_process_that_does_not_end_is_killed(
    pool: PrefectServer, narrow: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """It would run on beside the next attempt of its run. One with a longer grace period of its own has that."""
    async with api(pool) as client:
        given = await parameters(client, narrow, object_store, prefix)
        deployment = await client.read_deployment_by_name("text-to-video/text-to-video")
        orders, notes = [], [pool.home / f"{uuid4().hex}.txt" for _ in range(2)]
        with pool.running(*WORKER, RUNCOMFY_SHUTDOWN_GRACE_SECONDS="0") as process:
            for note, seconds, grace in zip(notes, (500, 14), ("0", "20"), strict=True):
                job = {"command": f"{SLOW} {note} {seconds}", "env": {"RUNCOMFY_SHUTDOWN_GRACE_SECONDS": grace}}
                orders.append(await client.create_flow_run_from_deployment(
                    deployment.id, parameters=given | {"prompt": "rain"}, job_variables=job
                ))  # fmt: skip
            await until(lambda: all(note.exists() for note in notes), "both to start")
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, "the worker to be stopped")
        assert process.returncode == 0
        (never, *pids), (later, *_) = (note.read_text().split() for note in notes)
        assert (never, later) == ("began", "ended")
        await until(lambda: not any(map(runs, pids)), "what it started to be gone too")
        for run in orders:
            stopped = await client.read_flow_run(run.id)
            assert stopped.state is not None and stopped.state.type is StateType.CRASHED, stopped.state


async def test_a_worker_started_by_a_script_ends_at_sigterm(pool: PrefectServer) -> None:
    """With `&` it inherits an ignored SIGINT, which Prefect's own worker needs in order to end."""
    log = pool.home / "background.log"
    command = f"{{ exec {sys.executable} -m deployments.worker --pool test-pool; }} > {log} 2>&1 & echo $!"
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", command, env=pool.environment, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert shell.stdout is not None
    pid = int(await shell.stdout.readline())
    try:
        await until(lambda: log.exists() and "started!" in log.read_text(), "the worker to start")
        os.kill(pid, signal.SIGTERM)
        await until(lambda: "stopped!" in log.read_text(), "the worker to stop")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
