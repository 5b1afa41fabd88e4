"""How often a flow run sends a heartbeat, and how long it must be silent to count as dead.

Prefect's engine sends `prefect.flow-run.heartbeat` when the code of a flow begins, and then at the frequency of
`PREFECT_FLOWS_HEARTBEAT_FREQUENCY`, of 30 seconds at least (`MINIMUM_HEARTBEAT_INTERVAL` of `prefect.flow_engine`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings.models.flows import FlowsSettings

from tasks.runtime.naming import function_name

__all__ = ["ENVIRONMENT", "FREQUENCY", "VARIABLE", "default_frequency", "frequencies", "frequency_given", "patience"]

VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
"""Sets the frequency, in the environment of a run's process."""
FREQUENCY = 30
"""Seconds between two heartbeats where this project sets it: Prefect's engine sends none more often."""
ENVIRONMENT = {VARIABLE: str(FREQUENCY)}
"""What a deployment or a work pool gives its runs as `env`."""
_FORMER_NAME = "PREFECT_RUNNER_HEARTBEAT_FREQUENCY"
_MISSED, _MARGIN_SECONDS = 3, 60


def default_frequency() -> int:
    """Return the seconds between two heartbeats where nothing sets them: 180 with Prefect 3.9."""
    return int(FlowsSettings.model_fields["heartbeat_frequency"].default)


def frequencies(
    deployments: Iterable[DeploymentResponse], templates: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """Return the seconds between two heartbeats of each deployment and of each work pool, by their names.

    If the server knows no frequency, it is Prefect's default: a worker may set another one for its runs, but a silence
    limit that is too short would end healthy runs.

    Args:
        deployments: Those whose runs are watched.
        templates: The base job templates of the work pools, by their names.
    """
    found = {f"work pool {name}": frequency_given(None, template) for name, template in templates.items()}
    for each in deployments:
        function = function_name(each.entrypoint) or each.name
        template = templates.get(each.work_pool_name or "")
        found[f"{function}/{each.name}"] = frequency_given(each.job_variables, template)
    return {name: default_frequency() if told is None else told for name, told in found.items()}


def frequency_given(job_variables: Mapping[str, Any] | None, template: Mapping[str, Any] | None) -> int | None:
    """Return the seconds between two heartbeats of a deployment's runs, as far as the server knows them.

    The environment of a run is merged name by name, as `from_template_and_values` of `prefect.workers.base` does it:
    the work pool's `job_configuration`, the default of its variable `env`, then the deployment's job variables.

    Args:
        job_variables: Those of the deployment.
        template: The base job template of its work pool.

    Returns:
        What is set, 30 at least; `None` if nothing is, or nothing that is a number.
    """
    environment: dict[str, Any] = {}
    for layer in (_of_configuration(template), _of_defaults(template), _of_variables(job_variables)):
        environment |= layer
    for name in (VARIABLE, _FORMER_NAME):
        told = environment.get(name)
        if told is not None:
            return max(int(told), FREQUENCY) if str(told).isdigit() else None
    return None


def patience(frequency: float) -> timedelta:
    """Return how long a run may be silent before it counts as dead: three heartbeats missed, and a minute.

    Args:
        frequency: Seconds between two heartbeats.
    """
    return timedelta(seconds=_MISSED * max(frequency, FREQUENCY) + _MARGIN_SECONDS)


def _of_configuration(template: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return _mapping(_mapping(_mapping(template).get("job_configuration")).get("env"))


def _of_defaults(template: Mapping[str, Any] | None) -> Mapping[str, Any]:
    properties = _mapping(_mapping(_mapping(template).get("variables")).get("properties"))
    return _mapping(_mapping(properties.get("env")).get("default"))


def _of_variables(job_variables: Mapping[str, Any] | None) -> Mapping[str, Any]:
    told = _mapping(job_variables)
    dotted = {name.removeprefix("env."): value for name, value in told.items() if name.startswith("env.")}
    return {**dotted, **_mapping(told.get("env"))}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
