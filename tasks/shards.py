"""Spread a batch over many workers: parts of it as flow runs of a deployment, which Prefect distributes.

A part is a file of rows in the bucket; its flow run writes what became of them beside it, now and then and at the end,
so that what is known of a part outlives its worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import anyio
import httpx
from prefect import get_client, get_run_logger, runtime
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId, FlowRunFilterState
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling, Crashed

from runcomfy.batch.plan import PlannedRow, rows_to_json
from runcomfy.batch.results import outcomes_from_json
from runcomfy.batch.shard import Allowance, Shard
from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.outcomes import Outcome
from runcomfy.store import Store
from tasks.interruption import cancellation_requested, watchful_sleep

__all__ = ["block_reference", "check_deployment", "run_shards"]

_LOOK_SECONDS = 5.0
_SILENT_SECONDS = 120.0  # a part writes every 15
_MAX_DOCUMENT_BYTES = 256 * 1024 * 1024


def block_reference(block: Block) -> dict[str, Any]:
    """Return a stored block as the parameter of another flow run, so that no secret is in it.

    Raises:
        ConfigurationError: the block is not stored in Prefect.
    """
    if block._block_document_id is None:
        raise ConfigurationError(
            f"A batch that is spread over workers needs the {type(block).__name__} as a block that is stored in "
            "Prefect: save it, and give the stored one."
        )
    return {"$ref": {"block_document_id": str(block._block_document_id)}}


async def check_deployment(name: str) -> None:
    """Make sure that there is a deployment that runs parts.

    Raises:
        ConfigurationError: there is none of this name.
    """
    async with get_client() as client:
        try:
            await client.read_deployment_by_name(name)
        except (ObjectNotFound, ValueError):
            raise ConfigurationError(
                f"There is no deployment {name!r} on this Prefect server, so the batch cannot be spread: deploy it, or "
                "leave rows_per_shard empty."
            ) from None


async def run_shards(
    parts: Sequence[tuple[list[PlannedRow], Allowance]],
    deployment: str,
    parameters: Mapping[str, Any],
    store: Store,
    folder: str,
    known: Callable[[Mapping[int, Outcome]], None],
) -> None:
    """Run every part, and report what becomes of the rows as it gets known; a part that dies leaves the rest out.

    Args:
        parts: The rows of each, and what they may cost.
        deployment: What runs a part, `flow/deployment`.
        parameters: What every part is told beside its rows.
        store: Where rows and outcomes are written.
        folder: Below the store's prefix; another one for each attempt.
        known: Called with outcomes, by line; again and again, for rows that are known already too.

    Raises:
        StorageError: the rows could not be written, or the outcomes not be read.
    """
    shards = []
    for number, (rows, allowance) in enumerate(parts, start=1):
        start = store.key(f"{folder}/{number:04d}")
        shard = Shard(
            number=number,
            rows_key=f"{start}.rows.jsonl",
            outcomes_key=f"{start}.outcomes.jsonl",
            allowance=allowance,
        )
        await asyncio.to_thread(store.put, shard.rows_key, rows_to_json(rows), content_type="application/x-ndjson")
        shards.append(shard)
    async with _cancelled_with_us(), get_client() as client:
        await asyncio.gather(
            *(_Part(shard, len(shards), store, client, known).run(deployment, parameters) for shard in shards)
        )


class _Part:
    """One part, and what is seen of it while it runs."""

    def __init__(
        self,
        shard: Shard,
        count: int,
        store: Store,
        client: PrefectClient,
        known: Callable[[Mapping[int, Outcome]], None],
    ) -> None:
        self._shard = shard
        self._name = f"part {shard.number} of {count}"
        self._store = store
        self._client = client
        self._known = known
        self._seen: datetime | None = None
        self._sign_of_life = time.monotonic()

    async def run(self, deployment: str, parameters: Mapping[str, Any]) -> None:
        """Start its flow run, and wait until that has ended, or has given no sign of life for too long."""
        flow_run = await arun_deployment(
            deployment,
            parameters={**parameters, "shard": self._shard.model_dump(mode="json")},
            flow_run_name=self._name,
            idempotency_key=f"{runtime.flow_run.id} {runtime.flow_run.run_count} {self._shard.rows_key}",
            timeout=0,
        )
        while not (flow_run.state and flow_run.state.is_final()):
            await watchful_sleep(_LOOK_SECONDS)
            with suppress(StorageError, PrefectHTTPStatusError, httpx.HTTPError):  # the next look tells the same
                await self._look()
                flow_run = await self._client.read_flow_run(flow_run.id)
            if self._is_silent(flow_run):
                get_run_logger().warning(
                    "%s has given no sign of life for %.0f s: its worker is taken for dead", self._name, _SILENT_SECONDS
                )
                dead: State[None] = Crashed(
                    message="Its worker gave no sign of life; the batch gave its rows to another."
                )
                await self._client.set_flow_run_state(flow_run.id, dead, force=True)
                break
        await self._look(at_the_end=True)
        get_run_logger().info("%s ended as %s", self._name, flow_run.state_name)

    async def _look(self, *, at_the_end: bool = False) -> None:
        """Read what is known of the rows, if it was written since the last look; times in S3 are whole seconds."""
        written = await asyncio.to_thread(self._store.head, self._shard.outcomes_key)
        if written is None or (written.modified_at == self._seen and not at_the_end):
            return
        document = await asyncio.to_thread(self._store.read, self._shard.outcomes_key, limit_bytes=_MAX_DOCUMENT_BYTES)
        self._known(outcomes_from_json(document))
        self._seen, self._sign_of_life = written.modified_at, time.monotonic()

    def _is_silent(self, flow_run: FlowRun) -> bool:
        """Whether a run that is at work has written nothing for so long that its worker must be dead.

        Prefect leaves the runs of a machine that is lost "running" for ever.
        """
        if flow_run.state is None or not flow_run.state.is_running():
            self._sign_of_life = time.monotonic()
        return time.monotonic() >= self._sign_of_life + _SILENT_SECONDS


@asynccontextmanager
async def _cancelled_with_us() -> AsyncIterator[None]:
    """Cancel the runs of our parts if a person cancelled this run; a redeploy leaves them alone."""
    try:
        yield
    except asyncio.CancelledError:
        with anyio.move_on_after(20, shield=True), suppress(Exception):
            if await cancellation_requested():
                await _cancel_parts()
        raise


async def _cancel_parts() -> None:
    open_states = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
    async with get_client() as client:
        parts = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[UUID(str(runtime.flow_run.id))]),
                state=FlowRunFilterState.model_validate({"type": {"any_": open_states}}),
            )
        )
        for part in parts:
            await client.set_flow_run_state(part.id, Cancelling())
