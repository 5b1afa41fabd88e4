"""What is deployed: every flow, usable by anyone who finds it in Prefect's UI, and no secret."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events import DeploymentTriggerTypes
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr, TypeAdapter
from ruamel.yaml import YAML

from blocks import RunComfyCredentials
from deployments.steps import read_environment, refer_to_blocks
from tests.deployments.conftest import ROOT, PrefectServer
from tests.deployments.test_running import registered

TOLD: dict[str, Any] = YAML(typ="safe").load(ROOT / "deployments" / "prefect.yaml")
DEPLOYMENTS: list[dict[str, Any]] = TOLD["deployments"]
each = pytest.mark.parametrize("told", DEPLOYMENTS, ids=[told["name"] for told in DEPLOYMENTS])


def flow_of(told: dict[str, Any]) -> Flow[..., Any]:
    return load_flow_from_entrypoint(str(ROOT / told["entrypoint"]))


def required(flow: Flow[..., Any]) -> set[str]:
    return set(flow.parameters.required)


def test_every_flow_is_deployed() -> None:
    """A flow in `flows/` that no deployment runs has been forgotten."""
    modules = [importlib.import_module(f"flows.{path.stem}") for path in Path(ROOT / "flows").glob("[!_]*.py")]
    flows = {found.name for module in modules for found in vars(module).values() if isinstance(found, Flow)}

    assert {flow_of(told).name for told in DEPLOYMENTS} == flows


@each
def test_a_deployment_has_a_name_a_description_and_the_tag(told: dict[str, Any]) -> None:
    """It is named like its flow, its description begins in bold with what it does, and the tag finds all of them."""
    assert told["name"] == flow_of(told).name
    assert told["description"].startswith("**")
    assert "runcomfy" in told["tags"]


@each
def test_the_form_asks_for_what_only_a_person_knows(told: dict[str, Any]) -> None:
    """The blocks are preselected, every default belongs to a parameter, and every parameter is described."""
    flow = flow_of(told)
    described = {name: field.get("description") for name, field in flow.parameters.properties.items()}

    assert told["parameters"].keys() <= described.keys()
    assert described.keys() & {"credentials", "store"} <= told["parameters"].keys()
    assert [name for name, description in described.items() if not description] == []


@each
def test_a_schedule_or_trigger_gives_every_parameter(told: dict[str, Any]) -> None:
    """It fills in what the deployment leaves open, since there is nobody to ask."""
    flow, schedules, triggers = flow_of(told), told.get("schedules", []), told.get("triggers", [])

    for starting in (*schedules, *triggers):
        given = told["parameters"].keys() | starting.get("parameters", {}).keys()
        assert required(flow) <= given <= flow.parameters.properties.keys()


@each
def test_prefect_accepts_schedules_limits_and_triggers(told: dict[str, Any]) -> None:
    """A schedule has a name and a time zone, so that the next deployment keeps it."""
    for schedule in told.get("schedules", []):
        when = {"timezone": schedule["timezone"]}
        if "cron" in schedule:
            CronSchedule(cron=schedule["cron"], **when)
        else:
            IntervalSchedule(interval=schedule["interval"], **when)
        assert schedule["slug"]
    for trigger in told.get("triggers", []):
        assert TypeAdapter[Any](DeploymentTriggerTypes).validate_python(trigger).name.startswith("runcomfy ")
    if "concurrency_limit" in told:
        ConcurrencyLimitConfig.model_validate(told["concurrency_limit"])


def test_no_block_is_copied_into_a_deployment() -> None:
    """`prefect deploy` replaces such a reference by the block's content, in clear text."""
    text = json.dumps(TOLD)

    assert "prefect.blocks" not in text
    assert "block_document_id" not in text


async def test_a_block_is_referred_to_by_its_id_once_it_exists(prefect_api: str, prefix: str) -> None:
    """Until then by its name, which is resolved when a run starts; the form shows only the id."""
    slug = f"runcomfy-credentials/{prefix}"
    before = await refer_to_blocks(account=slug)

    made = await RunComfyCredentials(api_token=SecretStr("secret-token")).save(prefix)

    assert before == {"account": {"$ref": {"block_document_slug": slug}}}
    assert await refer_to_blocks(account=slug) == {"account": {"$ref": {"block_document_id": str(made)}}}


def test_a_schedule_is_on_if_the_environment_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its first variable, a schedule stays off, and nothing is filled in."""
    monkeypatch.delenv("RUNCOMFY_INBOX", raising=False)
    monkeypatch.delenv("RUNCOMFY_INBOX_QUEUE", raising=False)
    names = {"source": "RUNCOMFY_INBOX", "queue_url": "RUNCOMFY_INBOX_QUEUE"}

    assert read_environment(**names) == {"source": "", "queue_url": "", "given": False}
    monkeypatch.setenv("RUNCOMFY_INBOX", "s3://images/in")
    assert read_environment(**names) == {"source": "s3://images/in", "queue_url": "", "given": True}


def facts(deployment: DeploymentResponse) -> dict[str, Any]:
    """What defines a deployment, whichever way it was created."""
    limit = deployment.global_concurrency_limit
    return {
        "description": (deployment.description or "").strip(),
        "tags": deployment.tags,
        "parameters": deployment.parameters,
        "enforced": deployment.enforce_parameter_schema,
        "limit": limit.limit if limit else None,
        "options": deployment.concurrency_options,
        "schedules": [
            (found.slug, found.active, found.parameters, found.schedule.model_dump(exclude={"anchor_date"}))
            for found in deployment.schedules
        ],
    }


@pytest.mark.slow
async def test_serve_serves_what_prefect_yaml_deploys(prefect_server: PrefectServer) -> None:
    """The same descriptions, defaults, schedules and limits, and an automation for the same events."""
    prefect_server.deploy()
    with prefect_server.running("deployments.serve"), temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        async with get_client() as client:
            names = [told["name"] for told in DEPLOYMENTS]
            served = {name: facts(await registered(client, f"{name}/served")) for name in names}
            deployed = {name: facts(await registered(client, f"{name}/{name}")) for name in names}
            triggers = Counter(trigger["name"] for told in DEPLOYMENTS for trigger in told.get("triggers", []))
            listening: Counter[str] = Counter()
            deadline = time.monotonic() + 300
            while not triggers + triggers <= listening and time.monotonic() < deadline:  # made after the deployments
                await asyncio.sleep(0.3)
                listening = Counter(automation.name for automation in await client.read_automations())

    assert served == deployed
    assert {name: listening[name] for name in triggers} == triggers + triggers
