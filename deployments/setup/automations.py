"""The automations that let a deployment heal itself, made and kept up to date: `setup --automations`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.automations import (
    CRASHED,
    PENDING_PATIENCE,
    dead,
    pending,
    reconcile_after_crash,
    reconcile_among,
    same,
)
from deployments.setup.steps import Allowed, Step
from tasks.runtime.heartbeats import FREQUENCY, frequencies, patience

__all__ = ["ensure_automations"]

_FORMER_NAMES = {CRASHED: ("runcomfy: collect what a crashed run has paid for",)}
_TAG = "runcomfy"


async def ensure_automations(
    client: PrefectClient,
    pool: str,
    allowed: Allowed,
    *,
    dead_patience: timedelta | None = None,
    pending_patience: timedelta = PENDING_PATIENCE,
) -> list[Step]:
    """Make sure of all three: runs that died or never began are marked as crashed, and a crash starts reconcile.

    Args:
        client: Speaks to the server.
        pool: The work pool, whose runs count too.
        allowed: Whether one may be made, or replaced if it differs.
        dead_patience: How long a run may be silent; `None`: it follows from the heartbeats of pool and deployments.
        pending_patience: How long it may take until a run begins that a worker has taken.
    """
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[_TAG]))
    deployments = await client.read_deployments(deployment_filter=tagged)
    silence = dead_patience or await _patience(client, pool, deployments)
    steps = [await _ensure(client, wanted, allowed) for wanted in (dead(silence), pending(pending_patience))]
    reconcile = reconcile_among(deployments)
    if reconcile is None:
        return [*steps, Step("automation", CRASHED, "skipped", "deploy reconcile first, and run this again")]
    return [*steps, await _ensure(client, reconcile_after_crash(reconcile.id), allowed)]


async def _patience(client: PrefectClient, pool: str, deployments: Sequence[DeploymentResponse]) -> timedelta:
    """Return the waiting time that the slowest heartbeat needs."""
    names = {pool, *(each.work_pool_name for each in deployments if each.work_pool_name)}
    templates = {}
    for name in names:
        with suppress(ObjectNotFound):  # not made yet
            templates[name] = (await client.read_work_pool(name)).base_job_template
    return patience(max(frequencies(deployments, templates).values(), default=FREQUENCY))


async def _ensure(client: PrefectClient, wanted: AutomationCore, allowed: Allowed) -> Step:
    """Make one, or update the existing one, which is found by its name or by a former name."""
    names = (wanted.name, *_FORMER_NAMES.get(wanted.name, ()))
    found = [each for name in names for each in await client.read_automations_by_name(name)]
    if not found:
        if not allowed.make:
            return Step("automation", wanted.name, "missing")
        await client.create_automation(wanted)
        return Step("automation", wanted.name, "created", _told(wanted))
    current, *surplus = found
    changes = _changes(current, wanted) + ([f"{len(surplus)} more of it"] if surplus else [])
    switched_off = "" if current.enabled else "switched off"
    if not changes:
        return Step("automation", wanted.name, "unchanged", switched_off)
    change = "; ".join(filter(None, (*changes, switched_off)))
    if not allowed.change(f"Automation {current.name}: {change}; replace it"):
        return Step("automation", wanted.name, "differs", change)
    # One that a person switched off stays so.
    await client.update_automation(current.id, wanted.model_copy(update={"enabled": current.enabled}))
    for each in surplus:
        await client.delete_automation(each.id)
    return Step("automation", wanted.name, "updated", change)


def _changes(current: Automation, wanted: AutomationCore) -> list[str]:
    """Say how an automation differs from the wanted one."""
    changes = [] if current.name == wanted.name else [f"name: {current.name} →"]
    if _within(current) != _within(wanted):
        changes.append(f"within: {_within(current)} → {_within(wanted)}")
    if not changes and not same(current, wanted):
        changes.append("its trigger or its action is another one")
    return changes


def _told(automation: AutomationCore) -> str:
    return f"within {_within(automation)}" if automation.trigger.type == "event" else ""


def _within(automation: AutomationCore) -> str:
    within = getattr(automation.trigger, "within", None)
    return f"{within.total_seconds():g} s" if within is not None else "none"
