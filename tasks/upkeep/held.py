"""Compare the slots of concurrency limits with the live runs: slots that nobody holds are found, and freed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.runtime.slot_label import LEASE_PASSED
from tasks.runtime.slots import LABEL_SECONDS
from tasks.upkeep.deployments import our_deployments, server_time
from tasks.upkeep.facts import HeldSlots
from tasks.upkeep.slot_claims import Claims, Sighting, SlotReview, claims_of, judge_slots
from tasks.upkeep.slot_runs import HoldingRuns, earlier_looks, holding_runs, unlabelled_holders

__all__ = ["UNEXPLAINED_LABEL", "SlotsInspection", "free_leaked_slots", "inspect_slots", "slots_held"]

UNEXPLAINED_LABEL = "runcomfy.unexplained-slots"
"""In the label of a run of `reconcile`: slots that no run at work held when it inspected them, by their limits."""
_WHO_TOOK_SAYS_SO_SECONDS = LABEL_SECONDS + 5


@dataclass(frozen=True)
class _Limit:
    """A concurrency limit, and who holds its slots."""

    name: str
    shown: str
    id: str
    limit: int
    active: int
    deployment_id: UUID | None = None
    """The deployment of a deployment's limit; `None` for a limit of an account."""
    claims: Claims = field(default_factory=Claims)


@dataclass(frozen=True)
class SlotsInspection:
    """What an inspection of the slots found and did."""

    held: tuple[HeldSlots, ...]
    due: datetime | None = None
    """When it can be decided for more slots whether anybody holds them."""


async def slots_held(client: PrefectClient, limits: Sequence[str]) -> tuple[HeldSlots, ...]:
    """Compare the slots that are taken with the runs that are alive; nothing is changed.

    Args:
        client: Prefect's API.
        limits: The concurrency limits of accounts; those of our deployments are added.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    found = await _read(client, limits)
    now = await server_time(client)
    return tuple(_shown(limit, now) for limit in found)


async def free_leaked_slots(
    client: PrefectClient,
    limits: Sequence[str],
    this_run: FlowRun | None,
    *,
    lease: timedelta = LEASE_PASSED,
    says_so_seconds: float = _WHO_TOOK_SAYS_SO_SECONDS,
) -> SlotsInspection:
    """Free the slots that certainly nobody holds, and record for later inspections what is not explained.

    Args:
        client: Prefect's API.
        limits: The concurrency limits of accounts; those of our deployments are added.
        this_run: The run that inspects, whose label is read by later inspections; without one, nothing is ever certain.
        lease: What is unexplained for so long is held by nobody: `judge_slots`.
        says_so_seconds: Within this time, a run that takes a slot records it, or gives it back.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    earlier = await earlier_looks(client, this_run) if this_run else ()
    found = await _read(client, limits, lease)
    now = await server_time(client)
    verdicts = {each.name: _judged(each, earlier, now, lease) for each in found}
    if any(verdict.free for verdict in verdicts.values()):
        # Active first, runs later: a run that took a slot before the first has recorded it by then, or given it back.
        await asyncio.sleep(says_so_seconds)
        runs = await holding_runs(client)
        now = await server_time(client)
        found = [replace(each, claims=_claims(each, runs, lease)) for each in found]
        first, verdicts = verdicts, {each.name: _judged(each, earlier, now, lease) for each in found}
        verdicts = {name: replace(each, free=min(each.free, first[name].free)) for name, each in verdicts.items()}
    held = []
    for each in found:
        verdict, note = verdicts[each.name], ""
        if verdict.free and each.deployment_id is None:
            note = await unlabelled_holders(client, each.id)
        if note:
            verdict = replace(verdict, free=0)
        if verdict.free and not await _freed(client, each.name, verdict.free):
            verdict, note = (
                replace(verdict, free=0, due=now + lease),
                "Prefect's server did not say that it freed them.",
            )
        verdicts[each.name] = verdict
        held.append(_shown(each, now, verdict.free, note))
    if this_run is not None:
        left = {name: verdict.unexplained - verdict.free for name, verdict in verdicts.items()}
        await client.update_flow_run_labels(this_run.id, {UNEXPLAINED_LABEL: json.dumps(left)})
    due = [verdict.due for verdict in verdicts.values() if verdict.due]
    return SlotsInspection(tuple(held), min(due, default=None))


async def _freed(client: PrefectClient, name: str, slots: int) -> bool:
    """Free slots, asking once: if the answer is lost, they may be freed, and asking again would free others."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        try:
            await client.request("POST", "/v2/concurrency_limits/decrement", json={"names": [name], "slots": slots})
        except (httpx.HTTPError, OSError):
            return False
    return True


def _judged(limit: _Limit, earlier: Sequence[FlowRun], now: datetime, lease: timedelta) -> SlotReview:
    return judge_slots(limit.active, limit.claims, _sightings(limit.name, earlier), now, lease=lease)


def _sightings(name: str, earlier: Sequence[FlowRun]) -> list[Sighting]:
    """Return what earlier runs noted of a limit, dated by when they had ended at the latest."""
    found = []
    for run in earlier:
        slots = _noted(run.labels).get(name)
        if isinstance(slots, int) and run.end_time is not None:
            found.append(Sighting(run.end_time, slots))
    return found


def _noted(labels: Mapping[str, Any]) -> dict[str, Any]:
    try:
        noted = json.loads(str(labels.get(UNEXPLAINED_LABEL, "{}")))
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


async def _read(client: PrefectClient, names: Sequence[str], lease: timedelta = LEASE_PASSED) -> list[_Limit]:
    """Read the limits, and only then the runs: one that takes a slot in between records it, and counts as holder."""
    accounts = []
    for name in dict.fromkeys(filter(None, names)):
        try:
            accounts.append(await client.read_global_concurrency_limit_by_name(name))
        except ObjectNotFound:
            continue  # the flows say so
    deployments = await our_deployments(client)
    runs = await holding_runs(client)
    found = [
        _Limit(each.name, each.name, str(each.id), each.limit, each.active_slots)
        for each in accounts
        if each.slot_decay_per_second == 0
    ]
    for name, deployment in deployments.items():
        if limit := deployment.global_concurrency_limit:
            found.append(
                _Limit(limit.name, f"deployment:{name}", str(limit.id), limit.limit, limit.active_slots, deployment.id)
            )
    return [replace(each, claims=_claims(each, runs, lease)) for each in found]


def _claims(limit: _Limit, runs: HoldingRuns, lease: timedelta) -> Claims:
    if limit.deployment_id is None:
        return claims_of(runs.claims, limit.name, lease=lease)
    return Claims(runs.of_deployment(limit.deployment_id))


def _shown(limit: _Limit, now: datetime, freed: int = 0, note: str = "") -> HeldSlots:
    held = min(limit.claims.held, limit.active)
    return HeldSlots(
        name=limit.shown,
        limit=limit.limit,
        active=limit.active,
        held=held,
        freed=freed,
        lately=min(limit.claims.lately_held(now), limit.active - held),
        note=note,
    )


@task(name="look_at_slots", task_run_name="look at the slots", cache_policy=NO_CACHE)
async def inspect_slots(limit: str) -> SlotsInspection:
    """Free the slots that nobody holds any more, of the account's concurrency limit and of our deployments'.

    Args:
        limit: The account's concurrency limit; empty if it has none.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    context = FlowRunContext.get()
    async with get_client() as client:
        look = await free_leaked_slots(client, [limit] if limit else [], context.flow_run if context else None)
    logger = get_run_logger()
    for each in look.held:
        if each.freed:
            logger.warning("Freed %d slot(s) of %s that no run held any more", each.freed, each.name)
        elif each.note:
            logger.warning("Slots of %s may be held by nobody, and are left as they are: %s", each.name, each.note)
        elif each.leaked:
            logger.info("%d slot(s) of %s are held by no run that is known", each.leaked, each.name)
    return look
