"""The flow runs that may hold slots, as Prefect's API returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter, EventNameFilter, EventRelatedFilter, EventResourceFilter

from tasks.runtime.slot_label import LEASE_PASSED, SLOTS_LABEL, SlotsLabel
from tasks.upkeep.deployments import server_time
from tasks.upkeep.slot_claims import Claim

__all__ = ["HoldingRuns", "earlier_looks", "holding_runs", "unlabelled_holders"]

_PAGE = 200
_MOST_PAGES = 50
_HOLDS_PLACE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
"""In these states, a run holds a place of its deployment (`ReleaseFlowConcurrencySlots`, Prefect 3.9)."""
_MAY_WORK = (*_HOLDS_PLACE, StateType.PAUSED)
_EARLIER = timedelta(hours=1)
_RUN = "prefect.flow-run."
_MOST_EVENTS, _RUNS_A_QUERY = 50, 50
_STRANGERS_WORK = timedelta(days=1)


@dataclass(frozen=True)
class HoldingRuns:
    """The runs that have not ended, and those that ended so recently that what they held may not be freed yet."""

    claims: tuple[Claim, ...]
    """Of those with a label for the slots of an account."""
    places: Mapping[UUID, int]
    """How many runs hold a place of each deployment."""

    def of_deployment(self, deployment_id: UUID) -> int:
        """Return how many runs hold a place of a deployment."""
        return self.places.get(deployment_id, 0)


async def holding_runs(client: PrefectClient) -> HoldingRuns:
    """Read the runs that may hold slots.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
        RuntimeError: there are too many.
    """
    open_ = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_MAY_WORK))))
    again = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        start_time=FlowRunFilterStartTime(is_null_=False),
    )
    lately = FlowRunFilter(end_time=FlowRunFilterEndTime(after_=await server_time(client) - 2 * LEASE_PASSED))
    # The open ones first and last: a run that changes its state in the meantime is not missed.
    runs = {run.id: run for wanted in (open_, lately, again, open_) for run in await _all(client, wanted)}
    places: dict[UUID, int] = {}
    for run in runs.values():
        if run.deployment_id and _holds_place(run):
            places[run.deployment_id] = places.get(run.deployment_id, 0) + 1
    claims = [_claim(run, runs) for run in runs.values() if SLOTS_LABEL in run.labels]
    return HoldingRuns(tuple(each for each in claims if each), places)


async def earlier_looks(client: PrefectClient, this: FlowRun) -> list[FlowRun]:
    """Read the runs of the same deployment that ended within the hour; none, where this run has no deployment."""
    if this.deployment_id is None:
        return []
    recent = FlowRunFilter(
        end_time=FlowRunFilterEndTime(after_=datetime.now(UTC) - _EARLIER),
        deployment_id=FlowRunFilterDeploymentId(any_=[this.deployment_id]),
    )
    return await client.read_flow_runs(flow_run_filter=recent, sort=FlowRunSort.END_TIME_DESC, limit=_PAGE)


async def unlabelled_holders(client: PrefectClient, limit_id: str) -> str:
    """Say who else takes slots of a limit without a label, according to Prefect's events; empty if nobody does.

    A run of an older version of this project, or of another one, may hold slots as long as it works: then no slot can
    be judged.
    """
    wanted = EventFilter(
        event=EventNameFilter(name=["prefect.concurrency-limit.acquired"]),
        resource=EventResourceFilter(id=[f"prefect.concurrency-limit.{limit_id}"]),
    )
    now = await server_time(client)
    for event in (await client.read_events(wanted, limit=_MOST_EVENTS)).events:
        of_a_run = any(each.id.startswith(_RUN) for each in event.related)
        if not of_a_run and now - event.occurred < _STRANGERS_WORK:
            return "Something that is no flow run takes slots of this limit, so it is not known whose they are."
    at_work = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_MAY_WORK))))
    silent = {f"{_RUN}{run.id}": run for run in await _all(client, at_work) if SLOTS_LABEL not in run.labels}
    ids = sorted(silent)
    for start in range(0, len(ids), _RUNS_A_QUERY):
        some = ids[start : start + _RUNS_A_QUERY]
        page = await client.read_events(
            wanted.model_copy(update={"related": EventRelatedFilter(id=some)}), limit=_MOST_EVENTS
        )
        for event in page.events:
            for run in (silent[each.id] for each in event.related if each.id in silent):
                if run.state is not None and event.occurred >= run.state.timestamp:
                    return f"Run {run.name} takes slots of this limit without saying how many it holds."
    return ""


def _claim(run: FlowRun, runs: Mapping[UUID, FlowRun]) -> Claim | None:
    """Return what a run records; what runs in the process of another run ends with that one, if not before."""
    label = SlotsLabel.of(run.labels)
    if run.state is None or label is None:
        return None
    own = Claim(_works(run), run.state.timestamp, run.run_count, label)
    if label.process is None or not own.at_work:
        return own
    host = runs.get(UUID(label.process))
    if host is None or host.state is None:
        return None  # it ended so long ago that nothing is left of it
    return own if _works(host) else replace(own, at_work=False, since=max(own.since, host.state.timestamp))


def _works(run: FlowRun) -> bool:
    return run.state_type in (StateType.RUNNING, StateType.CANCELLING) or (
        run.state_type is StateType.PAUSED and run.state_name != "Suspended"
    )


def _holds_place(run: FlowRun) -> bool:
    """Whether it holds its deployment's place, or may: a retry in the same process keeps it."""
    waits_for_retry = run.state_type is StateType.SCHEDULED and run.state_name == "AwaitingRetry"
    return run.state_type in _HOLDS_PLACE or waits_for_retry


async def _all(client: PrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    found: list[FlowRun] = []
    for page in range(_MOST_PAGES):
        some = await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=page * _PAGE
        )
        found += some
        if len(some) < _PAGE:
            return found
    raise RuntimeError(f"There are more than {len(found)} flow runs, too many to tell whose slots are whose.")
