"""Which of the journal's open generations no flow run waits for any more, and which of them a person cancelled.

An entry names a flow run of the Prefect server that it was submitted from, which may be another server: that this one
does not know a run means something only if it knows its deployment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from runcomfy.generation.reconcile import KnownRuns
from runcomfy.journal import Entry, EntryState
from runcomfy.texts import normal_text

__all__ = ["FlowRuns", "Known", "cancelled_by_person", "is_abandoned", "known_of_runs", "may_wait_too"]

_PAGE = 200  # what a server returns at once by default
_AT_WORK = (StateType.RUNNING, StateType.CANCELLING)
_BEGUN = (StateType.PENDING, StateType.RUNNING, StateType.PAUSED)
_STOPPED = (StateType.CANCELLING, StateType.CANCELLED)
_RUN_AGAIN_WITHIN = timedelta(days=2)  # reconcile does it for a day
_TIME_TO_ACT = timedelta(minutes=1)
"""How long a run that is being cancelled may take to cancel its request; `tasks.runtime.interruption` takes 20 s."""
_BY_PREFECT = ("concurrency limit reached", "concurrency slot lost", "no longer exists", "runner is shutting down")
"""What Prefect says of a run that it cancels itself, an earlier attempt of which may have submitted: over its
deployment's limit (`SecureFlowConcurrencySlots`), too late for its place there
(`ValidateDeploymentConcurrencyAtRunning`), without a deployment (`BaseWorker._submit_run`), or of a `serve` that is
stopped (`Runner`, seen with Prefect 3.9.1)."""


@dataclass(frozen=True)
class Known:
    """What a Prefect server knows of the runs that entries name."""

    runs: Mapping[UUID, FlowRun]
    deployments: Collection[UUID] = ()
    """The deployments that it knows, of runs that it does not know."""
    under_way: Sequence[FlowRun] = ()
    """All runs that have begun and not ended; read only if a person cancelled one."""


class FlowRuns(KnownRuns):
    """What the Prefect server that this process is set to use knows of the runs of generations."""

    def __init__(self) -> None:
        self._known = Known({})

    async def load(self, entries: Sequence[Entry]) -> None:
        """Ask Prefect for the runs that these entries name; what is old enough is checked even without its answer."""
        self._known, self.trouble = await _asked(entries)

    def abandoned(self, entry: Entry) -> bool | None:
        """Whether the flow run of a generation is known not to be at work."""
        return is_abandoned(entry, self._known)

    async def unwanted(self, entry: Entry) -> bool:
        """Whether a person cancelled its flow run, and no other one waits for it, according to Prefect right now."""
        if not _nobody_wants(entry, self._known):
            return False
        known, _ = await _asked([entry])  # it may have been run again since all were read, or another may want it
        return _nobody_wants(entry, known)


async def _asked(entries: Sequence[Entry]) -> tuple[Known, Exception | None]:
    try:
        return await known_of_runs(entries), None
    except Exception as error:  # whatever Prefect's client raises
        get_run_logger().error("Prefect did not say which runs have ended (%s): %s", type(error).__name__, error)
        return Known({}), error


def _nobody_wants(entry: Entry, known: Known) -> bool:
    return cancelled_by_person(entry, known, datetime.now(UTC)) and not may_wait_too(entry, known)


async def known_of_runs(entries: Sequence[Entry]) -> Known:
    """Ask Prefect for the runs that these entries name, and for the outermost runs that those belong to.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    named = {each for entry in entries if _waits(entry) for each in (_own(entry), _outermost(entry)) if each}
    if not named:
        return Known({})
    async with get_client() as client:
        runs = {run.id: run for run in await _runs(client, sorted(named))}
        homes = {_uuid(entry.flow_run.get("deployment_id")) for entry in entries if _own(entry) not in runs} - {None}
        deployments = set()
        if homes:
            wanted = DeploymentFilter(id=DeploymentFilterId(any_=[home for home in homes if home]))
            deployments = {each.id for each in await client.read_deployments(deployment_filter=wanted)}
        stopped = any(run.state_type in _STOPPED for run in runs.values())
        return Known(runs, deployments, await _under_way(client) if stopped else ())


def is_abandoned(entry: Entry, known: Known) -> bool | None:
    """Whether the run that submitted it is known not to be at work; `None` if that is unknown.

    A run that is scheduled to run again is not at work either: it finds in the journal what is recorded here.
    """
    run = known.runs.get(_own(entry) or UUID(int=0))
    if run is None:
        return True if _uuid(entry.flow_run.get("deployment_id")) in known.deployments else None
    if run.state_type not in _AT_WORK:
        return True
    return run.deployment_id is None and _ended(known.runs.get(_outermost(entry) or run.id))


def cancelled_by_person(entry: Entry, known: Known, now: datetime) -> bool:
    """Whether a person cancelled its run, or the one that it is part of, and meant the request as well.

    Only of a run whose process had the time to cancel the request itself and did not: it was dead by then.
    """
    own, outer = (known.runs.get(each or UUID(int=0)) for each in (_own(entry), _outermost(entry)))
    if own is None or own.parameters.get("on_interrupt") == "leave" or entry.state is not EntryState.SUBMITTED:
        return False
    if own.deployment_id is not None and own.state_type in (*_BEGUN, StateType.SCHEDULED):
        return (
            False  # it has a process of its own, which is at work or is begun again, whatever happened to the outer one
        )
    return any(_stopped_by_person(run, now) for run in (own, outer) if run is not None)


def may_wait_too(entry: Entry, known: Known) -> bool:
    """Whether another run may wait for the same request, having found it in the journal, now or when it resumes.

    Such a run asks for the same prompt, or for many that are not known here. When it began does not matter: it may have
    reached this generation long after that.
    """
    prompt = normal_text(str(entry.inputs.get("prompt", "")))
    mine = {_own(entry), _outermost(entry)}
    return any(
        run.id not in mine
        and ("prompt" not in run.parameters or normal_text(str(run.parameters["prompt"])) == prompt)
        and ("prompt" in run.parameters or ("runcomfy" in run.tags and "upkeep" not in run.tags))
        for run in known.under_way
    )


def _stopped_by_person(run: FlowRun, now: datetime) -> bool:
    state = run.state
    if state is None or state.type not in _STOPPED:
        return False
    if any(said in (state.message or "").lower() for said in _BY_PREFECT):
        return False
    return state.type is StateType.CANCELLED or now - state.timestamp >= _TIME_TO_ACT


def _ended(run: FlowRun | None) -> bool:
    return run is not None and run.state_type not in _AT_WORK


def _waits(entry: Entry) -> bool:
    return entry.state in (EntryState.INTENT, EntryState.SUBMITTED)


def _own(entry: Entry) -> UUID | None:
    return _uuid(entry.flow_run.get("id"))


def _outermost(entry: Entry) -> UUID | None:
    return _uuid(entry.run)


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None  # a run of something else than Prefect


async def _runs(client: PrefectClient, ids: Sequence[UUID]) -> list[FlowRun]:
    found: list[FlowRun] = []
    for start in range(0, len(ids), _PAGE):
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(ids[start : start + _PAGE])))
        found += await client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE)
    return found


async def _under_way(client: PrefectClient) -> list[FlowRun]:
    """Read the runs that have begun and not ended, those that wait to go on or to be run again among them."""
    begun = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_BEGUN))))
    again = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.CRASHED])),
        start_time=FlowRunFilterStartTime(after_=datetime.now(UTC) - _RUN_AGAIN_WITHIN),
    )
    found: dict[UUID, FlowRun] = {}
    for wanted in (begun, again):
        offset = 0
        while page := await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=offset
        ):
            found |= {run.id: run for run in page if run.state_type is not StateType.CRASHED or run.deployment_id}
            offset += len(page)
    return list(found.values())
