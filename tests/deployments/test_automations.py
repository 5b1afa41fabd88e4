"""The automations on a real server: dead runs are marked as crashed; resting and ended ones are left alone.

The time-outs are short, so that the test is. Nothing waits for a time to pass: the last runs of all are dead ones,
and when both of them are marked, each one before them had its turn.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.clients import PrefectEventsClient
from prefect.events.schemas.events import Event, RelatedResource, Resource
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Late,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    Suspended,
)

from deployments.automations import CRASHED, DEAD, PENDING, dead, pending, reconcile_after_crash
from tests.deployments.conftest import PrefectServer
from tests.deployments.stack import SECRETS, Stack, _postgres
from tests.ports import free_ports

pytestmark = pytest.mark.slow

PATIENCE = timedelta(seconds=30)
BEAT = "beat"


def named(name: str, kind: StateType) -> State:
    return State(type=kind, name=name)


def later(name: str = "Scheduled") -> State:
    return Scheduled(name=name, scheduled_time=datetime.now(UTC) + timedelta(hours=1))


DEAD_ONES: dict[str, list[Any]] = {
    "silent after it began": [Pending(), Running()],
    "silent after a heartbeat": [Pending(), Running(), BEAT],
    "silent after many": [Pending(), Running(), BEAT, BEAT, BEAT],
    "silent after it began again": [Pending(), Running(), BEAT, Retrying()],
    "silent in its second life": [Running(), BEAT, Crashed(), AwaitingRetry(), Pending(), Running(), BEAT],
    "silent after it was resumed": [Running(), BEAT, Suspended(), later("Resuming"), Pending(), Running(), BEAT],
    "never began": [Pending()],
    "never began, submitted": [Pending(), named("Submitting", StateType.PENDING)],
    "never began, no machine": [Pending(), named("InfrastructurePending", StateType.PENDING)],
    "never began in its second life": [Pending(), Running(), BEAT, Crashed(), AwaitingRetry(), Pending()],
}
OTHERS: dict[str, list[Any]] = {
    "suspended": [Pending(), Running(), BEAT, Suspended()],
    "paused": [Pending(), Running(), BEAT, Paused()],
    "resuming": [Pending(), Running(), BEAT, Suspended(), later("Resuming")],
    "to be run again": [Pending(), Running(), BEAT, later("AwaitingRetry")],
    "crashed, to be run again": [Pending(), Running(), BEAT, Crashed(), later("AwaitingRetry")],
    "rescheduled": [Pending(), Running(), BEAT, later()],
    "given back before it began": [Pending(), later()],
    "waits for a slot": [Pending(), later("AwaitingConcurrencySlot")],
    "waits for something of its own": [Pending(), Running(), BEAT, later("WaitingForTheMorning")],
    "late": [later(), Late(scheduled_time=datetime.now(UTC))],
    "completed": [Pending(), Running(), BEAT, Completed()],
    "failed": [Pending(), Running(), BEAT, Failed()],
    "timed out": [Pending(), Running(), BEAT, named("TimedOut", StateType.FAILED)],
    "incomplete": [Pending(), Running(), BEAT, named("Incomplete", StateType.FAILED)],
    "cancelled": [Pending(), Running(), BEAT, Cancelled()],
    "being cancelled": [Pending(), Running(), BEAT, Cancelling()],
    # The heartbeat and the state arrive by different ways: the older one may arrive second.
    "completed before its last heartbeat came": [Pending(), Running(), BEAT, Completed(), BEAT],
    "cancelled before its last heartbeat came": [Pending(), Running(), BEAT, Cancelled(), BEAT],
    "being cancelled, and still at work": [Pending(), Running(), BEAT, Cancelling(), BEAT],
    "incomplete before its last heartbeat came": [Running(), named("Incomplete", StateType.FAILED), BEAT],
}


@dataclass
class Runs:
    """Runs of a deployment of this project, whose states and heartbeats the test makes."""

    client: PrefectClient
    events: PrefectEventsClient
    deployment: UUID
    made: dict[str, UUID] = field(default_factory=dict)

    async def make(self, name: str, story: list[Any]) -> UUID:
        """Create a run and take it through its states."""
        run = await self.client.create_flow_run_from_deployment(self.deployment, name=name)
        self.made[name] = run.id
        for step in story:
            if step == BEAT:
                await self.beat(run.id)
            else:
                await self.client.set_flow_run_state(run.id, step, force=True)
        return run.id

    async def beat(self, run_id: UUID) -> None:
        """Send what Prefect's engine sends (`_emit_flow_run_heartbeat` of `prefect.flow_engine`)."""
        await self.events.emit(
            Event(
                event="prefect.flow-run.heartbeat",
                resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run_id}"}),
                related=[
                    RelatedResource({"prefect.resource.id": "prefect.tag.runcomfy", "prefect.resource.role": "tag"})
                ],
            )
        )

    async def state(self, run_id: UUID) -> State:
        state = (await self.client.read_flow_run(run_id)).state
        assert state is not None
        return state


async def until(happened: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + 900
    while not await happened():
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.5)


@dataclass(frozen=True)
class PostgresServer(PrefectServer):
    """A server on PostgreSQL: on SQLite it loses events when it is busy ("database is locked", four times at once)."""

    database: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server of its own: with these time-outs, the runs of other tests would count as dead."""
    home, (port,) = tmp_path_factory.mktemp("automations"), free_ports()
    stack = Stack(Path(tempfile.mkdtemp(prefix="runcomfy-automations-")), {"postgres": port}, SECRETS)
    stack.home.chmod(0o755)  # PostgreSQL's own user passes through it
    database = f"postgresql+asyncpg://prefect:{SECRETS['POSTGRES_PASSWORD']}@127.0.0.1:{port}/prefect"
    try:
        with _postgres(stack), PostgresServer.started(home, database=database) as server:
            yield server
    finally:
        shutil.rmtree(stack.home, ignore_errors=True)


@pytest.fixture
async def runs(server: PrefectServer) -> AsyncIterator[Runs]:
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        async with get_client() as client, PrefectEventsClient(server.api_url) as events:
            flow_id = await client.create_flow_from_name("text-to-video")
            deployment = await client.create_deployment(flow_id, f"video-{uuid4().hex[:8]}", tags=["runcomfy"])
            yield Runs(client, events, deployment)
            for automation in await client.read_automations():
                await client.delete_automation(automation.id)


async def test_only_dead_runs_are_marked_as_crashed(runs: Runs) -> None:
    """By the name of the automation and with the reason; resting, ended and living runs stay as they are."""
    for automation in (dead(PATIENCE), pending(PATIENCE)):
        await runs.client.create_automation(automation)
    alive = await runs.make("alive", [Pending(), Running(), BEAT])
    beating = asyncio.create_task(keep_beating(runs, alive))
    for name, story in (OTHERS | DEAD_ONES).items():
        await runs.make(name, story)
    before = {name: await runs.state(runs.made[name]) for name in OTHERS}

    last = [await runs.make("last silent", [Running(), BEAT]), await runs.make("last that never began", [Pending()])]

    async def over() -> bool:
        return all([(await runs.state(each)).type is StateType.CRASHED for each in last])

    await until(over, "the last runs to be marked as crashed")
    assert not beating.done(), "the heartbeats of the living run ended"
    beating.cancel()
    assert (await runs.state(alive)).name == "Running"
    wrong = {
        name: (before[name].name, found.name, found.message)
        for name in OTHERS
        if (found := await runs.state(runs.made[name])).id != before[name].id
    }
    assert wrong == {}
    ends = {name: await runs.state(runs.made[name]) for name in DEAD_ONES}
    assert {name: state.type for name, state in ends.items()} == dict.fromkeys(DEAD_ONES, StateType.CRASHED)
    for name, state in ends.items():
        by = PENDING if name.startswith("never began") else DEAD
        assert str(state.message).startswith(f'Forced by the automation "{by}": ') and "30 s" in str(state.message)


async def keep_beating(runs: Runs, run_id: UUID) -> None:
    while True:
        await asyncio.sleep(2)
        await runs.beat(run_id)


async def burst_of_crashes(runs: Runs, burst: timedelta) -> tuple[UUID, list[datetime]]:
    """Make an automation for bursts of such a length, and crashes close together; return what it starts, and when."""
    flow_id = await runs.client.create_flow_from_name("reconcile")
    reconcile = await runs.client.create_deployment(flow_id, f"reconcile-{uuid4().hex[:8]}", tags=["runcomfy"])
    await runs.client.create_automation(reconcile_after_crash(reconcile, burst, burst * 1.5))
    crashes = (Crashed(), Crashed(name="OutOfMemory"), Crashed(), Crashed(), Crashed())
    await runs.make("a failure of its own", [Pending(), Running(), Failed()])
    made = [await runs.make(f"crash {number}", [Running()]) for number in range(len(crashes))]
    for run, state in zip(made, crashes, strict=True):
        await runs.client.set_flow_run_state(run, state, force=True)
    return reconcile, [(await runs.state(each)).timestamp for each in made]


async def test_a_burst_of_crashes_starts_one_reconcile_after_the_last_of_them(runs: Runs) -> None:
    """Whatever the name of the crashed state; the next crash starts another one."""
    for seconds in (8, 16, 32, 64, 128):  # a machine that is too busy to make a burst gets a longer one
        burst = timedelta(seconds=seconds)
        reconcile, times = await burst_of_crashes(runs, burst)
        if max(times) - min(times) < burst:
            break
        for automation in await runs.client.read_automations():
            await runs.client.delete_automation(automation.id)

    async def started() -> list[FlowRun]:
        of_it = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[reconcile]))
        return await runs.client.read_flow_runs(flow_run_filter=of_it)

    async def one() -> bool:
        return len(await started()) == 1

    async def two() -> bool:
        return len(await started()) == 2

    await until(one, "reconcile to be started")
    (first,) = await started()
    assert first.expected_start_time is not None and first.expected_start_time > max(times)
    await asyncio.sleep((min(times) + burst - datetime.now(UTC)).total_seconds())

    last = await runs.make("a crash of another kind", [Running(), Crashed(name="NoMachine")])

    await until(two, "reconcile to be started again")
    (second,) = [each for each in await started() if each.id != first.id]
    assert second.expected_start_time is not None
    assert second.expected_start_time > (await runs.state(last)).timestamp
    assert CRASHED in {each.name for each in await runs.client.read_automations()}
