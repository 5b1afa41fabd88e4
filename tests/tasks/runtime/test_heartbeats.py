"""The heartbeat frequency of a run, as Prefect's own worker merges it, and how long a silence may be then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.settings import get_current_settings
from prefect.workers.base import BaseJobConfiguration
from prefect.workers.process import ProcessWorker

from tasks.runtime.heartbeats import ENVIRONMENT, FREQUENCY, VARIABLE, default_frequency, frequency_given, patience

FORMER = "PREFECT_RUNNER_HEARTBEAT_FREQUENCY"


def template(default: Any, configuration: Any = "{{ env }}") -> dict[str, Any]:
    made = ProcessWorker.get_default_base_job_template()
    made["variables"]["properties"]["env"]["default"] = default
    made["job_configuration"]["env"] = configuration
    return made


def environments() -> st.SearchStrategy[dict[str, str | None]]:
    values = st.sampled_from(("30", "45", "180", "900", None))
    return st.dictionaries(st.sampled_from((VARIABLE, "HTTPS_PROXY")), values, max_size=2)


@given(default=environments(), configuration=environments() | st.just("{{ env }}"), deployment=environments())
@pytest.mark.parametrize("dotted", [False, True])
async def test_the_frequency_is_the_one_that_a_worker_sets(
    prefect_api: str, default: dict[str, Any], configuration: Any, deployment: dict[str, Any], dotted: bool
) -> None:
    """Merged by Prefect's own code, from the pool's template and the deployment's job variables."""
    variables: dict[str, Any] = {f"env.{k}": v for k, v in deployment.items()} if dotted else {"env": deployment}
    made = template(default, configuration)

    merged = await BaseJobConfiguration.from_template_and_values(made, variables)

    given_to_run = merged.env.get(VARIABLE)
    assert frequency_given(variables, made) == (None if given_to_run is None else int(given_to_run))


@pytest.mark.parametrize(
    ("pool", "deployment", "seconds"),
    [
        (ENVIRONMENT, None, FREQUENCY),
        ({}, {"env": ENVIRONMENT}, FREQUENCY),
        ({}, {}, None),
        (None, None, None),
        (ENVIRONMENT, {"env": {VARIABLE: "90"}}, 90),
        (ENVIRONMENT, {"env": {VARIABLE: None}}, None),
        ({}, {"env": {VARIABLE: 60}}, 60),
        ({}, {"env": {VARIABLE: "5"}}, 30),  # Prefect's engine still waits for 30
        ({}, {"env": {VARIABLE: "soon"}}, None),
        ({FORMER: "60"}, {}, 60),
        ({FORMER: "60"}, {"env": ENVIRONMENT}, FREQUENCY),
    ],
)
def test_the_deployment_counts_before_its_pool(pool: Any, deployment: Any, seconds: int | None) -> None:
    """Without a value, or with one that is no number, it is unknown."""
    assert frequency_given(deployment, template(pool)) == seconds


def test_the_default_is_prefects() -> None:
    """That of the installed version, whatever this process is set to."""
    assert default_frequency() == type(get_current_settings().flows)().heartbeat_frequency


@given(st.integers(min_value=1, max_value=3600))
def test_more_than_three_heartbeats_may_be_missed(frequency: int) -> None:
    """Four of them, and half a minute, at 30 seconds."""
    assert patience(frequency) > timedelta(seconds=3 * frequency)
    assert patience(FREQUENCY) == timedelta(seconds=4 * FREQUENCY + 30)
