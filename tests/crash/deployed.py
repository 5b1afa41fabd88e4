"""Runs of a deployment, started by a Prefect worker, with the same interface as processes of our own.

The first start of a generation creates a flow run. A later one retries that very run, as `prefect flow-run retry` does,
unless it has completed: then it is another run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Scheduled

from tests.crash.workers import Outcome
from tests.crash.zygote import account_of, store_of

__all__ = ["DeploymentRuns"]

_T = TypeVar("_T")
_PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 0.5
_ERROR = re.compile(r"exception: (\w+): (.*)", re.DOTALL)


class DeploymentRuns:
    """Starts flow runs, from any thread.

    Args:
        directory: Where images go.
        api_url: Prefect's API, with a worker at its work pool.
        deployment: What is run, as `flow/deployment`.
    """

    def __init__(self, directory: Path, api_url: str, deployment: str) -> None:
        self.directory, self._api_url, self._deployment = directory, api_url, deployment
        self._runs: dict[str, UUID] = {}
        self._guard = threading.Lock()

    def start(self, job: Mapping[str, Any], *, fresh: bool = False) -> DeploymentRun:
        """Start a run, or retry the last one; every run is a fresh interpreter."""
        prefix = str(job["store"]["prefix"])
        with self._guard:
            last = self._runs.get(prefix)
        run_id = self.ask(self.retried(last)) if last else None
        run_id = run_id or self.ask(self._created(job, prefix))
        with self._guard:
            self._runs[prefix] = run_id
        return DeploymentRun(self, run_id)

    def ask(self, question: Coroutine[Any, Any, _T]) -> _T:
        """Call Prefect's API, in a thread without an event loop."""
        return asyncio.run(question)

    def client(self) -> PrefectClient:
        return PrefectClient(self._api_url)

    async def read(self, run_id: UUID) -> FlowRun:
        async with self.client() as client:
            return await client.read_flow_run(run_id)

    async def retried(self, run_id: UUID) -> UUID | None:
        async with self.client() as client:
            run = await client.read_flow_run(run_id)
            if run.state is None or run.state.type is StateType.COMPLETED:
                return None
            await client.set_flow_run_state(run_id, Scheduled(message="Retried"), force=True)
            return run_id

    async def _created(self, job: Mapping[str, Any], prefix: str) -> UUID:
        name = prefix.strip("/")
        async with self.client() as client:
            blocks = {
                "credentials": await account_of(job["account"]).save(f"a-{name}", client=client, overwrite=True),
                "store": await store_of(job["store"]).save(f"s-{name}", client=client, overwrite=True),
            }
            deployment = await client.read_deployment_by_name(self._deployment)
            references = {which: {"$ref": {"block_document_id": str(block)}} for which, block in blocks.items()}
            parameters = {"prompt": job["prompt"], "polling": {"min_interval_seconds": 0.05}, **references}
            return (await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)).id


class DeploymentRun:
    """One start of a flow run."""

    def __init__(self, runs: DeploymentRuns, run_id: UUID) -> None:
        self._runs, self._run_id = runs, run_id
        self._killed = False

    def kill(self) -> None:
        """Kill the process that the worker has started for it."""
        self._killed = True
        wanted = f"PREFECT__FLOW_RUN_ID={self._run_id}".encode()
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended in the meantime
                if wanted in (place / "environ").read_bytes().split(b"\0"):
                    os.kill(int(place.name), signal.SIGKILL)

    def wait(self) -> Outcome:
        """Wait until Prefect says that it has ended, and how."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            state = self._runs.ask(self._runs.read(self._run_id)).state
            if state is not None and state.is_final():
                if state.type is not StateType.CRASHED or self._killed:
                    break
                # The worker reports a crash once more, some time after its runner did, and so calls a retry crashed
                # that was scheduled in between (Prefect 3.8.8): a caller that sees this retries again.
                self._runs.ask(self._runs.retried(self._run_id))
            if time.monotonic() > deadline:
                raise RuntimeError(f"The flow run {self._run_id} is still {state}.")
            time.sleep(_POLL_SECONDS)
        if state.type is StateType.CRASHED:
            return Outcome(killed=True)
        if state.type is StateType.COMPLETED:
            generation = self._runs.ask(state.aresult())
            return Outcome(videos=tuple(video.model_dump(mode="json") for video in generation.videos))
        said = _ERROR.search(state.message or "")
        return Outcome(error=said[1] if said else state.name, message=said[2] if said else str(state.message))
