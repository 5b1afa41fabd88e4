"""What Prefect's own context knows of the run; asking the API could fail, and would block."""

from __future__ import annotations

from prefect.context import FlowRunContext
from prefect.utilities.urls import url_for

__all__ = ["flow_run_facts"]


def flow_run_facts() -> dict[str, str]:
    """Return the run's id, name, flow, deployment and page, as far as they are known; nothing outside a flow run."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return {}
    run = context.flow_run
    known = {"id": run.id, "name": run.name, "flow": context.flow.name, "deployment_id": run.deployment_id}
    known["url"] = url_for("flow-run", obj_id=run.id)
    return {name: str(value) for name, value in known.items() if value}
