"""When `reconcile` runs again: it schedules a run of its own deployment for what is due later, and never two alike."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect import get_client, get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.states import Completed, Scheduled

__all__ = [
    "COVERED",
    "WHEN_DUE_TAG",
    "cover_waiting",
    "covered_by",
    "covering_run",
    "covers",
    "next_time",
    "run_again_at",
]

WHEN_DUE_TAG = "again-when-due"
COVERED = "Covered"
"""The name of the state of a run that left its work to another one."""

_SOONEST = timedelta(seconds=20)
_STEP_SECONDS = 20
_MOST = 200


async def run_again_at(due: datetime, why: str) -> datetime | None:
    """Have this deployment run again, unless it runs between now and then anyway.

    Args:
        due: When; or somewhat later, see `next_time`.
        why: Shown with the state of that run.

    Returns:
        When it runs next for this reason; `None` if this run has no deployment.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    run = _this_run()
    if run is None or run.deployment_id is None:
        return None
    now, context = datetime.now(UTC), FlowRunContext.get()
    at = next_time(due, context.start_time if context else now, now)
    async with get_client() as client:
        stored = await client.read_flow_run(run.id)  # its parameters as they are stored: blocks by reference
        waiting = await _others(client, stored, StateType.SCHEDULED)
        if sooner := [each for each in (_begins(other, stored) for other in waiting) if each and each <= at]:
            return max(sooner)
        key = f"{run.deployment_id}/{_digest(stored.parameters)}/{at:%Y-%m-%dT%H:%M:%S}"
        await client.create_flow_run_from_deployment(
            run.deployment_id,
            name=f"reconcile-again-{at:%H:%M:%S}",
            parameters=stored.parameters,
            state=Scheduled(scheduled_time=at, message=f"By reconcile ({run.name}): {why}"),
            idempotency_key=key,
            tags=[WHEN_DUE_TAG],
        )
    get_run_logger().info("reconcile runs again at %s UTC: %s", f"{at:%H:%M:%S}", why)
    return at


def next_time(due: datetime, began: datetime, now: datetime) -> datetime:
    """Return when to run again for what is due.

    Not within twenty seconds, and not before as much time has passed as this run took: with thousands of generations
    open something is always due, and it would run without a pause.

    Args:
        due: When something is due; it may be past.
        began: When this run began.
        now: The time.

    Returns:
        The time, rounded up, so that runs for nearly the same time get the same time.
    """
    at = max(due, now + max(_SOONEST, now - began))
    return datetime.fromtimestamp(math.ceil(at.timestamp() / _STEP_SECONDS) * _STEP_SECONDS, UTC)


async def covering_run() -> FlowRun | None:
    """Return another run of this deployment that did what this one waited to do; `None` if there is none.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    run = _this_run()
    if run is None or run.deployment_id is None:
        return None
    async with get_client() as client:
        this = await client.read_flow_run(run.id)
        others = await _others(client, this, StateType.COMPLETED, started_since=this.expected_start_time)
    return next((other for other in others if covers(other, this)), None)


def covers(other: FlowRun, this: FlowRun) -> bool:
    """Whether another run did what this one was to do: the same, begun after this one was due, and done.

    One that is still at work is no reason to leave the work to it: it may be dead.
    """
    return other.state_type is StateType.COMPLETED and other.state_name != COVERED and _does_the_same_later(other, this)


def _does_the_same_later(other: FlowRun, this: FlowRun) -> bool:
    return (
        other.parameters == this.parameters
        and other.start_time is not None
        and this.expected_start_time is not None
        and other.start_time >= this.expected_start_time
    )


async def cover_waiting() -> None:
    """End the runs of this deployment that wait to do what this one has done; awaited at its end.

    Each would start a process to find that out, while those that are needed wait behind it: after a burst of crashes
    there were twenty of them, and for eight minutes nothing was done. If Prefect's API does not answer, they find it
    out anyway.
    """
    run = _this_run()
    if run is None or run.deployment_id is None:
        return
    try:
        async with get_client() as client:
            this = await client.read_flow_run(run.id)
            for other in await _others(client, this, StateType.SCHEDULED):
                if _does_the_same_later(this, other):
                    await client.set_flow_run_state(other.id, Completed(name=COVERED, message=covered_by(this)))
    except (PrefectException, httpx.HTTPError, OSError) as error:
        get_run_logger().warning("Runs that wait for nothing could not be ended (%s)", type(error).__name__)


def covered_by(other: FlowRun) -> str:
    """Say why a run had nothing left to do."""
    return f"Run {other.name} did this, and began after this one was due."


def _this_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return context.flow_run if context else None


async def _others(
    client: PrefectClient, run: FlowRun, state: StateType, *, started_since: datetime | None = None
) -> list[FlowRun]:
    """Read the other runs of this run's deployment that are in this state."""
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id] if run.deployment_id else []),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])),
        start_time=FlowRunFilterStartTime(after_=started_since) if started_since else None,
    )
    found = await client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=_MOST)
    return [each for each in found if each.id != run.id]


def _begins(other: FlowRun, this: FlowRun) -> datetime | None:
    """Return when another run does the same again; `None` if it does not, or was due before this one began.

    One of those ends at once, since this one covers it.
    """
    if other.parameters != this.parameters or other.expected_start_time is None:
        return None
    if this.start_time is not None and other.expected_start_time <= this.start_time:
        return None
    return other.next_scheduled_start_time or other.expected_start_time


def _digest(parameters: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()[:12]
