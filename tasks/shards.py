"""Spread a batch over many workers: parts of it as flow runs of a deployment, which Prefect distributes.

A part is a file of rows in the bucket; its flow run writes what became of them beside it, now and then and at the end,
so that what is known of a part outlives its worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import anyio
from prefect import get_client, get_run_logger, runtime
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from runcomfy.batch.plan import PlannedRow, rows_to_json
from runcomfy.batch.results import outcomes_from_json
from runcomfy.batch.shard import Allowance, Shard
from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.outcomes import Outcome
from runcomfy.store import Store
from tasks.interruption import cancellation_requested

__all__ = ["block_reference", "check_deployment", "read_outcomes", "run_shards"]

_LOOK_SECONDS = 5.0
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
    """Run every part, and report what becomes of the rows as it gets known; a part that crashes leaves the rest out.

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
    shards = [
        Shard(
            number=number,
            rows_key=store.key(f"{folder}/{number:04d}.rows.jsonl"),
            outcomes_key=store.key(f"{folder}/{number:04d}.outcomes.jsonl"),
            allowance=allowance,
        )
        for number, (_, allowance) in enumerate(parts, start=1)
    ]
    for shard, (rows, _) in zip(shards, parts, strict=True):
        await asyncio.to_thread(store.put, shard.rows_key, rows_to_json(rows), content_type="application/x-ndjson")
    open_shards = {shard.number: shard for shard in shards}

    async def run(shard: Shard) -> None:
        flow_run: FlowRun = await arun_deployment(
            deployment,
            parameters={**parameters, "shard": shard.model_dump(mode="json")},
            flow_run_name=f"part {shard.number} of {len(shards)}",
            idempotency_key=f"{runtime.flow_run.id} {runtime.flow_run.run_count} {shard.rows_key}",
            timeout=None,
            poll_interval=_LOOK_SECONDS,
        )
        known(await read_outcomes(shard, store))
        del open_shards[shard.number]
        if flow_run.state is None or not flow_run.state.is_completed():
            get_run_logger().warning("Part %d ended as %s", shard.number, flow_run.state_name)

    async def look() -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for shard in list(open_shards.values()):
                with suppress(StorageError):  # the next look, or the last, tells the same
                    known(await read_outcomes(shard, store))

    looking = asyncio.create_task(look())
    try:
        async with _cancelled_with_us():
            await asyncio.gather(*map(run, shards))
    finally:
        looking.cancel()


async def read_outcomes(shard: Shard, store: Store) -> dict[int, Outcome]:
    """Return what is known of a part's rows, by line.

    Raises:
        StorageError: it could not be read.
    """
    if await asyncio.to_thread(store.head, shard.outcomes_key) is None:
        return {}
    return outcomes_from_json(await asyncio.to_thread(store.read, shard.outcomes_key, limit_bytes=_MAX_DOCUMENT_BYTES))


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
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId, FlowRunFilterState

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
