"""Runs of deployments on Prefect's own test server, put into the states that a kill leaves them in."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State, StateType

from tasks.upkeep.facts import Facts, RunFacts
from tasks.upkeep.heartbeats import read_heartbeats
from tasks.upkeep.reading import read_facts
from tests.prefect_server import delete_runs


@flow(name="order")
def order(prompt: str = "rain", on_interrupt: str = "ask") -> None:
    """What the deployments of these tests run."""


class Orders:
    """A deployment of orders, and the runs that a test makes of it."""

    def __init__(self, client: PrefectClient, pool: str) -> None:
        self.client = client
        self.pool = pool
        self.id = UUID(int=0)

    async def deploy(self, **options: Any) -> UUID:
        """Deploy it again, and return its id."""
        flow_id = await self.client.create_flow_from_name("order")
        given = {"entrypoint": "order.py:order", "tags": ["runcomfy"], "work_pool_name": self.pool} | options
        self.id = await self.client.create_deployment(flow_id, f"order-{uuid.uuid4().hex}", **given)
        return self.id

    async def run(self, *states: State[Any], **options: Any) -> UUID:
        """Create a run and take it through these states."""
        made = await self.client.create_flow_run_from_deployment(self.id, **options)
        for state in states:
            await self.client.set_flow_run_state(made.id, state)
        return made.id

    async def beat(self, run: UUID, *times: datetime) -> None:
        """Send heartbeats of a run, as if at these times."""
        for at in times:
            await self.client._client.post(
                "/events",
                json=[
                    {
                        "occurred": at.isoformat(),
                        "event": "prefect.flow-run.heartbeat",
                        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
                        "id": str(uuid.uuid4()),
                    }
                ],
            )

    async def heard(self, beats: Mapping[UUID, int]) -> None:
        """Wait until the server has stored this many heartbeats of each run."""
        async with asyncio.timeout(600):
            while True:
                found = await read_heartbeats(self.client, beats, now())
                if {run: told.count for run, told in found.items()} == dict(beats):
                    return
                await asyncio.sleep(0.2)

    async def told(self, counts: Mapping[UUID, int], prefix: str) -> dict[UUID, list[dict[str, Any]]]:
        """Wait until the server has this many events of each run, and return them, the oldest first."""
        chosen = {"event": {"prefix": [prefix]}, "resource": {"id": [f"prefect.flow-run.{run}" for run in counts]}}
        async with asyncio.timeout(600):
            while True:
                answer = await self.client._client.post("/events/filter", json={"filter": chosen | {"order": "ASC"}})
                found: dict[UUID, list[dict[str, Any]]] = {run: [] for run in counts}
                for event in answer.json()["events"]:
                    found[UUID(event["resource"]["prefect.resource.id"].rpartition(".")[2])].append(event)
                if all(len(found[run]) >= count for run, count in counts.items()):
                    return found
                await asyncio.sleep(0.2)

    async def places_taken(self) -> int:
        """Return how many slots of the deployment's own limit are taken."""
        limit = (await self.client.read_deployment(self.id)).global_concurrency_limit
        assert limit is not None
        return limit.active_slots

    async def facts(self) -> Facts:
        return await read_facts(self.client)

    async def known(self, run: UUID) -> RunFacts:
        """Return what is known of a run."""
        return next(found for found in (await self.facts()).runs if found.id == run)

    async def state(self, run: UUID) -> State[Any]:
        found = (await self.client.read_flow_run(run)).state
        assert found is not None
        return found


@pytest.fixture
async def orders(prefect_api: str) -> AsyncIterator[Orders]:
    """A deployment in a work pool of its own, and nothing else that is tagged as ours."""
    await delete_runs()
    async with get_client() as client:
        pool = f"pool-{uuid.uuid4().hex}"
        await client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        made = Orders(client, pool)
        await made.deploy()
        yield made
        await delete_runs()
        for deployment in (await made.facts()).deployments:
            await client.delete_deployment(deployment)


def now() -> datetime:
    return datetime.now(UTC)


__all__ = ["Orders", "StateType", "now"]
