"""A worker that is started without queue names takes runs of `upkeep` first, even if it has room for only one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.setup.pool import ensure_upkeep_queue
from deployments.setup.steps import Allowed
from tests.deployments.conftest import PrefectServer

pytestmark = pytest.mark.slow

FLOW = '''
from prefect import flow


@flow
def nothing():
    """Do nothing."""
'''


async def test_upkeep_goes_first(prefect_server: PrefectServer, tmp_path: Path, prefix: str) -> None:
    """Three runs were scheduled before it; it runs before all of them."""
    (tmp_path / "nothing.py").write_text(FLOW, encoding="utf-8")
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        async with get_client() as client:
            await client.create_work_pool(WorkPoolCreate(name=prefix, type="process"))
            step = await ensure_upkeep_queue(client, prefix, Allowed(lambda _: False))
            flow_id = await client.create_flow_from_name("nothing")

            async def deploy(queue: str) -> FlowRun:
                deployment = await client.create_deployment(
                    flow_id, f"{queue}-{prefix}", work_pool_name=prefix, work_queue_name=queue,
                    path=str(tmp_path), entrypoint="nothing.py:nothing",
                )  # fmt: skip
                return await client.create_flow_run_from_deployment(deployment)

            others = [await deploy("default") for _ in range(3)]
            upkeep = await deploy("upkeep")
            with prefect_server.running("deployments.worker", "--pool", prefix, "--limit", "1"):
                first = await ended(client, upkeep)
                last = [await ended(client, each) for each in others]

    assert step.outcome == "created"
    assert first.start_time is not None and first.end_time is not None
    assert all(each.start_time is not None and each.start_time > first.end_time for each in last)


async def ended(client: PrefectClient, run: FlowRun) -> FlowRun:
    deadline = time.monotonic() + 900
    while True:
        found = await client.read_flow_run(run.id)
        if found.state is not None and found.state.is_final():
            assert found.state.is_completed(), found.state
            return found
        assert time.monotonic() < deadline, f"the run is {found.state}"
        await asyncio.sleep(0.5)
