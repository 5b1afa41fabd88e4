"""A shard of a batch on another worker, watched from this flow run."""

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
from tasks.runtime.interruption import sleep_or_cancelled

__all__ = ["HICCUPS", "ShardRun"]

HICCUPS = (PrefectHTTPStatusError, httpx.HTTPError, OSError)
"""Passing errors of Prefect's API."""

_POLL_SECONDS = 5.0
_SILENT_SECONDS = 120.0  # a shard writes every 15
_STARTING_SECONDS = 300.0  # from when a worker takes it until it is at work; a machine may have to load an image
_MAX_DOCUMENT_BYTES = 256 * 1024 * 1024


class ShardRun:
    """Starts the flow run of one shard, and watches it.

    Args:
        shard: What it is to do.
        name: What it is called.
        store: Where it writes the outcomes of its rows.
        client: Prefect's API.
        known: Called repeatedly with the outcomes so far, by line.
        halted: Returns the error that stops all shards, if there is one.
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
        self._reported: set[int] = set()
        self._read_version: datetime | None = None
        self._silent_since: float | None = None
        self._silence_limit_seconds: float | None = None

    async def run(self, deployment: str, parameters: Mapping[str, Any], lines: Sequence[int]) -> None:
        """Start its flow run and watch it; if a person cancels that, its rows do not go into another shard."""
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
            self._known({line: self._not_started(line) for line in lines if line not in self._reported})

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
        """Wait until its flow run has ended, or has been silent for too long; return its last state."""
        while not (flow_run.state and flow_run.state.is_final()):
            await sleep_or_cancelled(_POLL_SECONDS)
            try:
                flow_run = await self._client.read_flow_run(flow_run.id)
                await self._poll(flow_run)
            except (*HICCUPS, StorageError):  # the next poll will show it
                self._silent_since = None
                continue
            if self._is_silent():
                get_run_logger().warning(
                    "%s has given no sign of life for %.0f s: its worker is presumed dead",
                    self._name,
                    self._silence_limit_seconds,
                )
                dead: State[None] = Crashed(message="Its worker gave no sign of life; the batch goes on without it.")
                with suppress(*HICCUPS):
                    await self._client.set_flow_run_state(flow_run.id, dead, force=True)
                break
        with suppress(StorageError):  # rows without an outcome are looked up in the journal
            await self._read()
        get_run_logger().info("%s ended as %s", self._name, flow_run.state_name)
        return flow_run.state

    async def _poll(self, flow_run: FlowRun) -> None:
        """Read new outcomes; if a worker has the shard but writes nothing, remember since when."""
        written = await asyncio.to_thread(self._store.head, self._shard.outcomes_key)
        limit = _silence_limit_seconds(flow_run.state)
        if written is not None and written.modified_at != self._read_version:
            self._read_version, self._silent_since = written.modified_at, None
            await self._read()
        elif limit is None or limit != self._silence_limit_seconds:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = time.monotonic()
        self._silence_limit_seconds = limit

    async def _read(self) -> None:
        if await asyncio.to_thread(self._store.head, self._shard.outcomes_key) is None:
            return
        document = await asyncio.to_thread(self._store.read, self._shard.outcomes_key, limit_bytes=_MAX_DOCUMENT_BYTES)
        outcomes = outcomes_from_json(document)
        self._reported |= outcomes.keys()
        self._known(outcomes)

    def _is_silent(self) -> bool:
        """Whether a worker has had it for so long without writing anything that it must be dead.

        Prefect leaves the runs of a lost machine "running", or "pending", indefinitely. Only successful polls count: if
        the store is unavailable here, it is for the shard too.
        """
        if self._silent_since is None or self._silence_limit_seconds is None:
            return False
        return time.monotonic() >= self._silent_since + self._silence_limit_seconds


def _silence_limit_seconds(state: State[Any] | None) -> float | None:
    """Return how long a shard may be silent in this state; `None` while it waits for a worker."""
    if state is None or not (state.is_running() or state.is_pending()):
        return None
    return _SILENT_SECONDS if state.is_running() else _STARTING_SECONDS
