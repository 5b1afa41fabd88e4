"""The queue, the slots, and the life of a request from acceptance to its end."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from runcomfy.sandbox.fault_registry import DueFault, RequestOptions
from runcomfy.sandbox.models import Model
from runcomfy.sandbox.render import Recipe
from runcomfy.sandbox.renderer import ImageRefused
from runcomfy.sandbox.settings import SandboxSettings

__all__ = ["Job", "JobQueue"]

_log = logging.getLogger("runcomfy.sandbox")

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(eq=False)
class Job:
    """One accepted request."""

    model: Model
    inputs: dict[str, Any]
    options: RequestOptions
    faults: list[DueFault]
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = "queued"
    run_seconds: float = 0.0
    error: Any = None
    recipe: Recipe | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def finished(self) -> bool:
        """Whether it has reached a final state."""
        return self.state in ("succeeded", "failed", "cancelled")

    def outcome(self, name: str) -> Any:
        """Return what its faults of kind `job` say about `name`, or `None`."""
        effects = (due.fault.effect for due in self.faults if due.fault.kind == "job")
        return next((effect[name] for effect in effects if name in effect), None)


class JobQueue:
    """First in, first out, `slots` at once. Everything happens on one event loop.

    Args:
        settings: Slots and durations.
        produce: Makes a job's files and returns their recipe; ImageRefused ends the job as failed.
        on_end: Called with each job that has ended.
    """

    def __init__(
        self, settings: SandboxSettings, produce: Callable[[Job], Awaitable[Recipe]], on_end: Callable[[Job], None]
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._settings, self._produce, self._on_end = settings, produce, on_end
        self._waiting: list[Job] = []
        self._running: set[asyncio.Task[None]] = set()
        self._queue_held = False
        self._spreads = self._draws()
        self._runs_go_on = asyncio.Event()
        self._runs_go_on.set()

    def accept(self, job: Job) -> None:
        """Queue a job, and start it if a slot is free."""
        self.jobs[job.request_id] = job
        # drawn in the order of acceptance, not of start, so that it can be repeated
        job.run_seconds = self._settings.run_seconds * self._spreads.lognormvariate(0, self._settings.run_spread)
        if job.options.run_seconds is not None:
            job.run_seconds = job.options.run_seconds
        self._waiting.append(job)
        if (delay_seconds := self._least_queue_seconds(job)) > 0:
            asyncio.get_running_loop().call_later(delay_seconds + 0.001, self._fill_slots)
        self._fill_slots()

    def position(self, job: Job) -> int:
        """Return a queued job's place; 1 is next."""
        return self._waiting.index(job) + 1

    def cancel(self, job: Job) -> bool:
        """Cancel a job if it is still queued; return whether it was."""
        if job.state != "queued":
            return False
        self._waiting.remove(job)
        self._end(job, "cancelled")
        return True

    def hold(self, *, queue: bool | None = None, runs: bool | None = None) -> None:
        """Let no queued job start, or no running job end, until released; `None` leaves it as it is."""
        if queue is not None:
            self._queue_held = queue
        if runs is not None:
            (self._runs_go_on.clear if runs else self._runs_go_on.set)()
        self._fill_slots()

    def reset(self) -> None:
        """Forget every job, and let go of everything that is held."""
        for task in self._running:
            task.cancel()
        self.jobs.clear()
        self._waiting.clear()
        self._running.clear()
        self._spreads = self._draws()
        self.hold(queue=False, runs=False)

    def _fill_slots(self) -> None:
        now = datetime.now(UTC)
        for job in list(self._waiting):
            if self._queue_held or len(self._running) >= self._settings.slots:
                return
            if job.outcome("stuck") == "queue":
                continue
            if (now - job.created_at).total_seconds() < self._least_queue_seconds(job):
                continue
            self._waiting.remove(job)
            job.state, job.started_at = "running", now
            if job.outcome("stuck") != "run":
                task = asyncio.create_task(self._run(job))
                self._running.add(task)
                task.add_done_callback(self._slot_is_free)

    def _draws(self) -> random.Random:
        return random.Random(f"{self._settings.seed}:run_seconds")  # noqa: S311 - repeatable on purpose

    def _least_queue_seconds(self, job: Job) -> float:
        own = job.options.queue_seconds
        return self._settings.queue_seconds if own is None else own

    def _slot_is_free(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self._fill_slots()

    async def _run(self, job: Job) -> None:
        try:
            _, job.recipe = await asyncio.gather(asyncio.sleep(job.run_seconds), self._produce(job))
            job.error = job.outcome("error")
        except ImageRefused as refusal:
            job.error = job.outcome("error") or {"type": "image_refused", "message": str(refusal)}
        except Exception as error:
            _log.exception("rendering failed")
            job.error = {"type": "sandbox_broken", "message": type(error).__name__}
        await self._runs_go_on.wait()
        self._end(job, "succeeded" if job.error is None else "failed")

    def _end(self, job: Job, state: State) -> None:
        job.state, job.finished_at = state, datetime.now(UTC)
        self._on_end(job)
        job.ended.set()
