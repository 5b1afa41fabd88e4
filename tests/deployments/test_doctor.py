"""`deployments.doctor` against a Prefect server: what is missing is named, and nothing else is called broken."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    GlobalConcurrencyLimitCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Late, Running
from prefect.workers.process import ProcessWorker

from blocks import MediaStore, RunComfyCredentials
from deployments.automations import CRASHED, DEAD, dead, pending, reconcile_after_crash
from deployments.doctor.checks import prefect_checks
from runcomfy.doctor import CheckResult, Mark, run_checks
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tasks.runtime.heartbeats import ENVIRONMENT, patience
from tests.flows.conftest import account, media_store

__all__ = ["account", "media_store"]

pytestmark = pytest.mark.usefixtures("prefect_api")

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9/api"


@dataclass(frozen=True)
class SetUp:
    """A pool with a worker, two blocks, a limit, and deployments of this project, all with unique names."""

    client: PrefectClient
    name: str
    references: dict[str, Any]

    async def deploy(self, label: str, **given: Any) -> uuid.UUID:
        """Create a deployment with the project's tag."""
        flow_id = await self.client.create_flow_from_name(label)
        described = {
            "name": f"{label}-{self.name}",
            "entrypoint": f"flows/{label}.py:{label}",
            "tags": ["runcomfy"],
            "work_pool_name": self.name,
            "work_queue_name": "upkeep" if label == "reconcile" else None,
            "parameters": self.references,
            "schedules": [
                DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(minutes=10)), active=True)
            ],
        }
        return await self.client.create_deployment(flow_id, **described | given)

    async def beat(self) -> None:
        """Let a worker send a heartbeat and poll for work."""
        await self.client.send_worker_heartbeat(self.name, "worker", heartbeat_interval_seconds=30)
        await self.client.get_scheduled_flow_runs_for_work_pool(self.name)

    async def automate(self, reconcile: uuid.UUID, frequency: int = 30) -> list[uuid.UUID]:
        """Create the automations for a heartbeat frequency."""
        wanted = (dead(patience(frequency)), pending(), reconcile_after_crash(reconcile))
        return [await self.client.create_automation(each) for each in wanted]

    async def check(self, **changed: Any) -> list[CheckResult]:
        """Return the findings of `doctor` on the server."""
        named = {"credentials_block": self.name, "store_block": self.name, "pool": None}
        return await run_checks(prefect_checks(**named | changed))


def marked(findings: list[CheckResult], mark: Mark) -> set[str]:
    """Return the names of the checks with this mark, without the warning that a test server keeps leases in memory."""
    return {each.name for each in findings if each.mark is mark} - ({"leases"} if mark is Mark.WARNING else set())


def found(findings: list[CheckResult], name: str) -> str:
    (verdict,) = [finding.verdict for finding in findings if finding.name == name]
    if verdict.mark in (Mark.BROKEN, Mark.WARNING):
        assert verdict.advice, name
    return verdict.found


def advised(findings: list[CheckResult], name: str) -> str:
    (verdict,) = [finding.verdict for finding in findings if finding.name == name]
    return verdict.advice


@pytest.fixture
async def setup(account: RunComfyCredentials, media_store: MediaStore, prefix: str) -> AsyncIterator[SetUp]:
    account.concurrency_limit = prefix
    async with get_client() as client:
        references = {
            name: {"$ref": {"block_document_id": str(await block.asave(prefix, client=client))}}
            for name, block in (("credentials", account), ("store", media_store))
        }
        template = ProcessWorker.get_default_base_job_template()
        template["variables"]["properties"]["env"]["default"] = ENVIRONMENT
        await client.create_work_pool(WorkPoolCreate(name=prefix, type="process", base_job_template=template))
        await client.create_work_queue("upkeep", priority=1, work_pool_name=prefix)
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=prefix, limit=5))
        setup = SetUp(client, prefix, references)
        await setup.beat()
        yield setup
        for deployment in await client.read_deployments():
            if prefix in deployment.name:
                await client.delete_deployment(deployment.id)
        for automation in await client.read_automations():
            await client.delete_automation(automation.id)


async def test_a_complete_set_up_passes(setup: SetUp) -> None:
    """Pool, worker, blocks, limit, and a reconcile that runs by itself; found by its module, too."""
    modules = "prefect_runcomfy.flows"
    await setup.automate(await setup.deploy("reconcile", entrypoint=f"{modules}.reconcile.reconcile"))
    await setup.deploy("text_to_video", schedules=[], entrypoint=f"{modules}.text_to_video.text_to_video")

    findings = await setup.check()

    assert {finding.mark for finding in findings if finding.name != "leases"} == {Mark.OK}, findings
    assert "memory" in found(findings, "leases")  # it is a test server
    assert found(findings, "schedules") == "active: reconcile"
    assert found(findings, "deployments") == "2: reconcile, text_to_video"


async def test_an_unreachable_server_is_the_only_finding() -> None:
    """What only the server knows is not checked."""
    with temporary_settings({PREFECT_API_URL: NOWHERE}):
        findings = await run_checks(prefect_checks("a", "b", "c"))

    assert marked(findings, Mark.BROKEN) == {"server"}
    assert len(marked(findings, Mark.NOT_CHECKED)) == len(findings) - 1
    assert "Nothing listens" in found(findings, "server")


async def test_an_address_that_is_not_the_api_is_reported(sandbox: Sandbox) -> None:
    """Something answers, but it is not a Prefect server."""
    with temporary_settings({PREFECT_API_URL: f"{sandbox.url}/api"}):
        findings = await run_checks(prefect_checks(None, None, None))

    assert marked(findings, Mark.BROKEN) == {"server"}
    assert "not as Prefect's API does" in found(findings, "server")


async def test_a_missing_block_is_reported(setup: SetUp) -> None:
    """The requested one; the other exists."""
    await setup.deploy("reconcile")

    findings = await setup.check(store_block="no-such-block")

    assert (marked(findings, Mark.BROKEN), marked(findings, Mark.NOT_CHECKED)) == ({"store block"}, set())
    assert "media-store/no-such-block" in found(findings, "store block")


async def test_a_missing_work_pool_is_reported(setup: SetUp) -> None:
    """No worker is asked for."""
    await setup.deploy("reconcile")

    findings = await setup.check(pool="no-such-pool")

    assert (marked(findings, Mark.BROKEN), marked(findings, Mark.NOT_CHECKED)) == ({"work pool"}, {"worker", "upkeep"})


async def test_deployments_whose_pool_was_deleted_are_reported(setup: SetUp) -> None:
    """Nothing would ever run them."""
    await setup.deploy("reconcile")
    await setup.client.delete_work_pool(setup.name)

    findings = await setup.check()

    assert (marked(findings, Mark.BROKEN), marked(findings, Mark.NOT_CHECKED)) == ({"work pool"}, {"worker", "upkeep"})
    assert "reconcile" in found(findings, "work pool")


@pytest.mark.parametrize("kind", ["docker", "kubernetes", "ecs"])
async def test_a_work_pool_of_another_type_is_accepted(setup: SetUp, kind: str) -> None:
    """It is named, and its worker is Prefect's."""
    name = f"{setup.name}-{kind}"
    await setup.client.create_work_pool(WorkPoolCreate(name=name, type=kind))
    await setup.deploy("reconcile", work_pool_name=name)

    findings = await setup.check()

    assert marked(findings, Mark.BROKEN) == {"worker"}
    assert f"{name} of type {kind}" in found(findings, "work pool")
    assert f"prefect worker start --pool {name}" in advised(findings, "worker")

    await setup.client.send_worker_heartbeat(name, "worker", heartbeat_interval_seconds=30)
    await setup.client.get_scheduled_flow_runs_for_work_pool(name)
    assert marked(await setup.check(), Mark.BROKEN) == set()


@pytest.mark.parametrize("kind", ["ecs:push", "prefect:managed"])
async def test_a_push_or_managed_work_pool_needs_no_worker(setup: SetUp, kind: str) -> None:
    """Prefect starts its runs: nobody has to poll its queues."""
    name = f"{setup.name}-cloud"
    await setup.client.create_work_pool(WorkPoolCreate(name=name, type=kind))
    await setup.client.create_work_queue("upkeep", priority=1, work_pool_name=name)
    await setup.deploy("reconcile", work_pool_name=name)

    findings = await setup.check()

    assert marked(findings, Mark.BROKEN) == set()
    assert "needs none" in found(findings, "worker")


async def test_a_paused_work_pool_is_reported(setup: SetUp) -> None:
    """It starts nothing."""
    name = setup.name
    await setup.client.update_work_pool(name, WorkPoolUpdate(is_paused=True))
    await setup.deploy("reconcile", work_pool_name=name)

    findings = await setup.check()

    assert (marked(findings, Mark.BROKEN), marked(findings, Mark.NOT_CHECKED)) == ({"work pool"}, {"worker", "upkeep"})


async def test_a_pool_without_a_worker_is_reported(setup: SetUp) -> None:
    """Runs would wait indefinitely."""
    name = f"{setup.name}-idle"
    await setup.client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    await setup.deploy("reconcile", work_pool_name=name)

    findings = await setup.check()

    assert (marked(findings, Mark.BROKEN), marked(findings, Mark.NOT_CHECKED)) == ({"worker"}, {"upkeep"})
    assert name in found(findings, "worker")


async def test_a_secret_in_a_deployments_parameters_is_found_and_not_shown(setup: SetUp) -> None:
    """Everyone who can see the deployment can read it."""
    secret = "sk-live-93b1c0d2"
    await setup.deploy("reconcile", parameters=setup.references | {"credentials": {"api_token": secret}})

    findings = await setup.check()

    assert (marked(findings, Mark.BROKEN), marked(findings, Mark.NOT_CHECKED)) == ({"parameters"}, set())
    assert "reconcile: credentials.api_token" in found(findings, "parameters")
    assert secret not in repr(findings)


async def test_a_deployment_whose_block_was_deleted_is_reported(setup: SetUp) -> None:
    """Its reference leads nowhere."""
    gone = {"credentials": {"$ref": {"block_document_id": str(uuid.uuid4())}}}
    by_name = {"store": {"$ref": {"block_document_slug": "media-store/no-such-block"}}}
    await setup.deploy("reconcile", parameters=gone | by_name)

    findings = await setup.check()

    assert (marked(findings, Mark.BROKEN), marked(findings, Mark.NOT_CHECKED)) == ({"parameters"}, set())
    assert "reconcile: credentials; reconcile: store" in found(findings, "parameters")


async def test_a_missing_limit_of_the_account_is_reported(setup: SetUp) -> None:
    """No generation would start."""
    await setup.deploy("reconcile")
    await setup.client.delete_global_concurrency_limit_by_name(setup.name)

    findings = await setup.check()

    assert (marked(findings, Mark.BROKEN), marked(findings, Mark.NOT_CHECKED)) == ({"limit"}, set())
    assert setup.name in found(findings, "limit")


async def test_a_weakness_that_still_works_is_a_warning(setup: SetUp) -> None:
    """No reconcile on a schedule, and a run that is late."""
    deployment_id = await setup.deploy("reconcile", schedules=[])
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    await setup.client.create_flow_run_from_deployment(deployment_id, state=Late(scheduled_time=an_hour_ago))

    findings = await setup.check()

    assert marked(findings, Mark.BROKEN) == set()
    assert marked(findings, Mark.WARNING) == {"schedules", "late runs", "automations"}
    assert "an hour" in found(findings, "late runs")


async def test_a_server_without_deployments_is_accepted(setup: SetUp) -> None:
    """All runs may be started from the command line."""
    findings = await setup.check()

    assert marked(findings, Mark.BROKEN) == set()
    assert marked(findings, Mark.WARNING) == {"deployments"}
    assert marked(findings, Mark.NOT_CHECKED) == {
        "parameters", "schedules", "work pool", "worker", "late runs", "heartbeats", "automations", "upkeep", "slots",
    }  # fmt: skip


@pytest.fixture
def environment(prefect_api: str, sandbox: Sandbox, object_store: ObjectStore, prefix: str) -> Iterator[dict[str, str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_", "RUNCOMFY_"))}
    yield kept | {
        "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": object_store.endpoint_url,
        "RUNCOMFY_API_TOKEN": sandbox.token,
        "RUNCOMFY_BASE_URL": sandbox.url,
        "RUNCOMFY_OUTPUT_HOSTS": sandbox.host,
        "RUNCOMFY_BUCKET": f"s3://videos/{prefix}",
        "PREFECT_API_URL": "",
    }


def doctor(environment: dict[str, str], *options: str, code: int) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "deployments.doctor", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def test_a_healthy_set_up_says_so_in_its_last_line(environment: dict[str, str]) -> None:
    """Without a Prefect server, one line says that it was not checked."""
    lines = doctor(environment, code=0).stdout.splitlines()

    assert lines[-1].startswith("All is well: 20 ok, 1 not checked.")
    assert [line for line in lines[:-1] if not line.startswith("ok ")] == [
        "not checked  Prefect: server: PREFECT_API_URL is not set; runs use a temporary one"
    ]


def test_missing_settings_end_with_code_3_and_valid_json(environment: dict[str, str]) -> None:
    """No token, no bucket: one finding each; the rest is a consequence."""
    without = {name: value for name, value in environment.items() if "TOKEN" not in name and "BUCKET" not in name}

    said = json.loads(doctor(without, "--json", code=3).stdout)

    assert said["healthy"] is False
    broken = {finding["name"]: finding["advice"] for finding in said["findings"] if finding["mark"] == "broken"}
    assert broken.keys() == {"credentials", "store"}
    assert all(broken.values())


def test_blocks_are_read_from_the_server(
    prefect_api: str, environment: dict[str, str], account: RunComfyCredentials, media_store: MediaStore, prefix: str
) -> None:
    """If blocks are named, the environment does not count; a missing one is the only finding, and its area waits."""
    asyncio.run(_save(prefix, account, media_store))
    without = {name: value for name, value in environment.items() if not name.startswith(("RUNCOMFY_", "AWS_"))}
    without["PREFECT_API_URL"] = prefect_api

    said = json.loads(
        doctor(without, "--credentials-block", prefix, "--store-block", f"{prefix}-x", "--json", code=3).stdout
    )

    marks = {finding["name"]: finding["mark"] for finding in said["findings"]}
    assert [name for name, mark in marks.items() if mark == "broken"] == ["store block"]
    assert (marks["token"], marks["store"]) == ("ok", "not checked")


def test_blocks_without_a_server_are_refused(environment: dict[str, str]) -> None:
    """A temporary server has no blocks."""
    done = doctor(environment, "--store-block", "videos", code=3)

    assert "PREFECT_API_URL" in done.stderr


async def _save(name: str, *blocks: RunComfyCredentials | MediaStore) -> None:
    async with get_client() as client:
        for block in blocks:
            await block.asave(name, client=client)


async def test_a_timeout_that_is_too_short_for_the_heartbeats_is_broken(setup: SetUp) -> None:
    """With Prefect's default frequency, its runs would be marked as crashed after two and a half minutes."""
    await setup.automate(await setup.deploy("reconcile"))
    await setup.deploy("text_to_video", job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180"}})

    findings = await setup.check()

    assert marked(findings, Mark.BROKEN) == {"automations"}
    assert "waits for 150 s, and heartbeats come every 180 s" in found(findings, "automations")
    assert "text_to_video" in found(findings, "heartbeats") and "reconcile" not in found(findings, "heartbeats")


async def test_automations_that_are_missing_off_old_or_lost_are_reported(setup: SetUp) -> None:
    """Missing and off are warnings: neither does anything wrong."""
    reconcile = await setup.deploy("reconcile")

    assert "Missing: " in found(await setup.check(), "automations")

    made = await setup.automate(uuid.uuid4())
    findings = await setup.check()
    assert marked(findings, Mark.BROKEN) == {"automations"} and CRASHED in found(findings, "automations")

    await setup.client.update_automation(made[2], reconcile_after_crash(reconcile))
    assert "automations" not in marked(await setup.check(), Mark.BROKEN)

    old = dead(patience(30))
    assert old.trigger.type == "event"
    old.trigger.expect = {"prefect.flow-run.heartbeat", "prefect.flow-run.Completed"}
    await setup.client.update_automation(made[0], old)
    findings = await setup.check()
    assert "automations" in marked(findings, Mark.BROKEN) and "that rest" in found(findings, "automations")

    await setup.client.pause_automation(made[0])
    findings = await setup.check()
    assert "automations" in marked(findings, Mark.WARNING) and f"“{DEAD}”" in found(findings, "automations")


async def test_what_holds_up_reconcile_is_reported(setup: SetUp) -> None:
    """No priority, a limit full of dead runs, a paused queue, or one that nobody polls."""
    await setup.deploy("reconcile", work_queue_name="default")

    assert "waits behind generations" in found(await setup.check(), "upkeep")

    reconcile = await setup.deploy("reconcile")
    assert "upkeep" in marked(await setup.check(), Mark.OK)

    await setup.client.update_work_pool(setup.name, WorkPoolUpdate(concurrency_limit=1))
    findings = await setup.check()
    assert "upkeep" in marked(findings, Mark.WARNING) and "counts dead ones" in found(findings, "upkeep")

    zombie = await setup.client.create_flow_run_from_deployment(reconcile)
    await setup.client.set_flow_run_state(zombie.id, Running(), force=True)
    findings = await setup.check()
    assert "upkeep" in marked(findings, Mark.BROKEN) and "1 runs fill the limit" in found(findings, "upkeep")

    queue = await setup.client.read_work_queue_by_name("upkeep", work_pool_name=setup.name)
    await setup.client.update_work_queue(queue.id, is_paused=True)
    findings = await setup.check()
    assert "upkeep" in marked(findings, Mark.BROKEN) and "is paused" in found(findings, "upkeep")


async def test_a_queue_that_nobody_polls_is_broken(setup: SetUp) -> None:
    """A worker is online, but polls other queues only."""
    await setup.client.create_work_queue("alone", priority=1, work_pool_name=setup.name)
    await setup.deploy("reconcile", work_queue_name="alone")

    findings = await setup.check()

    assert marked(findings, Mark.BROKEN) == {"upkeep"} and "No worker polls" in found(findings, "upkeep")
