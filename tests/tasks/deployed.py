"""Runs of a deployment that a test defines, executed in the test's own process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

from prefect import Flow, flow, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow

__all__ = ["Deployed"]


class Deployed:
    """A deployment of a flow whose body the test gives.

    Args:
        body: What a run of it does.
        options: What `create_deployment` takes.
    """

    def __init__(self, body: Callable[[], Awaitable[Any]], **options: Any) -> None:
        async def carried_out(number: int = 0) -> Any:
            return await body()

        self.flow: Flow[..., Any] = flow(carried_out, name=f"made-up-{uuid4().hex[:8]}", log_prints=False)
        self.options = options
        self.id = UUID(int=0)

    async def create(self) -> UUID:
        """Create the deployment."""
        async with get_client() as client:
            flow_id = await client.create_flow_from_name(self.flow.name)
            self.id = await client.create_deployment(flow_id, "made-up", tags=["runcomfy"], **self.options)
        return self.id

    async def start(self, **given: Any) -> FlowRun:
        """Create a run; `given` are further arguments of `create_flow_run_from_deployment`."""
        async with get_client() as client:
            return await client.create_flow_run_from_deployment(self.id, **given)

    async def carry_out(self, run: FlowRun | None = None) -> State[Any]:
        """Execute a run, a new one if none is given, and return its state."""
        run = run or await self.start()
        ended: State[Any] = await run_flow(self.flow, flow_run=run, parameters={}, return_type="state")
        return ended
