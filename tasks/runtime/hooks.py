"""What Prefect adds to a generation: its run's page, its events, time-outs, retries, and cancellation by a person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from prefect import Task, get_run_logger, runtime
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.utilities.urls import url_for

from blocks import MediaStore, RunComfyCredentials
from runcomfy.errors import is_retryable
from runcomfy.generation.engine import Engine, open_engine
from runcomfy.generation.hooks import Hooks, Log, StateChange
from runcomfy.policy import RunPolicy
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo, GenerationFacts, StagedImage
from tasks.runtime.events import emit_archived, emit_change
from tasks.runtime.interruption import cancelled_by_person, sleep_or_cancelled, timed_out

__all__ = ["PREFECT", "open_service", "worth_retrying"]


class PrefectHooks(Hooks):
    """A task run or flow run of Prefect; its context is read if that is enough, since the API may fail, and blocks."""

    @property
    def notices_ctrl_c(self) -> bool:  # type: ignore[override]  # it differs from run to run
        """Whether a person started this run in a terminal.

        Ctrl-C in the terminal of `serve` or of a worker reaches runs of a deployment too, but is meant for the server,
        not for the generations.
        """
        context = FlowRunContext.get()
        run = context.flow_run if context else None
        return run is not None and run.deployment_id is None

    @property
    def log(self) -> Log:
        """The log of the run's page."""
        return get_run_logger()

    async def run_id(self) -> str:
        """Return the outermost flow run's id: when that run is retried, its subflows get new ids."""
        return await asyncio.to_thread(_outermost, str(runtime.flow_run.id or runtime.task_run.id))

    def run_facts(self) -> dict[str, str]:
        """Return the run's id, name, flow, deployment and page, as far as known; nothing outside a flow run."""
        context = FlowRunContext.get()
        if context is None or context.flow_run is None or context.flow is None:
            return {}
        run = context.flow_run
        known = {"id": run.id, "name": run.name, "flow": context.flow.name, "deployment_id": run.deployment_id}
        known["url"] = url_for("flow-run", obj_id=run.id)
        return {name: str(value) for name, value in known.items() if value}

    def span_attributes(self) -> Mapping[str, Any]:
        """Return the id of the flow run."""
        context = FlowRunContext.get()
        run = context.flow_run if context else None
        return {} if run is None else {"prefect.flow_run.id": str(run.id)}

    async def sleep(self, seconds: float) -> None:
        """Sleep, and end early with a cancellation if somebody cancels this flow run in the meantime."""
        await sleep_or_cancelled(seconds)

    def timed_out(self) -> bool:
        """Whether a `timeout_seconds` of this task, this flow, or an enclosing flow has passed."""
        return timed_out()

    async def cancellation_requested(self) -> bool:
        """Whether a person cancelled this flow run, or the one that it is part of."""
        return await cancelled_by_person()

    def attempt(self) -> int:
        """Return the number of the task run's attempt, from 1."""
        task_run = TaskRunContext.get()
        return task_run.task_run.run_count if task_run is not None else 1

    def is_last_attempt(self) -> bool:
        """Whether Prefect does not try the task again."""
        task_run = TaskRunContext.get()
        return task_run is None or task_run.task_run.run_count > task_run.task.retries

    def changed(self, change: StateChange) -> None:
        """Emit the event of a generation's new state."""
        emit_change(change)

    def archived(self, facts: GenerationFacts, video: ArchivedVideo, image: StagedImage | None, store: Store) -> None:
        """Emit that a file is archived, and that its asset is materialised."""
        emit_archived(facts, video, image, store)


PREFECT = PrefectHooks()


@asynccontextmanager
async def open_service(
    credentials: RunComfyCredentials, store: MediaStore, policy: RunPolicy = RunPolicy()
) -> AsyncIterator[Engine]:
    """Open the engine for an account and a store; its client is closed with the body.

    Args:
        credentials: Who pays.
        store: Where images are staged and videos archived, and where the journal is.
        policy: See `runcomfy.generation.engine.open_engine`.

    Raises:
        ConfigurationError: the token or the base URL cannot be used, or the journal cannot be kept there.
        StorageError: there are no usable credentials for the bucket.
    """
    destination = store.destination()
    client, hosts = credentials.get_client(), credentials.host_policy()
    async with open_engine(client, destination, hosts=hosts, policy=policy, hooks=PREFECT) as engine:
        yield engine


@lru_cache(maxsize=1024)
def _outermost(flow_run_id: str) -> str:
    return runtime.flow_run.root_flow_run_id or flow_run_id


async def worth_retrying(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether the same call may succeed the next time: a broken connection or a busy server, nothing to fix."""
    return is_retryable(await state.aresult(raise_on_failure=False))
