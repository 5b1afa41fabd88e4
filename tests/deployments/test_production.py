"""The whole set-up: PostgreSQL, Redis, a server of two processes, two workers, and everything that starts runs.

S3 and SQS are moto's, RunComfy is the sandbox; the rest is what `deployments/production` starts.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr
from ruamel.yaml import YAML

from blocks import MediaStore, RunComfyCredentials
from runcomfy.sandbox import Sandbox, SandboxSettings
from tests.deployments.stack import ROOT, Stack, dump, running_stack
from tests.runcomfy.inbox.cloud import Cloud, running_cloud

pytestmark = pytest.mark.slow

TOKEN = "sandbox-production-8c1e"
PICTURE = ROOT / "deployments" / "demo.jpg"
Found = TypeVar("Found")


@dataclass(frozen=True)
class Production:
    """The running set-up, and how it was before there was a block."""

    stack: Stack
    client: SyncPrefectClient
    cloud: Cloud
    sandbox: Sandbox
    bucket: str
    arrivals: str
    parameters_before: Mapping[str, Mapping[str, Any]]

    def runs(self, deployment: str) -> list[FlowRun]:
        """Return a deployment's runs that are completed."""
        named = DeploymentFilter(name=DeploymentFilterName(any_=[deployment]))
        found = self.client.read_flow_runs(flow_run_filter=FlowRunFilter(), deployment_filter=named)
        return [run for run in found if run.state is not None and run.state.type is StateType.COMPLETED]

    def videos(self) -> list[str]:
        """Return the URIs of all videos in the archive."""
        listed = self.cloud.s3.list_objects_v2(Bucket=self.bucket, Prefix="archive/wan-ai/").get("Contents", [])
        return [f"s3://{self.bucket}/{entry['Key']}" for entry in listed if entry["Key"].endswith(".mp4")]


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    settings = SandboxSettings(token=TOKEN, run_seconds=0.2, tiny_videos=True)
    with running_stack(workers=2) as stack, running_cloud() as cloud, Sandbox(settings) as sandbox:
        here = {
            PREFECT_API_URL: stack.api_url,
            PREFECT_API_AUTH_STRING: SecretStr(stack.environment("worker1")["PREFECT_API_AUTH_STRING"]),
        }
        with temporary_settings(here), get_client(sync_client=True) as client:
            before = {found.name: dict(found.parameters) for found in client.read_deployments()}
            bucket, arrivals, queue = cloud.bucket(), cloud.bucket(), cloud.queue()
            cloud.notify(arrivals, queue)
            asyncio.run(_save_blocks(sandbox, cloud, bucket))
            stack.run("deploy", RUNCOMFY_INBOX=f"s3://{arrivals}/incoming", RUNCOMFY_INBOX_QUEUE=queue)
            yield Production(stack, client, cloud, sandbox, bucket, arrivals, before)


async def _save_blocks(sandbox: Sandbox, cloud: Cloud, bucket: str) -> None:
    keys = AwsCredentials(
        aws_access_key_id=cloud.access_key,
        aws_secret_access_key=SecretStr(cloud.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=cloud.endpoint_url),
    )
    account = RunComfyCredentials(api_token=SecretStr(sandbox.token), base_url=sandbox.url, output_hosts=[sandbox.host])
    await account.save("runcomfy")
    await MediaStore(bucket=bucket, prefix="archive", credentials=keys).save("videos")


def until(look: Callable[[], Found], what: str, seconds: float = 900) -> Found:
    """Poll until something is found, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.5)
    return found


def documented(language: str, containing: str) -> str:
    """Return the code block of docs/deployments.md that contains a text."""
    page = (ROOT / "docs" / "deployments.md").read_text(encoding="utf-8")
    (found,) = (code for code in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if containing in code)
    return str(found)


def test_everything_can_be_deployed_before_there_are_blocks(production: Production) -> None:
    """All deployments of prefect.yaml exist; blocks are referred to by name first, by id once they exist."""
    told = YAML(typ="safe").load(ROOT / "deployments" / "prefect.yaml")["deployments"]
    now = {found.name: found.parameters for found in production.client.read_deployments()}

    assert {deployment["name"] for deployment in told} <= now.keys()
    assert production.parameters_before["image-to-video"] == {
        "credentials": {"$ref": {"block_document_slug": "runcomfy-credentials/runcomfy"}},
        "store": {"$ref": {"block_document_slug": "media-store/videos"}},
    }
    for name in ("credentials", "store"):
        assert list(now["image-to-video"][name]["$ref"]) == ["block_document_id"]


def test_a_schedule_fires(production: Production) -> None:
    """The server's own process for schedules makes runs, and a worker runs them."""
    reconcile = production.client.read_deployment_by_name("reconcile/reconcile")
    half_minutely = DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=timedelta(seconds=30), timezone="UTC"), active=True
    )
    (schedule,) = production.client.create_deployment_schedules(reconcile.id, [half_minutely])

    until(lambda: any(run.auto_scheduled for run in production.runs("reconcile")), "a scheduled run of reconcile")

    production.client.delete_deployment_schedule(reconcile.id, schedule.id)


def test_an_arriving_image_becomes_a_video(production: Production) -> None:
    """The bucket notifies the queue, the schedule starts the inbox, and the video is in the archive."""
    paid = production.sandbox.books().submissions_accepted
    text = "Fog rolls in"

    production.cloud.s3.upload_file(
        str(PICTURE), production.arrivals, "incoming/lake.jpg", ExtraArgs={"Metadata": {"prompt": text}}
    )

    until(production.videos, "the video")
    assert production.sandbox.books().submissions_accepted == paid + 1


def test_an_event_makes_a_video_and_the_video_emits_an_event(production: Production, tmp_path: Path) -> None:
    """As in docs/deployments.md: an event starts image-to-video, and the archived video starts another flow."""
    (tmp_path / "publish.py").write_text(documented("python", "def publish"), encoding="utf-8")
    (tmp_path / "prefect.yaml").write_text(documented("yaml", "publish.py:publish"), encoding="utf-8")
    production.stack.run("deploy", cwd=tmp_path, command=["prefect", "--no-prompt", "deploy", "--all"])
    production.cloud.s3.upload_file(str(PICTURE), production.bucket, "pictures/boat.jpg")
    emitting = documented("python", "media.picture.ready")
    program = emitting.replace("s3://my-bucket/boat.jpg", f"s3://{production.bucket}/pictures/boat.jpg")
    before = set(production.videos())

    production.stack.run("deploy", command=[sys.executable, "-c", program])

    (made,) = until(lambda: set(production.videos()) - before, "the video that the event asked for")
    published = until(
        lambda: [run for run in production.runs("publish") if run.parameters["uri"] == made],
        "the flow that starts on an archived video",
    )
    assert len(published) == 1
    assert published[0].parameters["request_id"] in made


def test_a_run_survives_a_restart_of_the_server(production: Production) -> None:
    """While it waits for its video, the API and the services restart: it ends with the video, paid for once."""
    client, sandbox = production.client, production.sandbox
    paid, before = sandbox.books().submissions_accepted, set(production.videos())
    sandbox.hold()
    text_to_video = client.read_deployment_by_name("text-to-video/text-to-video")
    run = client.create_flow_run_from_deployment(text_to_video.id, parameters={"prompt": "The server goes away"})
    until(lambda: sandbox.books().submissions_accepted > paid, "the submission")

    for name in ("services", "server"):
        production.stack.stop(name)
    sandbox.release()
    for name in ("server", "services"):
        production.stack.start(name)

    until(lambda: set(production.videos()) - before, "the video")
    until(lambda: run.id in {ended.id for ended in production.runs("text-to-video")}, "the end of the run")
    assert sandbox.books().submissions_accepted == paid + 1


def test_no_secret_is_in_the_database(production: Production) -> None:
    """Blocks are encrypted, and everything else refers to them: neither token nor key is anywhere in clear text."""
    text = dump(production.stack)

    assert "image-to-video" in text
    assert [secret for secret in (TOKEN, production.cloud.secret_key) if secret in text] == []
