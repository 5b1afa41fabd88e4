"""SIGTERM while submissions are being answered: it waits for the answers, so that it is known what was paid for."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runcomfy.journal import BucketJournalStore, EntryState, Journal
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store

ROOT = Path(__file__).parents[3]
MANY = 40

# Submissions with the engine alone, in the loop of the main thread; then a sleep stands in for the waiting for results.
PROGRAM = """
import asyncio, os, signal, sys
import boto3
from runcomfy.api.client import RunComfyClient
from runcomfy.errors import RunComfyError
from runcomfy.interruption.shutdown import shutdown
from runcomfy.journal import BucketJournalStore, GenerationSpec, Journal, submit_once
from runcomfy.models import TextToVideo
from runcomfy.storage.store import Store

env = os.environ
store = Store("videos", env["PREFIX"], session=boto3.Session(), endpoint_url=env["ENDPOINT"])
journal = Journal(BucketJournalStore(store))

async def one(client, number):
    inputs = TextToVideo(prompt=f"{env['PROMPT']} {number}")
    async def prepare():
        while number >= int(env["READY"]) and (env.get("NEVER") or not shutdown.requested):
            await asyncio.sleep(0.01)
        return inputs
    async def intact(archive):
        return True
    spec = GenerationSpec(inputs, client.base_url, (), "", run="run", flow_run={}, store="s3://videos")
    try:
        await submit_once(client, journal, spec, prepare=prepare, intact=intact)
    except RunComfyError as error:
        print(type(error).__name__, flush=True)

async def main():
    if env.get("OWN_HANDLER"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    async with RunComfyClient(env["TOKEN"], base_url=env["URL"]) as client:
        print("begun", flush=True)
        await asyncio.gather(*(one(client, number) for number in range(int(env["MANY"]))))
        print("done", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


class World:
    """A sandbox, a journal, and processes that use both."""

    def __init__(self, sandbox: Sandbox, object_store: ObjectStore, prefix: str) -> None:
        self.sandbox = sandbox
        store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
        self.journal = Journal(BucketJournalStore(store))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNCOMFY_", "AWS_"))}
        self.environment = kept | {
            "TOKEN": sandbox.token,
            "URL": sandbox.url,
            "PREFIX": prefix,
            "ENDPOINT": object_store.endpoint_url,
            "AWS_ACCESS_KEY_ID": object_store.access_key,
            "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "READY": str(MANY),  # so many are prepared at once, and the others as soon as the process is told to stop
        }

    @contextmanager
    def process(self, prompt: str, many: int = MANY, **environment: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=self.environment | {"PROMPT": prompt, "MANY": str(many)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def accepted(self) -> int:
        return self.sandbox.books().submissions_accepted

    async def states(self) -> Counter[EntryState]:
        return Counter([found.entry.state async for found in self.journal.entries()])


@pytest.fixture
def world(sandbox: Sandbox, object_store: ObjectStore, prefix: str) -> World:
    return World(sandbox, object_store, prefix)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
async def test_answers_that_come_in_time_are_recorded(world: World, times: int) -> None:
    """The process ends by SIGTERM when the last of them is; a second signal does not hurry it."""
    with world.process("rain [sandbox: submit=slow:seconds=2]") as process:
        until(lambda: world.accepted() == MANY)
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)
        _, log = process.communicate(timeout=300)

    assert process.returncode == -signal.SIGTERM and "Traceback" not in log, log
    assert await world.states() == {EntryState.SUBMITTED: MANY}
    assert world.accepted() == MANY


async def test_answers_that_do_not_come_in_time_are_recorded_as_uncertain(world: World) -> None:
    """After the grace period, each is in the journal with the time that it was sent, and none is paid for twice."""
    prompt = "rain [sandbox: submit=slow:seconds=100]"
    with world.process(prompt, RUNCOMFY_SHUTDOWN_GRACE_SECONDS="10") as process:
        until(lambda: world.accepted() == MANY)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGTERM and "Traceback" not in log, log
    entries = [found.entry async for found in world.journal.entries()]
    assert {entry.state for entry in entries} == {EntryState.UNCERTAIN} and len(entries) == MANY
    assert all("told to stop" in (entry.reason or "") and entry.began_at for entry in entries)

    with world.process(prompt) as process:
        said = [process.stdout.readline() for _ in range(MANY + 2)] if process.stdout else []
    assert Counter(said) == {"begun\n": 1, "UncertainSubmission\n": MANY, "done\n": 1}
    assert world.accepted() == MANY


async def test_nothing_is_sent_after_it(world: World) -> None:
    """Those that are not begun yet do not begin, and do not cancel those that are answered a little later."""
    with world.process("rain [sandbox: submit=slow:seconds=2]", many=9, READY="3") as process:
        until(lambda: world.accepted() == 3)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=300)

    # What did not begin was cancelled, which ends the program as well: the signal may cut that traceback off, or not.
    printed = [line for line in log.splitlines() if re.match(r"[\w.]*(Error|Exception|Submission|Unanswered)\b", line)]
    assert process.returncode == -signal.SIGTERM, log
    assert all("CancelledError" in line for line in printed), log
    assert await world.states() == {EntryState.SUBMITTED: 3}
    assert world.accepted() == 3


@pytest.mark.slow
async def test_nothing_delays_it_before_the_first(world: World) -> None:
    """Before anything is sent, it ends the process at once; nothing is in the journal."""
    with world.process("rain", many=4, READY="3", NEVER="1") as process:
        until(lambda: world.accepted() == 3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)

    assert await world.states() == {EntryState.SUBMITTED: 3}


@pytest.mark.slow
async def test_a_pause_between_two_attempts_ends_at_once(world: World) -> None:
    """The service limits the rate: the next attempt is not waited for, and the refusal is recorded."""
    forever = {"RUNCOMFY_SHUTDOWN_GRACE_SECONDS": "3600"}  # so that it is not the end of this that ends the process
    with world.process("rain [sandbox: submit=http_429:retry_after=60]", many=2, **forever) as process:
        until(lambda: world.sandbox.books().submissions_received >= 2)
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)

    assert world.sandbox.books().submissions_received == 2
    assert await world.states() == {EntryState.REFUSED: 2}


@pytest.mark.slow
async def test_a_handler_of_the_program_runs_afterwards(world: World) -> None:
    """The handler that was installed before runs when everything is recorded."""
    with world.process("rain [sandbox: submit=slow:seconds=1]", many=3, OWN_HANDLER="1") as process:
        until(lambda: world.accepted() == 3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)

    assert process.returncode == 7
    assert await world.states() == {EntryState.SUBMITTED: 3}


@pytest.mark.slow
async def test_a_grace_period_that_is_not_a_number_is_refused_before_anything_is_paid_for(world: World) -> None:
    """A typo in the variable must be reported before the process is being stopped."""
    with world.process("rain", many=1, RUNCOMFY_SHUTDOWN_GRACE_SECONDS="25s") as process:
        assert process.stdout
        said = [process.stdout.readline() for _ in range(3)]

    assert said == ["begun\n", "ConfigurationError\n", "done\n"]
    assert world.accepted() == 0


FORKS = """
import asyncio, os, signal, threading
from runcomfy.interruption.shutdown import Shutdown

shutdown = Shutdown(grace_seconds=1)
signal.signal(signal.SIGTERM, shutdown.wrap_handler(lambda *_: None))

async def submit():
    async with shutdown.hold() as hold:
        hold.begin()
        return "submitted"

def child():
    if (pid := os.fork()) == 0:
        signal.alarm(10)
        print(asyncio.run(submit()), flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def hold_the_lock(taken, done):
    with shutdown._changed:
        taken.set()
        done.wait()

taken, done = threading.Event(), threading.Event()
threading.Thread(target=hold_the_lock, args=(taken, done)).start()
taken.wait()
child()
done.set()

async def stopping():
    async with shutdown.hold() as hold:
        hold.begin()
        os.kill(os.getpid(), signal.SIGTERM)
        child()

asyncio.run(stopping())
child()
print("parent", shutdown.requested, flush=True)
os._exit(0)
"""


def test_a_child_is_not_stopped_with_its_parent() -> None:
    """It starts clean: without the locks of threads that it does not have, and without the stop of its parent."""
    done = subprocess.run([sys.executable, "-c", FORKS], cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert done.stdout.split() == ["submitted"] * 3 + ["parent", "True"], done.stderr


CALLBACKS = """
import asyncio, os, signal, sys, time
from runcomfy.interruption.shutdown import shutdown

class Stop(BaseException):
    pass

calls = []

def handler(number, frame):
    calls.append(number)
    raise Stop

async def main():
    signal.signal(signal.SIGTERM, shutdown.wrap_handler(handler))
    loop = asyncio.get_running_loop()
    callback = lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(0.3))
    if sys.argv[1] == "held":
        hold = shutdown.hold()
        hold.begin()
        os.kill(os.getpid(), signal.SIGTERM)
        loop.call_soon(lambda: (hold.end(), time.sleep(0.3)))  # it is passed on in the middle of this
    elif sys.argv[1] == "not held":
        hold = shutdown.hold()
        hold.begin()
        hold.end()
        loop.call_soon(callback)
    elif sys.argv[1] == "never held":
        loop.call_soon(callback)
    else:
        async def other():
            callback()
        asyncio.create_task(other())
    try:
        await asyncio.sleep(30)
    finally:
        time.sleep(0.3)  # it does not come once more
        await asyncio.sleep(0.3)

try:
    asyncio.run(main())
except Stop:
    print("stopped", len(calls))
"""


@pytest.mark.parametrize("when", ["held", "not held", "never held", "in another task"])
def test_a_signal_that_comes_in_a_callback_ends_the_loop(when: str) -> None:
    """asyncio would log or keep what the handler raises there, and the process would go on until it is killed."""
    done = subprocess.run(
        [sys.executable, "-c", CALLBACKS, when], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )

    assert (done.stdout, done.stderr) == ("stopped 1\n", "")
