"""A part of a batch that another worker does, watched from here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import httpx
from prefect import get_run_logger, runtime
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import arun_deployment
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed

from runcomfy.batch.results import outcomes_from_json
from runcomfy.batch.shard import Shard
from runcomfy.errors import RunComfyError, StorageError
from runcomfy.storage.store import Store
from runcomfy.values import Outcome, OutcomeStatus
from tasks.runtime.interruption import watchful_sleep

__all__ = ["HICCUPS", "ShardRun"]

HICCUPS = (PrefectHTTPStatusError, httpx.HTTPError, OSError)
"""What Prefect's API may answer for a while."""

_LOOK_SECONDS = 5.0
_SILENT_SECONDS = 120.0  # a part writes every 15
_STARTING_SECONDS = 300.0  # from when a worker takes it until it is at work; a machine may have to load an image
_MAX_DOCUMENT_BYTES = 256 * 1024 * 1024


class ShardRun:
    """One part, and what is seen of it while it runs.

    Args:
        shard: What it is to do.
        name: What it is called.
        store: Where it writes what becomes of its rows.
        client: Prefect's API.
        known: Called with that, by line; again and again.
        halted: What concerns all parts, once it is known.
    """

    def __init__(
        self,
        shard: Shard,
        name: str,
        store: Store,
        client: PrefectClient,
        known: Callable[[Mapping[int, Outcome]], None],
        halted: Callable[[], RunComfyError | None],
    ) -> None:
        self._shard = shard
        self._name = name
        self._store = store
        self._client = client
        self._known = known
        self._halted = halted
        self._told: set[int] = set()
        self._seen: datetime | None = None
        self._silent_since: float | None = None
        self._patience_seconds: float | None = None

    async def run(self, deployment: str, parameters: Mapping[str, Any], lines: Sequence[int]) -> None:
        """Start its flow run and watch it; rows of a part that a person cancels are not given to another one."""
        if self._halted():
            self._known({line: self._not_started(line) for line in lines})
            return
        try:
            flow_run = await arun_deployment(
                deployment,
                parameters={**parameters, "shard": self._shard.model_dump(mode="json")},
                flow_run_name=self._name,
                idempotency_key=f"{runtime.flow_run.id} {runtime.flow_run.run_count} {self._shard.rows_key}",
                timeout=0,
            )
        except HICCUPS as error:
            get_run_logger().warning("%s could not be started (%s)", self._name, type(error).__name__)
            return
        ended = await self.watch(flow_run)
        if ended is not None and ended.is_cancelled():
            self._known({line: self._not_started(line) for line in lines if line not in self._told})

    def _not_started(self, line: int) -> Outcome:
        why = self._halted()
        return Outcome(
            label=f"line {line}",
            status=OutcomeStatus.NOT_STARTED,
            error=str(why) if why else f"{self._name} was cancelled. Run the manifest again for its rows.",
            error_type=type(why).__name__ if why else None,
            error_code=why.error_code if why else None,
            retryable=True,
        )

    async def watch(self, flow_run: FlowRun) -> State[Any] | None:
        """Wait until its flow run has ended, or has given no sign of life for too long; return its last state."""
        while not (flow_run.state and flow_run.state.is_final()):
            await watchful_sleep(_LOOK_SECONDS)
            try:
                flow_run = await self._client.read_flow_run(flow_run.id)
                await self._look(flow_run)
            except (*HICCUPS, StorageError):  # the next look tells the same
                self._silent_since = None
                continue
            if self._is_silent():
                get_run_logger().warning(
                    "%s has given no sign of life for %.0f s: its worker is taken for dead",
                    self._name,
                    self._patience_seconds,
                )
                dead: State[None] = Crashed(message="Its worker gave no sign of life; the batch goes on without it.")
                with suppress(*HICCUPS):
                    await self._client.set_flow_run_state(flow_run.id, dead, force=True)
                break
        with suppress(StorageError):  # the journal tells of rows that are not told of here
            await self._read()
        get_run_logger().info("%s ended as %s", self._name, flow_run.state_name)
        return flow_run.state

    async def _look(self, flow_run: FlowRun) -> None:
        """Read what is known of the rows, if it was written anew; if a worker has it and writes nothing, note that."""
        written = await asyncio.to_thread(self._store.head, self._shard.outcomes_key)
        patience = _patience_seconds(flow_run.state)
        if written is not None and written.modified_at != self._seen:
            self._seen, self._silent_since = written.modified_at, None
            await self._read()
        elif patience is None or patience != self._patience_seconds:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = time.monotonic()
        self._patience_seconds = patience

    async def _read(self) -> None:
        if await asyncio.to_thread(self._store.head, self._shard.outcomes_key) is None:
            return
        document = await asyncio.to_thread(self._store.read, self._shard.outcomes_key, limit_bytes=_MAX_DOCUMENT_BYTES)
        outcomes = outcomes_from_json(document)
        self._told |= outcomes.keys()
        self._known(outcomes)

    def _is_silent(self) -> bool:
        """Whether a worker has had it, and nothing was written, for so long that the worker must be dead.

        Prefect leaves the runs of a machine that is lost "running", or "pending", for ever. Only looks that could be
        had count: where the store is away, it is away for everybody.
        """
        if self._silent_since is None or self._patience_seconds is None:
            return False
        return time.monotonic() >= self._silent_since + self._patience_seconds


def _patience_seconds(state: State[Any] | None) -> float | None:
    """Return how long a part may be silent in this state; `None` while it waits for a worker."""
    if state is None or not (state.is_running() or state.is_pending()):
        return None
    return _SILENT_SECONDS if state.is_running() else _STARTING_SECONDS
