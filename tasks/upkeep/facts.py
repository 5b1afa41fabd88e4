"""What is known of a Prefect server's deployments, runs, workers and limits, as values that nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from prefect.client.schemas.objects import StateType

__all__ = ["DeploymentFacts", "Facts", "HeldSlots", "RunFacts", "WorkerFacts"]


@dataclass(frozen=True)
class HeldSlots:
    """The slots of one concurrency limit, against the runs that are alive."""

    name: str
    """The limit; `deployment:<flow>/<name>` for one of a deployment."""
    limit: int
    """How many there are."""
    active: int
    """How many the server says are taken, before any was freed."""
    held: int
    """How many of these are held by runs that are alive."""
    freed: int = 0
    """How many were freed, since nothing that is alive holds them."""
    lately: int = 0
    """How many more may be held for runs that ended less than a lease ago: Prefect frees them by itself."""
    note: str = ""
    """Why nothing can be told of its slots, where that is so."""

    @property
    def leaked(self) -> int:
        """How many are left that no run holds, as far as can be told."""
        return max(0, self.active - self.freed - self.held - self.lately)


@dataclass(frozen=True)
class DeploymentFacts:
    """A deployment that is ours."""

    id: UUID
    name: str
    """`flow/deployment`."""
    paused: bool = False
    drops_new: bool = False
    """Whether a run over its limit is dropped (CANCEL_NEW), so that a later one does the same work."""
    upkeep: bool = False
    """Whether it is `reconcile` itself."""
    heartbeat_seconds: float | None = None
    """The heartbeat frequency that its runs are given by it or by its work pool; `None` where neither sets one."""


@dataclass(frozen=True)
class RunFacts:
    """A flow run, as Prefect's API tells of it."""

    id: UUID
    name: str
    deployment_id: UUID | None
    state_type: StateType
    state_name: str
    since: datetime
    """When it came into this state."""
    message: str = ""
    """What its state says, without secrets."""
    scheduled_for: datetime | None = None
    """When it is to start, where it waits for that."""
    created: datetime | None = None
    run_count: int = 0
    crashes: int = 0
    """How many states of its history are Crashed."""
    heartbeats: tuple[datetime, ...] = ()
    """Its newest heartbeats that are known, the oldest first."""
    parent: UUID | None = None
    """The task run that it is a child of."""
    on_interrupt: str | None = None
    tags: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True)
class WorkerFacts:
    """A worker of a pool of ours."""

    pool: str
    name: str
    online: bool
    last_heartbeat: datetime | None


@dataclass(frozen=True)
class Facts:
    """All of it, read at one time."""

    at: datetime
    """By the server's clock, as far as its answers tell it; else by ours."""
    deployments: Mapping[UUID, DeploymentFacts] = field(default_factory=dict)
    runs: tuple[RunFacts, ...] = ()
    """Those that have not ended, and those that crashed lately."""
    workers: tuple[WorkerFacts, ...] = ()
    beats_known: bool = True
    """Whether the server keeps events, so that a run without a heartbeat among them has none."""
