"""Serve every flow from one process: `python -m deployments.serve`, for a laptop or a single machine.

It needs no work pool and no worker; each flow run gets a process of its own. What is served is what `prefect.yaml`
deploys: the same schedules, limits, triggers and blocks.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from cyclopts import App
from prefect import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.deployments.steps.core import run_steps
from prefect.events import DeploymentTriggerTypes
from prefect.runner import Runner
from prefect.schedules import Cron, Interval, Schedule
from prefect.utilities.templating import apply_values
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from deployments.entry import require_server, run_entry
from deployments.orderly import in_order
from runcomfy.cli.streams import as_process
from tasks.runtime.heartbeats import ENVIRONMENT, FREQUENCY

__all__ = ["app", "main"]

_ROOT = Path(__file__).parents[1]
# A name of its own: the deployments of prefect.yaml may be on the same server.
_NAME = "served"
_INTERRUPTED = (
    "Stopped. The schedules of what it served are paused until it is started again. Runs that were under way were "
    "stopped too: what they submitted goes on, and `reconcile` or the next run of the same inputs collects it."
)
_TRIGGERS: TypeAdapter[list[Any]] = TypeAdapter(list[DeploymentTriggerTypes])


app = App(name="python -m deployments.serve", help=__doc__, version_flags=())


@app.default
def serve() -> None:
    """Register a deployment for each flow, and run what is asked for until the process is stopped."""
    asyncio.run(_serve())


async def _serve() -> None:
    await require_server()
    os.chdir(_ROOT)  # the flows are found from there, also by the processes that run them
    runner = Runner(pause_on_shutdown=True, heartbeat_seconds=FREQUENCY)
    for deployment in await _deployments(_ROOT / "deployments" / "prefect.yaml"):
        deployment_id = await runner.aadd_deployment(deployment)
        await _record_heartbeat(deployment_id)
        print(f"Serving {deployment.flow_name}/{deployment.name}", flush=True)
    await in_order(runner.start())


async def _record_heartbeat(deployment_id: UUID) -> None:
    """Record on the server how often the runs send heartbeats: `setup --automations` waits accordingly."""
    async with get_client() as client:
        current = await client.read_deployment(deployment_id)
        variables = DeploymentUpdate(tags=current.tags, job_variables={"env": ENVIRONMENT})
        await client.update_deployment(deployment_id, variables)


async def _deployments(file: Path) -> list[RunnerDeployment]:
    content = YAML(typ="safe").load(file)
    filled_in = await run_steps(content["build"])
    return [_deployment(entry, filled_in) for entry in content["deployments"]]


def _deployment(entry: dict[str, Any], filled_in: dict[str, Any]) -> RunnerDeployment:
    return RunnerDeployment.from_entrypoint(
        entry["entrypoint"],
        _NAME,
        description=entry["description"],
        tags=entry["tags"],
        parameters=apply_values(entry["parameters"], filled_in),
        schedules=[_schedule(schedule) for schedule in apply_values(entry.get("schedules", []), filled_in)],
        concurrency_limit=(
            ConcurrencyLimitConfig.model_validate(entry["concurrency_limit"]) if "concurrency_limit" in entry else None
        ),
        enforce_parameter_schema=entry.get("enforce_parameter_schema", True),
        triggers=_TRIGGERS.validate_python(entry.get("triggers", [])),
    )


def _schedule(entry: dict[str, Any]) -> Schedule:
    how = {name: value for name, value in entry.items() if name not in ("cron", "interval")}
    return Cron(entry["cron"], **how) if "cron" in entry else Interval(entry["interval"], **how)


def main(arguments: list[str] | None = None) -> int:
    """Serve, and return the process's exit code, as `prefect-runcomfy` has them."""
    return run_entry(app, arguments, interrupted=_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(as_process(main))
