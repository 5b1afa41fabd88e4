"""Two automations that keep generations from being forgotten; `python -m deployments.setup --automations`."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.setup_steps import Confirm, Step

__all__ = ["ensure_automations"]

_RUNS = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
_OURS = ResourceSpecification({"prefect.resource.id": "prefect.tag.runcomfy", "prefect.resource.role": "tag"})
_ENDS = {f"prefect.flow-run.{state}" for state in ("Cancelled", "Completed", "Crashed", "Failed")}
_HEARTBEAT = "prefect.flow-run.heartbeat"


async def ensure_automations(client: PrefectClient, confirm: Confirm) -> list[Step]:
    """Make sure of both: runs whose machine died are marked as crashed, and what a crashed run paid for is collected.

    Args:
        client: Speaks to the server.
        confirm: Is asked before one that differs is replaced.
    """
    steps = [await _ensure(client, _mark_the_dead(), confirm)]
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=["runcomfy"]))
    reconcile = next(
        (
            deployment.id
            for deployment in await client.read_deployments(deployment_filter=tagged)
            if (deployment.entrypoint or "").endswith(":reconcile")
        ),
        None,
    )
    if reconcile is None:
        return [*steps, Step("automation", _COLLECT, "skipped", "deploy reconcile first, and run this again")]
    return [*steps, await _ensure(client, _collect(reconcile), confirm)]


_COLLECT = "runcomfy: collect what a crashed run has paid for"


def _mark_the_dead() -> AutomationCore:
    return AutomationCore(
        name="runcomfy: mark runs as crashed whose machine died",
        description="Workers have to send heartbeats: PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *_ENDS},
            match=_RUNS,
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=120),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="No sign of life for two minutes.")],
    )


def _collect(deployment_id: UUID) -> AutomationCore:
    return AutomationCore(
        name=_COLLECT,
        description="Its request runs on: reconcile archives it, or says what needs a person.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match=_RUNS,
            match_related=_OURS,
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[RunDeployment(source="selected", deployment_id=deployment_id)],
    )


async def _ensure(client: PrefectClient, wanted: AutomationCore, confirm: Confirm) -> Step:
    standing = next(iter(await client.read_automations_by_name(wanted.name)), None)
    if standing is None:
        await client.create_automation(wanted)
        return Step("automation", wanted.name, "created")
    parts = {"trigger", "actions"}
    if standing.model_dump(include=parts) == wanted.model_dump(include=parts):
        return Step("automation", wanted.name, "unchanged")
    change = "its trigger or its action is another one"
    if not confirm(f"Automation {wanted.name}: {change}; replace it"):
        return Step("automation", wanted.name, "differs", change)
    await client.update_automation(standing.id, wanted)
    return Step("automation", wanted.name, "updated", change)
