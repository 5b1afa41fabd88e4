"""`python -m deployments.setup` on a real Prefect server: created once, nothing changed unasked, no secret shown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from prefect import get_client
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, Running
from prefect.workers.process import ProcessWorker

from blocks import MediaStore, RunComfyCredentials
from deployments.automations import CRASHED, DEAD, PENDING
from deployments.setup.__main__ import main
from tasks.runtime.heartbeats import frequency_given
from tasks.runtime.naming import function_name
from tests.deployments.conftest import ROOT, PrefectServer

pytestmark = pytest.mark.slow

TOKEN = "tok-5b1e77aa90"
SECRET = "sec-9d41c02f"


@dataclass(frozen=True)
class Command:
    """The command with names of this test's own, in an environment that has the server's address and nothing else."""

    server: PrefectServer
    name: str
    capture: pytest.CaptureFixture[str]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in self.server.environment.items() if not name.startswith("RUNCOMFY_")}
        return kept | {"RUNCOMFY_WORK_POOL": self.name}

    @property
    def words(self) -> list[str]:
        return ["--credentials-block", self.name, "--store-block", self.name, "--limit", self.name]

    def run(self, *options: str, code: int = 0, **given: str) -> str:
        """Run it to its end and return its output, which must never contain a secret."""
        self.capture.readouterr()
        url = given.pop("PREFECT_API_URL", self.server.api_url)
        with (
            mock.patch.dict(os.environ, self.environment | given, clear=True),
            temporary_settings({PREFECT_API_URL: url}),
            ThreadPoolExecutor(1) as pool,  # the command has an event loop of its own
        ):
            ended = pool.submit(copy_context().run, main, [*self.words, *options]).result(120)
        said = "".join(self.capture.readouterr())
        assert ended == code, said
        assert TOKEN not in said and SECRET not in said
        return said

    def full(self, *options: str, **given: str) -> str:
        """Run it with an account and a bucket."""
        given = {"RUNCOMFY_API_TOKEN": TOKEN, "RUNCOMFY_BUCKET": "s3://videos/marketing"} | given
        return self.run("--no-prompt", *options, code=0, **given)


async def stored(kind: type[Block], name: str, client: PrefectClient) -> Any:
    """Return a block as it is stored."""
    return await kind.aload(name, client=client)


def outcomes(said: str) -> list[str]:
    """Return the first word of each line of the table."""
    return [line.split()[0] for line in said.partition("\n\n")[0].splitlines()]


@pytest.fixture
def command(prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(prefect_server, f"setup-{uuid.uuid4().hex[:8]}", capsys)


@pytest.fixture
async def client(prefect_server: PrefectServer) -> AsyncIterator[PrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        async with get_client() as client:
            yield client


@pytest.fixture(autouse=True)
async def nothing_deployed(client: PrefectClient) -> None:
    """Delete the deployments of other tests: a check covers everything on the server."""
    while deployments := await client.read_deployments():  # a page of them
        for deployment in deployments:
            await client.delete_deployment(deployment.id)


async def test_everything_is_created_once(command: Command, client: PrefectClient) -> None:
    """The second time, each line says `unchanged`."""
    first, second = command.full(), command.full()

    made = outcomes(first)
    assert len(made) == 7 and set(made) <= {"created", "unchanged"}
    assert set(outcomes(second)) == {"unchanged"}
    assert f"deployments.setup --automations {' '.join(command.words)}\n" in first
    pool = await client.read_work_pool(command.name)
    assert (pool.type, pool.concurrency_limit) == ("process", None)
    assert frequency_given(None, pool.base_job_template) == 30
    queues = await client.read_work_queues(work_pool_name=command.name)
    assert {queue.name: queue.priority for queue in queues} == {"upkeep": 1, "default": 2}
    assert (await client.read_global_concurrency_limit_by_name(command.name)).limit == 5
    account = await stored(RunComfyCredentials, command.name, client)
    store = await stored(MediaStore, command.name, client)
    assert (account.api_token.get_secret_value(), account.concurrency_limit) == (TOKEN, command.name)
    assert (store.bucket, store.prefix, store.credentials) == ("videos", "marketing", None)


async def test_a_difference_is_shown_and_kept_without_update(command: Command, client: PrefectClient) -> None:
    """The old value and the new one; of a secret, only that it differs."""
    command.full()
    changed: dict[str, str] = {"RUNCOMFY_BUCKET": "s3://films/marketing", "RUNCOMFY_API_TOKEN": f"{TOKEN}-2"}

    said = command.full("--generations", "9", "--pool-limit", "3", **changed)

    assert sorted(outcomes(said)) == ["differs"] * 4 + ["unchanged"] * 3
    assert "bucket: videos → films" in said and "at once: 5 → 9" in said and "runs at once: any number → 3" in said
    assert "api_token: (secret) → (secret)" in said and "prefix" not in said
    assert (await stored(MediaStore, command.name, client)).bucket == "videos"

    said = command.full("--generations", "9", "--pool-limit", "3", "--update", **changed)

    assert sorted(outcomes(said)) == ["unchanged"] * 3 + ["updated"] * 4
    assert (await stored(MediaStore, command.name, client)).bucket == "films"
    account = await stored(RunComfyCredentials, command.name, client)
    assert account.api_token.get_secret_value() == f"{TOKEN}-2"
    assert (await client.read_work_pool(command.name)).concurrency_limit == 3


async def test_the_rules_of_a_bucket_are_stored(command: Command, client: PrefectClient) -> None:
    """As the options of `prefect-runcomfy` and its variables say them; what contradicts itself is refused."""
    key = "arn:aws:kms:eu-central-1:123456789012:key/1b2c"
    refused = command.run(
        "--no-prompt", "--kms-key-id", key, "--encryption", "AES256", code=3,
        RUNCOMFY_API_TOKEN=TOKEN, RUNCOMFY_BUCKET="videos",
    )  # fmt: skip
    assert "KMS" in refused

    command.full("--kms-key-id", key, "--requester-pays", RUNCOMFY_BUCKET_OWNER="123456789012",
                 RUNCOMFY_BUCKET_ACL="bucket-owner-full-control")  # fmt: skip

    store = await stored(MediaStore, command.name, client)
    assert (store.kms_key_id, store.requester_pays, store.expected_bucket_owner, store.acl) == (
        key, True, "123456789012", "bucket-owner-full-control",
    )  # fmt: skip


async def test_a_setting_that_is_not_given_stays(command: Command, client: PrefectClient) -> None:
    """A block that somebody filled in on its page needs no token here."""
    command.full(RUNCOMFY_BASE_URL="http://127.0.0.1:8188", RUNCOMFY_OUTPUT_HOSTS="127.0.0.1:8188")

    said = command.run("--no-prompt", "--public-endpoint-url", "https://s3.example.com", "--update")

    assert sorted(outcomes(said)) == ["unchanged"] * 6 + ["updated"]
    store = await stored(MediaStore, command.name, client)
    assert (store.bucket, store.public_endpoint_url) == ("videos", "https://s3.example.com")
    account = await stored(RunComfyCredentials, command.name, client)
    assert (account.base_url, account.output_hosts) == ("http://127.0.0.1:8188", ["127.0.0.1:8188"])


async def test_keys_are_stored_only_if_meant_for_the_workers(command: Command, client: PrefectClient) -> None:
    """The keys of the person who runs setup are not handed out."""
    mine = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": SECRET}

    command.full(**mine)

    assert (await stored(MediaStore, command.name, client)).credentials is None
    meant = {"RUNCOMFY_STORE_ACCESS_KEY_ID": "theirs", "RUNCOMFY_STORE_SECRET_ACCESS_KEY": SECRET}

    said = command.full("--update", **mine, **meant)

    assert "credentials: (none) → (secret)" in said
    keys = (await stored(MediaStore, command.name, client)).credentials
    assert keys is not None and keys.model_dump()["aws_access_key_id"] == "theirs"
    assert set(outcomes(command.full(**meant))) == {"unchanged"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"RUNCOMFY_BUCKET": "s3://videos"}, "RUNCOMFY_API_TOKEN"),
        ({"RUNCOMFY_API_TOKEN": TOKEN}, "RUNCOMFY_BUCKET"),
        ({"RUNCOMFY_API_TOKEN": TOKEN, "RUNCOMFY_BUCKET": "s3://videos", "RUNCOMFY_BASE_URL": "http://x.com"}, "https"),
        ({"RUNCOMFY_API_TOKEN": TOKEN, "RUNCOMFY_BUCKET": "s3://v", "RUNCOMFY_JOURNAL": "nowhere"}, "journal"),
        (
            {"RUNCOMFY_API_TOKEN": TOKEN, "RUNCOMFY_BUCKET": "s3://videos", "RUNCOMFY_JOURNAL": "/srv/j"},
            "aws s3 cp /srv/j",
        ),
        (
            {"RUNCOMFY_API_TOKEN": TOKEN, "RUNCOMFY_BUCKET": "videos", "RUNCOMFY_STORE_ACCESS_KEY_ID": "k"},
            "RUNCOMFY_STORE_SECRET_ACCESS_KEY",
        ),
    ],
)
async def test_a_missing_or_wrong_setting_is_reported_before_anything_is_created(
    command: Command, client: PrefectClient, given: dict[str, str], words: str
) -> None:
    """By the name of what to set; the work pool would be the first to be created."""
    assert words in command.run("--no-prompt", code=3, **given)

    with pytest.raises(ObjectNotFound):
        await client.read_work_pool(command.name)


async def test_a_pool_of_another_type_is_used_and_its_heartbeats_are_set(
    command: Command, client: PrefectClient
) -> None:
    """Docker, Kubernetes or any other: its template has its runs' environment, too."""
    variables = {"properties": {"env": {"type": "object", "default": {"MINE": "1"}}}}
    template = {"variables": variables, "job_configuration": {"env": "{{ env }}"}}
    await client.create_work_pool(WorkPoolCreate(name=command.name, type="docker", base_job_template=template))

    command.full("--update")

    pool = await client.read_work_pool(command.name)
    assert (pool.type, frequency_given(None, pool.base_job_template)) == ("docker", 30)
    assert pool.base_job_template["variables"]["properties"]["env"]["default"]["MINE"] == "1"
    assert "type docker" in command.full()


def test_an_unreachable_server_is_reported(command: Command) -> None:
    """With its address and the variable that sets it."""
    given = {"RUNCOMFY_API_TOKEN": TOKEN, "RUNCOMFY_BUCKET": "videos"}

    assert "Nothing listens at 127.0.0.1:9" in command.run(
        "--no-prompt", code=3, **given, PREFECT_API_URL="http://127.0.0.1:9/api"
    )
    assert "set PREFECT_API_URL" in command.run("--no-prompt", code=3, **given, PREFECT_API_URL="")


async def test_in_a_terminal_it_prompts(command: Command, client: PrefectClient) -> None:
    """For the token, without echo, and for the bucket."""
    ended, seen = in_terminal(command, {b"API token of RunComfy": TOKEN, b"s3://bucket/prefix": "s3://videos/asked"})

    assert ended == 0, seen
    assert TOKEN.encode() not in seen
    assert (await stored(MediaStore, command.name, client)).prefix == "asked"
    assert (await stored(RunComfyCredentials, command.name, client)).api_token.get_secret_value() == TOKEN


def in_terminal(command: Command, answers: dict[bytes, str]) -> tuple[int, bytes]:
    """Run the command in a terminal, answer its prompts, and return its exit code and all that it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.setup", *command.words], cwd=ROOT, env=command.environment,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while piece := os.read(ours, 4096):
            seen += piece
            for question in [question for question in answers if question in seen]:
                time.sleep(0.2)  # getpass discards what was typed before the prompt
                os.write(ours, f"{answers.pop(question)}\n".encode())
    os.close(ours)
    return process.wait(300), seen


async def test_the_automations_are_created_once_and_collect_after_a_crash(
    command: Command, client: PrefectClient
) -> None:
    """Without a deployment of reconcile, the automation that runs it is left out; with it, a crash starts it."""
    assert outcomes(command.full("--automations")).count("skipped") <= 1
    flow_id = await client.create_flow_from_name("reconcile")
    reconcile = await client.create_deployment(
        flow_id, command.name, entrypoint="prefect_runcomfy.flows.reconcile.reconcile", tags=["runcomfy"]
    )

    command.full("--automations", "--update")

    said = command.full("--automations")
    assert set(outcomes(said)) == {"unchanged"} and "deployments.setup --automations" not in said
    deployment: Any = await client.create_deployment(
        await client.create_flow_from_name("text-to-video"), command.name, tags=["runcomfy"]
    )
    # other tests have deployments here, too; the runs of their schedules are not meant
    deployed = [each for each in await client.read_deployments() if function_name(each.entrypoint) == "reconcile"]
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[each.id for each in deployed]))
    before = {found.id for found in await client.read_flow_runs(flow_run_filter=wanted)}

    async def started_within(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = await client.read_flow_runs(flow_run_filter=wanted)
            if any(not each.auto_scheduled and each.id not in before for each in found):
                return True
            await asyncio.sleep(0.5)
        return False

    for _ in range(6):  # a server on SQLite loses an event now and then while it is busy
        run = await client.create_flow_run_from_deployment(deployment)
        await client.set_flow_run_state(run.id, Running())
        await client.set_flow_run_state(run.id, Crashed(message="The machine died."))
        if await started_within(40):
            break
    else:
        raise AssertionError("six crashes did not start reconcile")
    await client.delete_deployment(reconcile)


async def test_a_pool_of_an_earlier_version_is_updated(command: Command, client: PrefectClient) -> None:
    """Its runs send heartbeats as often as this version expects; everything else in its template stays."""
    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["env"]["default"] = {"HTTPS_PROXY": "http://proxy:3128"}
    await client.create_work_pool(
        WorkPoolCreate(name=command.name, type="process", base_job_template=template, concurrency_limit=10)
    )
    await client.create_work_queue("upkeep", priority=5, work_pool_name=command.name)

    said = command.run("--no-prompt", "--only-pool")

    assert outcomes(said) == ["differs", "differs"]
    assert "a heartbeat every 180 s → 30 s" in said and "priority: 5 → 1" in said

    assert outcomes(command.run("--no-prompt", "--only-pool", "--update")) == ["updated", "updated"]
    pool = await client.read_work_pool(command.name)
    assert pool.base_job_template["variables"]["properties"]["env"]["default"] == {
        "HTTPS_PROXY": "http://proxy:3128",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    assert pool.concurrency_limit == 10
    assert outcomes(command.run("--no-prompt", "--only-pool")) == ["unchanged", "unchanged"]


async def test_the_automations_of_earlier_versions_are_replaced(command: Command, client: PrefectClient) -> None:
    """Found by their earlier names; one that existed twice exists once; one that is off stays off."""
    await delete_automations(client)
    ours = ResourceSpecification({"prefect.resource.id": "prefect.tag.runcomfy", "prefect.resource.role": "tag"})
    runs = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
    reconcile = await client.create_deployment(
        await client.create_flow_from_name("reconcile"),
        command.name, entrypoint="flows/reconcile.py:reconcile", tags=["runcomfy"],
    )  # fmt: skip
    old = AutomationCore(
        name=DEAD,
        enabled=False,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"}, expect={"prefect.flow-run.heartbeat", "prefect.flow-run.Completed"},
            match=runs, match_related=ours, for_each={"prefect.resource.id"}, posture=Posture.Proactive,
            within=timedelta(seconds=120),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="No sign of life for two minutes.")],
    )  # fmt: skip
    collect = AutomationCore(
        name="runcomfy: collect what a crashed run has paid for",
        trigger=EventTrigger(expect={"prefect.flow-run.Crashed"}, match=runs, match_related=ours),
        actions=[RunDeployment(source="selected", deployment_id=reconcile)],
    )
    made = [await client.create_automation(each) for each in (old, old, collect)]

    said = command.full("--automations")

    assert said.count("differs") >= 2 and "within: 120 s → " in said and "switched off" in said
    assert {each.id for each in await client.read_automations()} >= set(made)

    command.full("--automations", "--update")

    left = {each.name: each for each in await client.read_automations() if each.name.startswith("runcomfy: ")}
    assert len([each for each in await client.read_automations() if each.name == DEAD]) == 1
    assert left.keys() == {DEAD, PENDING, CRASHED}
    assert left[CRASHED].id == made[2] and not left[DEAD].enabled and left[PENDING].enabled
    assert "differs" not in command.full("--automations")
    await client.delete_deployment(reconcile)
    await delete_automations(client)


async def test_a_deployment_with_slow_heartbeats_lengthens_the_timeouts(
    command: Command, client: PrefectClient
) -> None:
    """More than three of its heartbeats, whatever the pool sets."""
    await delete_automations(client)
    slow = await client.create_deployment(
        await client.create_flow_from_name("text-to-video"), command.name, tags=["runcomfy"]
    )

    command.full("--automations")

    (dead,) = await client.read_automations_by_name(DEAD)
    assert dead.trigger.type == "event" and dead.trigger.within == timedelta(seconds=600)
    await client.delete_deployment(slow)
    await delete_automations(client)


async def delete_automations(client: PrefectClient) -> None:
    for each in await client.read_automations():
        if each.name.startswith("runcomfy: "):
            await client.delete_automation(each.id)


async def test_check_changes_nothing_and_says_what_is_broken(command: Command, client: PrefectClient) -> None:
    """With doctor's exit code."""
    said = command.run("--no-prompt", "--check", code=3)

    assert f"There is no work pool {command.name}" in said
    with pytest.raises(ObjectNotFound):
        await client.read_work_pool(command.name)

    command.full()

    said = command.run("--no-prompt", "--check", code=3)
    assert f"No worker is online for {command.name}" in said and "leases: In the server's memory" in said
    await client.send_worker_heartbeat(command.name, "worker", heartbeat_interval_seconds=30)
    command.run("--no-prompt", "--check", code=0)

    said = command.run("--no-prompt", "--check", "--generations", "9", RUNCOMFY_BUCKET="s3://films", code=3)
    assert "at once: 5 → 9" in said and "bucket: videos → films" in said
    assert (await stored(MediaStore, command.name, client)).bucket == "videos"

    await delete_automations(client)
    assert "missing   automation" in command.run("--no-prompt", "--check", "--automations", code=3)
    assert await client.read_automations_by_name(DEAD) == []
