"""`reconcile` runs again when something is due: once, however many request it, and not if another run does it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Failed, Running, Scheduled, State

from tasks.upkeep.next_run import COVERED, WHEN_DUE_TAG, covering_run, covers, next_time, run_again_at
from tests.tasks.deployed import Deployed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def prefect(prefect_api: str) -> None:
    """Every test here runs on the test server."""


def a_run(due: float, started: float | None = None, state: State | None = None, store: str = "a") -> FlowRun:
    """Return a run that was due this many seconds after noon, and began then."""
    return FlowRun(
        flow_id=uuid4(),
        parameters={"store": store},
        expected_start_time=NOON + timedelta(seconds=due),
        start_time=None if started is None else NOON + timedelta(seconds=started),
        state_type=state.type if state else None,
        state_name=state.name if state else None,
    )


@pytest.mark.parametrize(
    ("other", "covered"),
    [
        (a_run(0, 10, Completed()), True),
        (a_run(0, 9, Completed()), False),
        (a_run(0, 10, Completed(), store="b"), False),
        (a_run(0, 10, Completed(name=COVERED)), False),
        (a_run(0, 10, Failed()), False),
        (a_run(0, 10, Crashed()), False),
        (a_run(0, 10, Running()), False),
        (a_run(0, None, Scheduled()), False),
    ],
)
def test_a_run_is_covered_by_one_that_began_after_it_was_due(other: FlowRun, covered: bool) -> None:
    """And did the same, to its end; one that left it to a third, which may have begun earlier, does not count."""
    assert covers(other, a_run(10, 20, Running())) is covered


@pytest.mark.parametrize(
    ("due", "took", "at"),
    [(300, 5, 300), (301, 5, 320), (-999, 5, 20), (0, 5, 20), (0, 130, 140), (300, 130, 300), (0, -3, 20)],
)
def test_it_pauses_as_long_as_it_ran(due: float, took: float, at: float) -> None:
    """With thousands open, something is always due; so it runs at most half of the time."""
    assert next_time(NOON + timedelta(seconds=due), NOON - timedelta(seconds=took), NOON) == NOON + timedelta(
        seconds=at
    )


async def scheduled(deployed: Deployed) -> list[FlowRun]:
    async with get_client() as client:
        mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployed.id]))
        runs = await client.read_flow_runs(flow_run_filter=mine)
    return [run for run in runs if run.state is not None and run.state.is_scheduled()]


async def test_ten_that_see_the_same_create_one_run() -> None:
    """At the due time, with a reason, a tag, and the same parameters."""
    due = datetime.now(UTC) + timedelta(minutes=5)
    said: list[datetime | None] = []

    async def body() -> None:
        said.append(await run_again_at(due, "3 request(s) are due"))

    deployed = Deployed(body, parameters={"number": 7}, enforce_parameter_schema=False)
    await deployed.create()
    await asyncio.gather(*(deployed.carry_out() for _ in range(3)))
    for _ in range(2):
        await deployed.carry_out()

    (run,) = await scheduled(deployed)
    assert run.state is not None and run.state.message is not None and "3 request(s) are due" in run.state.message
    assert WHEN_DUE_TAG in run.tags and run.parameters == {"number": 7}
    assert run.expected_start_time is not None
    assert timedelta() <= run.expected_start_time - due < timedelta(seconds=20)
    assert set(said) == {run.expected_start_time}


async def test_an_earlier_scheduled_run_is_enough() -> None:
    """One for another store is not, nor one that was due before this one began, which covers it."""
    due = datetime.now(UTC) + timedelta(minutes=5)

    async def body() -> None:
        await run_again_at(due, "due")

    deployed = Deployed(body, parameters={"number": 7}, enforce_parameter_schema=False)
    await deployed.create()
    first = await deployed.start()
    await deployed.start(parameters={"number": 8}, state=Scheduled(scheduled_time=due - timedelta(minutes=1)))
    await deployed.start(state=Scheduled(scheduled_time=due - timedelta(minutes=30)))
    await deployed.carry_out(first)
    assert len(await scheduled(deployed)) == 3

    another = Deployed(body, enforce_parameter_schema=False)
    await another.create()
    await another.start(state=Scheduled(scheduled_time=due - timedelta(minutes=1)))
    await another.carry_out()
    assert len(await scheduled(another)) == 1


async def test_what_is_due_at_once_is_polled_in_twenty_seconds() -> None:
    """Never sooner, to avoid a busy loop."""
    said: list[datetime | None] = []
    began = datetime.now(UTC)

    async def body() -> None:
        said.append(await run_again_at(began - timedelta(hours=1), "due"))

    deployed = Deployed(body)
    await deployed.create()
    await deployed.carry_out()

    assert said[0] is not None and said[0] >= began + timedelta(seconds=20)


async def test_a_run_that_waited_finds_the_one_that_did_it() -> None:
    """The first of two that waited does it, the second one ends."""
    found: list[FlowRun | None] = []

    async def body() -> None:
        found.append(await covering_run())

    deployed = Deployed(body)
    await deployed.create()
    first, second = await deployed.start(), await deployed.start()
    await deployed.carry_out(first)
    await deployed.carry_out(second)

    assert found[0] is None and found[1] is not None and found[1].id == first.id


async def test_without_a_deployment_nothing_is_scheduled() -> None:
    """A script runs it again when its user wants that."""

    @flow
    async def alone() -> tuple[object, object]:
        return await run_again_at(datetime.now(UTC), "due"), await covering_run()

    assert await alone() == (None, None)
