"""Read what is known of a server's runs through Prefect's API: page by page, and never all that ever ran."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.utilities.urls import url_for

from runcomfy.redaction import redact
from tasks.upkeep.deployments import read_deployments, read_workers, server_time
from tasks.upkeep.facts import DeploymentFacts, Facts, RunFacts
from tasks.upkeep.heartbeats import any_heartbeat, read_heartbeats, with_heartbeats
from tasks.upkeep.marks import AGAIN_TAG, OURS_TAG, has_crashed, is_by_a_person, is_by_an_automation

__all__ = ["read_facts", "read_runs"]

_PAGE = 200
_MOST_WAITING, _MOST_CRASHED, _MOST_AGAIN = 200, 1000, 50
_AT_ONCE = 8
_CRASHED_WITHIN, _FAILED_WITHIN, _AGAIN_WITHIN = timedelta(days=7), timedelta(hours=3), timedelta(days=1)
_SOON = timedelta(seconds=5)  # the clock in the answers of a busy server is some seconds late
_AT_WORK = ["PENDING", "RUNNING", "CANCELLING", "PAUSED"]


async def read_facts(client: PrefectClient) -> Facts:
    """Read the deployments that are tagged `runcomfy`, their runs that matter now, and the workers of their pools.

    Raises:
        PrefectException, httpx.HTTPError, OSError: the API does not answer.
    """
    at = await server_time(client)
    deployments = await read_deployments(client)
    pools = sorted({found.pool for found in deployments.values() if found.pool})
    workers = [worker for pool in pools for worker in await read_workers(client, pool)]
    facts = Facts(at, deployments, workers=tuple(workers))
    if not deployments:
        return facts
    ours, orders = _of(deployments.values()), _of(found for found in deployments.values() if not found.reconciles)
    at_work = await _find(client, ours | _in_state(*_AT_WORK))
    due = orders | _in_state("SCHEDULED") | {"expected_start_time": {"before_": (at + _SOON).isoformat()}}
    waiting = await _find(client, due, sort=FlowRunSort.EXPECTED_START_TIME_ASC, most=_MOST_WAITING)
    # What is never run again, such as each minute's run of an inbox, must not crowd out orders that are.
    may_run_again = _of(found for found in deployments.values() if not found.reconciles and not found.drops_new)
    own = {"parent_task_run_id": {"is_null_": True}}
    dead = own | _in_state("CRASHED") | {"end_time": {"after_": (at - _CRASHED_WITHIN).isoformat()}}
    failed = own | _in_state("FAILED", "CANCELLED") | {"end_time": {"after_": (at - _FAILED_WITHIN).isoformat()}}
    crashed = {
        run.id: run
        for wanted in (
            _tagged(OURS_TAG) | dead,
            may_run_again | dead,
            may_run_again | failed,
        )  # the tag: its deployment is gone
        for run in await _find(client, wanted, sort=FlowRunSort.END_TIME_DESC, most=_MOST_CRASHED)
        if has_crashed(run.state_type, run.message)
    }
    again = ours | _tagged(AGAIN_TAG) | {"start_time": {"after_": (at - _AGAIN_WITHIN).isoformat()}}
    detailed, beats_known = await _with_details(client, [*at_work, *crashed.values()], at)
    return replace(
        facts,
        runs=(*detailed, *waiting),
        waiting=await _count(client, due),
        again=tuple(await _find(client, again, sort=FlowRunSort.START_TIME_DESC, most=_MOST_AGAIN)),
        beats_known=beats_known or await any_heartbeat(client, at),
    )


async def read_runs(client: PrefectClient, runs: Iterable[UUID], at: datetime) -> list[RunFacts]:
    """Read single runs again, with their heartbeats and history.

    Args:
        client: Speaks to the server.
        runs: Their ids; those that are gone are left out of the answer.
        at: Now, by the server's clock.
    """
    chosen, found = [str(run_id) for run_id in runs], list[RunFacts]()
    for start in range(0, len(chosen), _PAGE):
        found += await _find(client, {"id": {"any_": chosen[start : start + _PAGE]}})
    return (await _with_details(client, found, at))[0]


async def _with_details(client: PrefectClient, runs: Sequence[RunFacts], at: datetime) -> tuple[list[RunFacts], bool]:
    """Return runs with their heartbeats, crashed ones with their history too; and whether there were heartbeats."""
    beats = await read_heartbeats(client, [run.id for run in runs], at)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def detailed(run: RunFacts) -> RunFacts:
        async with gate:
            return await _with_history(client, with_heartbeats(run, beats.get(run.id)))

    return list(await asyncio.gather(*map(detailed, runs))), bool(beats)


async def _with_history(client: PrefectClient, run: RunFacts) -> RunFacts:
    if not has_crashed(run.state_type, run.message):
        return run
    states = sorted(await client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    by_hand = [number for number, state in enumerate(states) if is_by_a_person(state)]
    own = states[by_hand[-1] :] if by_hand else states
    crashes = [state.timestamp for state in own if has_crashed(state.type, state.message)]
    stopped = (StateType.CANCELLING, StateType.CANCELLED)
    cancelled = any(state.type in stopped and not has_crashed(state.type, state.message) for state in own)
    before = states[-2] if len(states) > 1 else None
    return replace(
        run,
        crashes=len(crashes),
        first_crash=min(crashes, default=None),
        cancelled=cancelled,
        rested=before if before and before.is_paused() and is_by_an_automation(run.message) else None,
    )


def _of(deployments: Iterable[DeploymentFacts]) -> dict[str, Any]:
    return {"deployment_id": {"any_": [str(found.id) for found in deployments] or [str(UUID(int=0))]}}


def _tagged(tag: str) -> dict[str, Any]:
    return {"tags": {"all_": [tag]}}


def _in_state(*types: str) -> dict[str, Any]:
    return {"state": {"type": {"any_": list(types)}}}


async def _find(
    client: PrefectClient,
    wanted: Mapping[str, Any],
    *,
    sort: FlowRunSort = FlowRunSort.ID_DESC,
    most: int | None = None,
) -> list[RunFacts]:
    """Read runs page by page; by their ids unless another order is wanted, so that no page misses one."""
    chosen, found, offset = FlowRunFilter.model_validate(wanted), dict[UUID, RunFacts](), 0
    while most is None or offset < most:
        page = await client.read_flow_runs(flow_run_filter=chosen, sort=sort, limit=_PAGE, offset=offset)
        found |= {run.id: facts for run in page if (facts := _run(run)) is not None}
        offset += len(page)
        if len(page) < _PAGE:
            break
    return list(found.values())[:most]


async def _count(client: PrefectClient, wanted: Mapping[str, Any]) -> int:
    return int((await client.request("POST", "/flow_runs/count", json={"flow_runs": wanted})).json())


def _run(run: FlowRun) -> RunFacts | None:
    state = run.state
    if state is None:
        return None
    return RunFacts(
        id=run.id,
        name=run.name,
        deployment_id=run.deployment_id,
        state_id=state.id,
        state_type=state.type,
        state_name=state.name or state.type.value.title(),
        since=state.timestamp,
        message=str(redact(state.message or "")),
        scheduled_for=state.state_details.scheduled_time,
        run_count=run.run_count,
        is_child=run.parent_task_run_id is not None,
        url=url_for("flow-run", obj_id=run.id) or "",
    )
