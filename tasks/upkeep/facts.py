"""What is known of a Prefect server's deployments, runs, workers and limits, as values that nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State, StateType

__all__ = ["DeploymentFacts", "Facts", "HeldSlots", "RunFacts", "WorkerFacts"]


@dataclass(frozen=True)
class HeldSlots:
    """The slots of one concurrency limit, compared with the live runs."""

    name: str
    """The limit; `deployment:<flow>/<name>` for one of a deployment."""
    limit: int
    """How many there are."""
    active: int
    """How many the server says are taken, before any was freed."""
    held: int
    """How many of these are held by live runs."""
    freed: int = 0
    """How many were freed, since no live run holds them."""
    lately: int = 0
    """How many more may be held for runs that ended less than a lease ago: Prefect frees them by itself."""
    note: str = ""
    """Why its slots cannot be judged, if that is so."""

    @property
    def leaked(self) -> int:
        """How many are left that no run holds, as far as is known."""
        return max(0, self.active - self.freed - self.held - self.lately)


@dataclass(frozen=True)
class DeploymentFacts:
    """A deployment with the tag `runcomfy`."""

    id: UUID
    name: str
    """`flow/deployment`."""
    paused: bool = False
    drops_new: bool = False
    """Whether a run over its limit is dropped (CANCEL_NEW), so that a later one does the same work."""
    reconciles: bool = False
    """Whether it is `reconcile` itself."""
    again: bool = True
    """Whether its runs may be run again by `reconcile`; not those that carry out what a person decided at one time."""
    heartbeat_seconds: float | None = None
    """The heartbeat frequency that it or its work pool gives its runs; `None` if neither sets one."""
    pool: str | None = None


@dataclass(frozen=True)
class RunFacts:
    """A flow run, as Prefect's API returns it."""

    id: UUID
    name: str
    deployment_id: UUID | None
    state_id: UUID
    state_type: StateType
    state_name: str
    since: datetime
    """When it entered this state."""
    message: str = ""
    """What its state says, without secrets."""
    scheduled_for: datetime | None = None
    """When it is to start, if it waits for that."""
    run_count: int = 0
    crashes: int = 0
    """How often it crashed since a person started it, as far as its history was read."""
    first_crash: datetime | None = None
    """When the first of these was."""
    cancelled: bool = False
    """Whether somebody cancelled it before it crashed, since a person started it."""
    rested: State[Any] | None = None
    """The state it was resting in (Suspended, Paused) when an automation marked it as crashed for its silence."""
    last_heartbeat: datetime | None = None
    beat_seconds: float | None = None
    """How far apart its heartbeats are, if two or more of its present state are known."""
    is_child: bool = False
    """Whether another flow run started it, and waits for it."""
    url: str = ""


@dataclass(frozen=True)
class WorkerFacts:
    """A worker of a pool that ours run in."""

    pool: str
    name: str
    online: bool
    last_heartbeat: datetime | None


@dataclass(frozen=True)
class Facts:
    """All of it, read at one time."""

    at: datetime
    """By the server's clock."""
    deployments: Mapping[UUID, DeploymentFacts] = field(default_factory=dict)
    runs: tuple[RunFacts, ...] = ()
    """Those that have not ended, and those that crashed lately; of those that wait, the first few hundred."""
    waiting: int = 0
    """How many wait for their time, a worker or a place; all of them."""
    again: tuple[RunFacts, ...] = ()
    """Those that were run again within a day, the latest first; some dozens."""
    workers: tuple[WorkerFacts, ...] = ()
    beats_known: bool = True
    """Whether the server has heartbeats of any run, so that a run without them is a silent one."""
