"""Distribute a batch over many workers: its shards are flow runs of a deployment, which Prefect distributes.

A shard is a file of rows in the bucket; its flow run writes their outcomes beside it, from time to time and at the end,
so that they outlive its worker.
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
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId, FlowRunFilterState
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from runcomfy.batch.halt import Halt
from runcomfy.batch.plan import PlannedRow, rows_to_json
from runcomfy.batch.shard import Allowance, Shard
from runcomfy.errors import ConfigurationError, RunComfyError, StorageError
from runcomfy.storage.store import Store
from runcomfy.values import Outcome
from tasks.batch.shard_run import HICCUPS, ShardRun
from tasks.runtime.interruption import cancellation_requested

__all__ = ["ShardRunner", "block_reference", "check_deployment"]

_PAGE = 200
_POLL_SECONDS = 5.0


def block_reference(block: Block) -> dict[str, Any]:
    """Return a stored block as the parameter of another flow run, so that no secret is in it.

    Raises:
        ConfigurationError: the block is not stored in Prefect.
    """
    if block._block_document_id is None:
        raise ConfigurationError(
            f"A batch that is distributed over workers needs a {type(block).__name__} that is saved as a block in "
            "Prefect: save it, and pass the saved one."
        )
    return {"$ref": {"block_document_id": str(block._block_document_id)}}


async def check_deployment(name: str) -> None:
    """Make sure that there is a deployment that runs shards.

    Raises:
        ConfigurationError: there is none of this name.
    """
    async with get_client() as client:
        try:
            await client.read_deployment_by_name(name)
        except (ObjectNotFound, ValueError):
            raise ConfigurationError(
                f"There is no deployment {name!r} on this Prefect server, so the batch cannot be distributed: deploy "
                "it, or leave rows_per_shard empty."
            ) from None


class ShardRunner:
    """Runs shards of a batch as flow runs of a deployment, and reports the outcomes of their rows as they come.

    A shard that dies, or that can no longer be watched, leaves rows without an outcome; only a cancellation is raised.

    Args:
        deployment: What runs a shard, `flow/deployment`.
        parameters: The parameters of every shard beside its rows.
        store: Where rows and outcomes are written.
        known: Called repeatedly with outcomes, by line, also for rows that are known already.
    """

    def __init__(
        self,
        deployment: str,
        parameters: Mapping[str, Any],
        store: Store,
        known: Callable[[Mapping[int, Outcome]], None],
    ) -> None:
        self._deployment = deployment
        self._parameters = parameters
        self._store = store
        self._known = known
        self.halted: RunComfyError | None = None
        """The error that stopped one shard, and stops all."""

    async def await_earlier_attempt(self) -> bool:
        """Wait for shards that an earlier attempt of this flow run has started, and return whether there were any."""
        async with _cancelled_with_us(), get_client() as client:
            runs = [run for run in await _open_shards(client) if "shard" in run.parameters]
            for run in runs:
                get_run_logger().info("%s of an earlier attempt is still at work", run.name)
            await asyncio.gather(
                *(
                    self._shard_run(Shard.model_validate(run.parameters["shard"]), run.name, client).watch(run)
                    for run in runs
                )
            )
        return bool(runs)

    async def run(self, divided: Sequence[list[PlannedRow]], allowance: Allowance, folder: str) -> None:
        """Run every shard; if an error halts the batch, shards that no worker has begun are cancelled.

        Args:
            divided: The rows of each shard.
            allowance: What all rows of the manifest may cost.
            folder: Where rows and outcomes are written, below the store's prefix; another one for each attempt.

        Raises:
            StorageError: the rows could not be written; nothing was started.
        """
        shards = []
        for number, rows in enumerate(divided, start=1):
            start = self._store.key(f"{folder}/{number:04d}")
            shard = Shard(
                number=number,
                rows_key=f"{start}.rows.jsonl",
                outcomes_key=f"{start}.outcomes.jsonl",
                allowance=allowance,
            )
            document = rows_to_json(rows)
            await asyncio.to_thread(self._store.put, shard.rows_key, document, content_type="application/x-ndjson")
            shards.append(shard)
        async with (
            _cancelled_with_us(),
            get_client() as client,
            self._halting(Halt(self._store, shards[0].halt_key)),
        ):
            await asyncio.gather(
                *(
                    self._shard_run(shard, f"part {shard.number} of {len(shards)}", client).run(
                        self._deployment, self._parameters, [row.line for row in rows]
                    )
                    for shard, rows in zip(shards, divided, strict=True)
                )
            )

    def _shard_run(self, shard: Shard, name: str, client: PrefectClient) -> ShardRun:
        return ShardRun(shard, name, self._store, client, self._known, lambda: self.halted)

    @asynccontextmanager
    async def _halting(self, halt: Halt) -> AsyncIterator[None]:
        """Cancel shards that no worker has begun, once one of the body was halted; the others poll for themselves."""

        async def cancel_scheduled() -> None:
            while self.halted is None:
                await asyncio.sleep(_POLL_SECONDS)
                with suppress(StorageError):  # the next poll will show it
                    self.halted = await asyncio.to_thread(halt.read)
            get_run_logger().error("No further part is started. %s", self.halted)
            with suppress(*HICCUPS):  # a shard that begins anyway sees that it is halted, and sends nothing
                await _cancel_shards(StateType.SCHEDULED)

        cancelling = asyncio.create_task(cancel_scheduled())
        try:
            yield
            with suppress(StorageError):
                self.halted = self.halted or await asyncio.to_thread(halt.read)
        finally:
            cancelling.cancel()
            await asyncio.wait([cancelling])


@asynccontextmanager
async def _cancelled_with_us() -> AsyncIterator[None]:
    """Cancel the runs of our shards if a person cancelled this run; a redeploy leaves them alone."""
    try:
        yield
    except asyncio.CancelledError:
        with anyio.move_on_after(20, shield=True), suppress(Exception):
            if await cancellation_requested():
                await _cancel_shards()
        raise


async def _cancel_shards(*states: StateType) -> None:
    async with get_client() as client:
        for run in await _open_shards(client, *states):
            with suppress(*HICCUPS):
                await client.set_flow_run_state(run.id, Cancelling())


async def _open_shards(client: PrefectClient, *states: StateType) -> list[FlowRun]:
    """Return the flow runs that this one has started and that have not ended, or those in these states."""
    open_states = {"type": {"any_": states or [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]}}
    wanted = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[UUID(str(runtime.flow_run.id))]),
        state=FlowRunFilterState.model_validate(open_states),
    )
    found: list[FlowRun] = []
    while page := await client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE, offset=len(found)):
        found += page
    return found
