"""The three automations that let a deployment heal itself: what they wait for, and what they then do.

They run in the Prefect server, so they need no worker. Prefect names the event of a state after the state's *name*
(`prefect.flow-run.TimedOut`, `prefect.flow-run.AwaitingRetry`), so what ends a silence is any event of the flow run:
a list of names would be wrong at the first name that is not on it. `prefect.server.events.triggers` restarts the timer
with each event that is both in `after` and in `expect`, and stops it with one that is in `expect` only. A run that has
ended is safe in any case: `HandleFlowTerminalStateTransitions` of `prefect.server.orchestration.core_policy` lets no
run that has ended become Crashed, and a Cancelling run can only become Cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from tasks.runtime.naming import function_name
from tasks.upkeep.marks import FORCED, RECONCILE

__all__ = [
    "CRASHED",
    "DEAD",
    "PENDING",
    "PENDING_PATIENCE",
    "dead",
    "pending",
    "reconcile_after_crash",
    "reconcile_among",
    "same",
]

DEAD = "runcomfy: mark runs as crashed whose machine died"
PENDING = "runcomfy: mark runs as crashed that never began"
CRASHED = "runcomfy: reconcile after a crash"
"""The names of the three automations."""

PENDING_PATIENCE = timedelta(seconds=300)
"""How long a run may be between a worker's taking it and its first line, before it counts as dead."""
_BURST = timedelta(seconds=15)
_AFTER_BURST = _BURST + timedelta(seconds=15)
"""A worker takes a run ten seconds before it is due (`PREFECT_WORKER_PREFETCH_SECONDS`): if that `reconcile` itself
crashes then, the quiet period is over, and its crash starts the next one."""

_FLOW_RUN = "prefect.flow-run"
_ANY_EVENT = f"{_FLOW_RUN}.*"
_RUNS = {"prefect.resource.id": f"{_FLOW_RUN}.*"}
_OURS = ResourceSpecification({"prefect.resource.id": "prefect.tag.runcomfy", "prefect.resource.role": "tag"})


def dead(patience: timedelta) -> AutomationCore:
    """Return the automation that marks a run as crashed if it has begun and is silent for too long.

    Args:
        patience: How long it may be silent; ten seconds at least.
    """
    return _silence(
        DEAD,
        ("heartbeat", "Running", "Retrying"),
        patience,
        f"no sign of life for {_seconds(patience)}: its process or its machine is gone.",
    )


def pending(patience: timedelta = PENDING_PATIENCE) -> AutomationCore:
    """Return the automation that marks a run as crashed if a worker took it and it never began.

    Args:
        patience: How long that may take; ten seconds at least.
    """
    return _silence(
        PENDING,
        ("Pending", "Submitting", "InfrastructurePending"),
        patience,
        f"a worker took it, and nothing was heard of it for {_seconds(patience)}: the worker or its machine is gone.",
    )


def reconcile_after_crash(
    deployment_id: UUID, burst: timedelta = _BURST, delay: timedelta = _AFTER_BURST
) -> AutomationCore:
    """Return the automation that starts `reconcile` after a crash: once for a burst of crashes, after the last of them.

    A reactive trigger fires at the first event, and not again until its period is over. The run that it starts is due
    after that period, so it begins after every crash that started none.

    Args:
        deployment_id: The deployment of `reconcile`.
        burst: For how long further crashes start nothing.
        delay: How long after the first crash `reconcile` is due; longer than the burst.
    """
    return AutomationCore(
        name=CRASHED,
        description="A crash of a run starts reconcile, which runs it again and collects what was paid for.",
        trigger=EventTrigger(
            expect={_ANY_EVENT},
            # By the state's type: a crash may have any name.
            match=ResourceSpecification({**_RUNS, "prefect.state-type": "CRASHED"}),
            match_related=_OURS,
            posture=Posture.Reactive,
            threshold=1,
            within=burst,
        ),
        actions=[RunDeployment(source="selected", deployment_id=deployment_id, schedule_after=delay)],
    )


def reconcile_among(deployments: Iterable[DeploymentResponse]) -> DeploymentResponse | None:
    """Return the deployment of `reconcile` that a crash is to start: one that has a work pool and is not paused.

    It is the same one each time, as long as the deployments do not change.
    """
    found = [each for each in deployments if function_name(each.entrypoint) == RECONCILE]
    return min(found, key=lambda each: (each.paused, each.work_pool_name is None, each.name, each.id), default=None)


def same(current: Automation, wanted: AutomationCore) -> bool:
    """Whether an automation on the server matches the wanted one; it may be switched off."""

    def comparable(automation: AutomationCore) -> dict[str, object]:
        return automation.model_dump(mode="json", include={"description", "actions"}) | {
            "trigger": _in_order(automation.trigger.model_dump(mode="json"))
        }

    return comparable(current) == comparable(wanted)


def _silence(name: str, after: tuple[str, ...], patience: timedelta, why: str) -> AutomationCore:
    return AutomationCore(
        name=name,
        description=f"After {', '.join(after)}: {why}",
        trigger=EventTrigger(
            after={f"{_FLOW_RUN}.{event}" for event in after},
            expect={_ANY_EVENT},
            match=ResourceSpecification(_RUNS),
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=patience,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=f'{FORCED} "{name}": {why}')],
    )


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"


def _in_order(value: object) -> object:
    """Return lists sorted, since sets have no order, and single values as lists, since the server may do so."""
    if isinstance(value, dict):
        return {name: _in_order(inner) for name, inner in value.items() if name != "id"}
    if isinstance(value, list):
        return sorted(value, key=str) if len(value) != 1 else value[0]
    return value
