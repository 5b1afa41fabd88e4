"""Slots that nobody holds any more come free on a real server, and no others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import concurrency
from prefect.context import FlowRunContext
from prefect.states import Crashed, Pending, Running
from pydantic import SecretStr

from blocks import RunComfyCredentials
from tasks.runtime.slot_label import SLOTS_LABEL, SlotsLabel
from tasks.runtime.slots import slots
from tasks.upkeep.facts import HeldSlots
from tasks.upkeep.held import SlotsInspection, free_leaked_slots, slots_held
from tasks.upkeep.slot_runs import unlabelled_holders
from tests.tasks.deployed import Deployed

pytestmark = pytest.mark.slow  # leases are waited for

LEASE = timedelta(seconds=2)


@pytest.fixture(autouse=True)
def prefect(prefect_api: str) -> None:
    """Every test here runs on the test server."""


async def a_limit(slots: int) -> str:
    name = f"limit-{uuid4().hex[:8]}"
    async with get_client() as client:
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))
    return name


async def leak(name: str, slots: int) -> None:
    """Acquire slots like those of a run whose lease is lost with a server's memory."""
    async with get_client() as client:
        await client.increment_concurrency_slots(names=[name], slots=slots, mode="concurrency")


async def active(name: str) -> int:
    async with get_client() as client:
        return (await client.read_global_concurrency_limit_by_name(name)).active_slots


@asynccontextmanager
async def holding(name: str, wanted: int) -> AsyncIterator[None]:
    """Run a flow that holds slots, as our flows do."""
    account = RunComfyCredentials(api_token=SecretStr("t"), concurrency_limit=name)
    begun, over = asyncio.Event(), asyncio.Event()

    @flow
    async def holder() -> None:
        async with slots(account, wanted):
            begun.set()
            await over.wait()

    running = asyncio.create_task(holder())
    async with asyncio.timeout(600):
        await begun.wait()
    try:
        yield
    finally:
        over.set()
        await running


class Looks:
    """A deployment whose runs check the slots, with short leases."""

    def __init__(self, *limits: str, lease: timedelta = LEASE) -> None:
        self.limits, self.found, self.lease = limits, SlotsInspection(()), lease
        self.deployed = Deployed(self._look)

    async def _look(self) -> None:
        context = FlowRunContext.get()
        assert context is not None
        async with get_client() as client:
            self.found = await free_leaked_slots(
                client, self.limits, context.flow_run, lease=self.lease, says_so_seconds=0.5
            )

    async def look(self) -> SlotsInspection:
        """Check them, and then wait until the leases are over."""
        await self.look_only()
        await asyncio.sleep(self.lease.total_seconds() + 4)  # the time that a busy server reports is some seconds late
        return self.found

    async def look_only(self) -> None:
        if self.deployed.id.int == 0:
            await self.deployed.create()
        state = await self.deployed.carry_out()
        assert state.is_completed(), state

    async def look_until_active(self, name: str, slots: int) -> None:
        """Check until so many are taken: where a busy server does not say that it freed some, the next check does."""
        for _ in range(10):
            await self.look()
            if await active(name) <= slots:
                break
        assert await active(name) == slots, self.found

    def of(self, name: str) -> HeldSlots:
        return next(each for each in self.found.held if each.name == name)


async def test_a_run_records_what_it_holds_and_released() -> None:
    """In a label, which the server keeps, for its own attempt."""
    name = await a_limit(3)
    async with holding(name, 2), get_client() as client:
        (said,) = [
            label
            for run in await client.read_flow_runs()
            if (label := SlotsLabel.of(run.labels)) and label.limit == name
        ]
        assert (said.run_count, said.slots, said.waiting) == (1, 2, False)
        (held,) = await slots_held(client, [name])
        assert (held.limit, held.active, held.held, held.leaked) == (3, 2, 2, 0)
    async with get_client() as client:
        (said,) = [
            label
            for run in await client.read_flow_runs()
            if (label := SlotsLabel.of(run.labels)) and label.limit == name
        ]
        assert said.slots == 0


async def test_leaked_slots_come_free_and_held_ones_stay() -> None:
    """Not at the first check, since Prefect might free them by itself; each account has its own."""
    name, other = await a_limit(5), await a_limit(5)
    looks = Looks(name, other, "no-such-limit")
    await leak(name, 2)
    async with holding(name, 1), holding(other, 3):
        first = await looks.look()
        assert (looks.of(name).freed, looks.of(name).leaked, await active(name)) == (0, 2, 3)
        assert first.due is not None

        await looks.look_until_active(name, 1)
        assert looks.of(name).held == 1
        assert (looks.of(other).freed, await active(other)) == (0, 3)
        last = await looks.look()
        assert (looks.of(name).freed, await active(name)) == (0, 1)
        assert last.due is None
    assert (await active(name), await active(other)) == (0, 0)


async def test_slots_of_runs_without_labels_are_left_alone() -> None:
    """A run of another project uses the limit as Prefect documents it: then nothing is known of any slot."""
    name = await a_limit(5)
    looks, begun, over = Looks(name), asyncio.Event(), asyncio.Event()
    await leak(name, 1)

    @flow
    async def stranger() -> None:
        async with concurrency(name, occupy=2):
            begun.set()
            await over.wait()

    running = asyncio.create_task(stranger())
    async with asyncio.timeout(600):
        await begun.wait()
    async with get_client() as client:
        limit = await client.read_global_concurrency_limit_by_name(name)
        for _ in range(600):  # Prefect sends its events in the background
            if await unlabelled_holders(client, str(limit.id)):
                break
            await asyncio.sleep(0.2)
    await looks.look()
    await looks.look()

    assert (looks.of(name).freed, await active(name)) == (0, 3)
    assert "without saying how many" in looks.of(name).note
    over.set()
    await running
    await looks.look_until_active(name, 0)


async def test_the_slots_of_a_run_that_crashed_are_left_to_its_lease() -> None:
    """And those of an attempt that runs again are its own.

    The check has to come before the lease is over: on a slow machine, the story is told again with a longer one.
    """
    for doubled in range(6):
        if await slots_are_left_to_the_lease(LEASE * 2**doubled):
            return
    raise AssertionError("every check came too late")


async def slots_are_left_to_the_lease(lease: timedelta) -> bool:
    """Return whether the check came in time."""
    name = await a_limit(5)
    looks = Looks(name, lease=lease)
    await leak(name, 1)
    async with get_client() as client:
        run = await client.create_flow_run(flow(lambda: None, name="crashed"), state=Pending())
        await client.set_flow_run_state(run.id, Running())
        said = SlotsLabel(run_count=1, slots=1, limit=name)
        await client.update_flow_run_labels(run.id, said.to_labels())
        await looks.look()
        crashed = time.monotonic()
        await client.set_flow_run_state(run.id, Crashed())
        await looks.look_only()
        if time.monotonic() - crashed > lease.total_seconds():
            return False

        assert (looks.of(name).freed, looks.of(name).lately, await active(name)) == (0, 1, 1)
        await asyncio.sleep(lease.total_seconds() + 4)
        await client.update_flow_run_labels(
            run.id, {SLOTS_LABEL: said.model_copy(update={"slots": 0}).model_dump_json()}
        )
        await looks.look_until_active(name, 0)
    return True


async def test_slots_of_a_deployments_own_limit_come_free() -> None:
    """Slots that no run of it holds: here one, beside that of a starting run."""
    looks = Looks()
    ours = Deployed(looks.look, concurrency_limit=3)
    deployment_id = await ours.create()
    async with get_client() as client:
        run = await ours.start()
        await client.set_flow_run_state(run.id, Pending())
        limit = (await client.read_deployment(deployment_id)).global_concurrency_limit
        assert limit is not None and limit.active_slots == 1
        await leak(limit.name, 1)

        await looks.look()
        assert await active(limit.name) == 2
        await looks.look_until_active(limit.name, 1)

        (held,) = [each for each in looks.found.held if each.name == f"deployment:{ours.flow.name}/made-up"]
        assert held.held == 1
        await client.set_flow_run_state(run.id, Crashed())
    assert await active(limit.name) == 0
