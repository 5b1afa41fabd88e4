"""A run at Prefect's default heartbeat is left alone while it lives, and noticed when its machine is gone.

Neither its deployment, nor its pool, nor its worker sets the frequency of heartbeats: one every 180 seconds.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.deployments.chaos_api import FINAL, moment
from tests.deployments.chaos_processes import kill_tree
from tests.deployments.chaos_report import Report
from tests.deployments.chaos_stage import Database, Stage, set_up, stage
from tests.deployments.stack import ROOT

__all__ = ["healthy"]

_POOL = "plain"
_FREQUENCY = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
_MARGIN = timedelta(seconds=60)


def healthy(database: Database, minutes: float) -> Report:
    """Run one order for so many minutes, and kill the machine of another."""
    with stage(database, 5) as made:
        began = datetime.now(UTC)
        deployment_id = _plain_deployment(made)
        print(set_up(made, "--update"))
        patience = max(
            (timedelta(seconds=found["trigger"]["within"]) for found in _proactive(made)), default=timedelta(minutes=15)
        )
        workers, runs = [], []
        for name in ("healthy", "dead"):
            workers.append(_worker(made, name))
            prompt = f"A {name} run [sandbox: run_seconds={minutes * 60}]"
            runs.append(made.api.create_run(deployment_id, {"prompt": prompt}, name, None))
            _until(lambda: _state(made, runs[-1])["type"] == "RUNNING", f"the {name} run to begin")
        _until(lambda: _heartbeat(made, runs[1], began), "a sign of life of the one that is killed")
        killed_at = datetime.now(UTC)
        kill_tree(workers[1].pid)
        print(f"{killed_at:%H:%M:%S} killed the machine of {runs[1]}, a sign of life before", flush=True)
        _until(lambda: _crashes(made, runs[1]), "the dead run to be noticed", 3600)
        _until(lambda: _state(made, runs[0])["type"] in FINAL, "the healthy run to end", 3600 + minutes * 60)
        crash = _crashes(made, runs[1])[0]
        noticed = moment(crash["timestamp"]) - killed_at
        wrong = [f"the healthy run was marked: {one['message']}" for one in _crashes(made, runs[0])]
        if _state(made, runs[0])["type"] != "COMPLETED":
            wrong.append(f"the healthy run ended {_state(made, runs[0])['name']}")
        if noticed > patience + _MARGIN:
            wrong.append(f"the dead run was noticed after {noticed}, and the automation's patience is {patience}")
        steps = [f"{one['timestamp'][11:19]} {one['name']}: {one['message']}" for one in made.api.states(runs[0])]
        text = [
            f"healthy for {minutes} minutes:",
            *steps,
            f"the dead one was noticed after {noticed}: {crash['message']}",
        ]
        return Report(wrong, "\n".join([*text, *(f"WRONG  {line}" for line in wrong)]) + "\n")


def _plain_deployment(made: Stage) -> str:
    """Create a pool and a deployment that set nothing about heartbeats."""
    template: dict[str, Any] = {"name": _POOL, "type": "process"}
    made.api.call("POST", "/work_pools/", template)
    told = made.api.call("GET", "/deployments/name/text-to-video/text-to-video")
    same = ("flow_id", "entrypoint", "path", "pull_steps", "parameters", "parameter_openapi_schema", "tags")
    body = {name: told[name] for name in same} | {
        "name": "default-heartbeat", "work_pool_name": _POOL, "enforce_parameter_schema": False, "job_variables": {},
    }  # fmt: skip
    return str(made.api.call("POST", "/deployments/", body)["id"])


def _worker(made: Stage, name: str) -> subprocess.Popen[bytes]:
    """Start a worker for one run; it ends with everything that talks to the server."""
    environment = made.stack.environment("worker1") | {"PREFECT_HOME": str(made.stack.home / name)}
    environment.pop(_FREQUENCY, None)
    command = ["prefect", "worker", "start", "--pool", _POOL, "--type", "process", "--limit", "1", "--name", name]
    with (made.stack.home / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _proactive(made: Stage) -> list[dict[str, Any]]:
    found = made.api.call("POST", "/automations/filter", {})
    return [one for one in found if one["trigger"].get("posture") == "Proactive"]


def _state(made: Stage, run_id: str) -> dict[str, Any]:
    state: dict[str, Any] = made.api.call("GET", f"/flow_runs/{run_id}")["state"]
    return state


def _crashes(made: Stage, run_id: str) -> list[dict[str, Any]]:
    return [state for state in made.api.states(run_id) if state["type"] == "CRASHED"]


def _heartbeat(made: Stage, run_id: str, since: datetime) -> bool:
    found = made.api.events("prefect.flow-run.heartbeat", since)
    return any(event["resource"]["prefect.resource.id"] == f"prefect.flow-run.{run_id}" for event in found)


def _until(happened: Callable[[], Any], what: str, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(2)
