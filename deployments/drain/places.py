"""What `python -m deployments.drain` pauses, a work pool or queues of it, and which runs are active there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from runcomfy.errors import ConfigurationError

__all__ = ["ActiveRun", "DrainedQueues"]

_ACTIVE = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_PAGE = 200
_UPKEEP = "upkeep"


@dataclass(frozen=True)
class ActiveRun:
    """A flow run that has a process, or is about to get one.

    Attributes:
        deployment: The name of its deployment.
        name: Its own name.
        state: The name of its state.
        since: When it entered that state, UTC.
        upkeep: Whether its deployment is tagged `upkeep`: it pays for nothing, and another run of it does the same.
        waits_for_parts: Whether it waits only for shards that a paused pool holds back.
    """

    id: UUID
    deployment: str
    name: str
    state: str
    since: datetime
    upkeep: bool = False
    waits_for_parts: bool = False


@dataclass
class DrainedQueues:
    """A work pool, or some of its queues.

    Attributes:
        pool: The pool's name.
        queues: Names of queues of it; empty for the whole pool.
        paused_before: What of it was already paused when this was read; `resume` leaves that paused.
    """

    pool: str
    queues: Sequence[str]
    paused_before: frozenset[str]
    _queue_ids: dict[str, UUID]
    _deployments: dict[UUID, str] = field(default_factory=dict)

    @classmethod
    async def read(cls, client: PrefectClient, pool: str, queues: Sequence[str]) -> DrainedQueues:
        """Find them on the server.

        Raises:
            ConfigurationError: there is no such pool, or no such queue in it.
        """
        try:
            found = await client.read_work_pool(pool)
        except ObjectNotFound:
            raise ConfigurationError(f"There is no work pool {pool!r}. Name another one: --pool.") from None
        if not queues:
            return cls(pool, (), frozenset({pool} if found.is_paused else ()), {})
        ids, paused = {}, set()
        for name in queues:
            try:
                queue = await client.read_work_queue_by_name(name, pool)
            except ObjectNotFound:
                raise ConfigurationError(f"The work pool {pool!r} has no queue {name!r}.") from None
            ids[name] = queue.id
            if queue.is_paused:
                paused.add(name)
        return cls(pool, tuple(ids), frozenset(paused), ids)

    @property
    def names(self) -> Sequence[str]:
        """What there is to pause: the pool, or the queues."""
        return self.queues or (self.pool,)

    def described(self, names: Sequence[str]) -> str:
        """Return names of it as text for people."""
        if not self.queues:
            return f"work pool {self.pool}"
        return f"queue{'s' if len(names) > 1 else ''} {', '.join(names)} of work pool {self.pool}"

    async def set_paused(self, client: PrefectClient, paused: bool, names: Sequence[str]) -> None:
        """Pause or resume what is named; a paused one hands out no further run."""
        for name in names:
            if self.queues:
                await client.update_work_queue(self._queue_ids[name], is_paused=paused)
            else:
                await client.update_work_pool(name, WorkPoolUpdate(is_paused=paused))

    async def active(self, client: PrefectClient) -> list[ActiveRun]:
        """Return its runs that are Pending, Running or Cancelling, the oldest first."""
        runs = await self._runs(client, FlowRunFilter(state=_in_states(_ACTIVE)))
        await self._learn_names(client, {run.deployment_id for run in runs if run.deployment_id})
        waiting = await self._waiting_for_parts(client, [run.id for run in runs])
        active = [
            ActiveRun(
                run.id,
                self._deployments.get(run.deployment_id, "no deployment") if run.deployment_id else "no deployment",
                run.name,
                run.state.name or run.state.type.value,
                run.state.timestamp,
                _UPKEEP in run.tags,
                run.id in waiting,
            )
            for run in runs
            if run.state is not None
        ]
        return sorted(active, key=lambda run: run.since)

    async def _runs(self, client: PrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
        queues = WorkQueueFilter(name=WorkQueueFilterName(any_=list(self.queues))) if self.queues else None
        found: list[FlowRun] = []
        while page := await client.read_flow_runs(
            flow_run_filter=wanted,
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[self.pool])),
            work_queue_filter=queues,
            limit=_PAGE,
            offset=len(found),
        ):
            found += page
        return found

    async def _learn_names(self, client: PrefectClient, ids: set[UUID]) -> None:
        if unknown := list(ids - self._deployments.keys()):
            wanted = DeploymentFilter(id=DeploymentFilterId(any_=unknown))
            for deployment in await client.read_deployments(deployment_filter=wanted):
                self._deployments[deployment.id] = deployment.name

    async def _waiting_for_parts(self, client: PrefectClient, ids: list[UUID]) -> set[UUID]:
        """Return those that have started runs of which none is active and some wait in this pool or these queues."""
        held_back = _in_states([StateType.SCHEDULED])
        if not ids or not await self._runs(client, _children(ids, held_back)):
            return set()
        return {
            each
            for each in ids
            if await self._runs(client, _children([each], held_back))
            and not await client.read_flow_runs(flow_run_filter=_children([each], _in_states(_ACTIVE)), limit=1)
        }


def _in_states(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def _children(ids: list[UUID], state: FlowRunFilterState) -> FlowRunFilter:
    return FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=ids), state=state)
