"""The flows as users run them: from a process worker, from `serve`, and directly."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import AutomationCore, EventTrigger, Posture, RunDeployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Pending, Scheduled
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.deployments.conftest import ROOT, PrefectServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deployed(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    """A server with the project's deployments and one process worker."""
    prefect_server.deploy()
    with prefect_server.running("prefect", "worker", "start", "--pool", "test-pool", "--name", "test-worker"):
        yield prefect_server


@asynccontextmanager
async def api(server: PrefectServer) -> AsyncIterator[PrefectClient]:
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        async with get_client() as client:
            yield client


async def parameters(
    client: PrefectClient, sandbox: Sandbox, object_store: ObjectStore, prefix: str, **given: Any
) -> dict[str, Any]:
    """Store both blocks, and return a run's parameters that refer to them, as the UI's form sends them."""
    account = RunComfyCredentials(api_token=SecretStr(sandbox.token), base_url=sandbox.url, output_hosts=[sandbox.host])
    keys = AwsCredentials(
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key=SecretStr(object_store.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=object_store.endpoint_url),
    )
    store = MediaStore(bucket="videos", prefix=prefix, credentials=keys)
    stored = {
        "credentials": await account.save(f"account-{prefix}", client=client),
        "store": await store.save(f"store-{prefix}", client=client),
    }
    references = {name: {"$ref": {"block_document_id": str(block_id)}} for name, block_id in stored.items()}
    return {"prompt": "rain on a window", **references, "polling": {"min_interval_seconds": 0.2}, **given}


async def until(happened: Callable[[], Any], what: str, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.2)


async def registered(client: PrefectClient, name: str, seconds: float = 900) -> DeploymentResponse:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await client.read_deployment_by_name(name)
        except ObjectNotFound:
            assert time.monotonic() < deadline, f"{name} was not registered"
            await asyncio.sleep(0.2)


async def started_by(
    client: PrefectClient, event: dict[str, Any], started: Callable[[], Awaitable[FlowRun | None]], times: int = 6
) -> FlowRun:
    """Send an event until it starts a run: a server on SQLite loses one now and then while it is busy."""
    for _ in range(times):
        sent = event | {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat()}
        (await client._client.post("/events", json=[sent])).raise_for_status()
        again = time.monotonic() + 40
        while time.monotonic() < again:
            if (run := await started()) is not None:
                return run
            await asyncio.sleep(0.3)
    raise AssertionError(f"{times} events started nothing")


async def ended(client: PrefectClient, flow_run_id: UUID, seconds: float = 900) -> FlowRun:
    deadline = time.monotonic() + seconds
    while True:
        run = await client.read_flow_run(flow_run_id)
        if run.state is not None and run.state.is_final():
            return run
        assert time.monotonic() < deadline, f"the flow run is still {run.state}"
        await asyncio.sleep(0.3)


def archived(object_store: ObjectStore, prefix: str) -> list[str]:
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    found = client.list_objects_v2(Bucket="videos", Prefix=f"{prefix}/wan-ai/").get("Contents", [])
    return sorted(entry["Key"].rpartition(".")[2] for entry in found)


async def test_a_worker_runs_both_deployments(
    deployed: PrefectServer, sandbox: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """A run of a deployment ends with one video and its provenance in the bucket."""
    async with api(deployed) as client:
        for name, given in (("image-to-video", {"image": str(ROOT / "deployments/demo.jpg")}), ("text-to-video", {})):
            deployment = await client.read_deployment_by_name(f"{name}/{name}")
            run = await client.create_flow_run_from_deployment(
                deployment.id, parameters=await parameters(client, sandbox, object_store, f"{prefix}-{name}", **given)
            )

            finished = await ended(client, run.id)

            assert finished.state is not None and finished.state.type is StateType.COMPLETED, finished.state
            assert archived(object_store, f"{prefix}-{name}") == ["jpg", "json", "mp4"]
    assert sandbox.books().submissions_accepted == 2


async def test_cancelling_a_workers_run_cancels_the_queued_request(
    deployed: PrefectServer, sandbox: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """Cancelled in Prefect's UI or API, a request that is still in the queue is cancelled at the service."""
    sandbox.hold()
    async with api(deployed) as client:
        deployment = await client.read_deployment_by_name("text-to-video/text-to-video")
        run = await client.create_flow_run_from_deployment(
            deployment.id, parameters=await parameters(client, sandbox, object_store, prefix)
        )
        await until(lambda: sandbox.books().polls > 2, "the request to be followed")

        await client.set_flow_run_state(run.id, Cancelling())

        await until(lambda: sandbox.books().cancelled == 1, "the request to be cancelled")
        finished = await ended(client, run.id)
    assert finished.state is not None and finished.state.type is StateType.CANCELLED
    assert sandbox.books().submissions_accepted == 1


DIRECT = """
import asyncio, json, os, sys
from blocks import MediaStore, RunComfyCredentials
from flows.text_to_video import text_to_video
from runcomfy.policy import Polling
name = sys.argv[1]
asyncio.run(text_to_video("rain on a window", RunComfyCredentials.load(f"account-{name}", _sync=True),
    MediaStore.load(f"store-{name}", _sync=True),
    polling=Polling(min_interval_seconds=0.2, default_interval_seconds=0.2)))
"""


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_script_that_calls_the_flow_works_the_same(
    prefect_server: PrefectServer, sandbox: Sandbox, object_store: ObjectStore, prefix: str, cancelled: bool
) -> None:
    """It ends with a video; cancelled from the API, it cancels the queued request."""
    sandbox.hold(queue=cancelled)
    async with api(prefect_server) as client:
        await parameters(client, sandbox, object_store, prefix)
        with subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and is only polled
            [sys.executable, "-c", DIRECT, prefix], cwd=ROOT, env=prefect_server.environment
        ) as process:
            if cancelled:
                await until(lambda: sandbox.books().polls > 2, "the request to be followed")
                named = FlowFilter(name=FlowFilterName(any_=["text-to-video"]))
                (run,) = await client.read_flow_runs(flow_filter=named, limit=1, sort=FlowRunSort.START_TIME_DESC)
                await client.set_flow_run_state(run.id, Cancelling())
                await until(lambda: sandbox.books().cancelled == 1, "the request to be cancelled")
            await until(lambda: process.poll() is not None, "the script to end")
    assert archived(object_store, prefix) == ([] if cancelled else ["jpg", "json", "mp4"])
    assert sandbox.books().submissions_accepted == 1


async def test_a_run_notices_a_cancellation_that_no_worker_received(
    deployed: PrefectServer, sandbox: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """A worker learns of a cancellation by one message, which can be lost: the run polls for itself.

    (Prefect calls a run that ends by itself like this "crashed".)
    """
    sandbox.hold()
    async with api(deployed) as client:
        deployment = await client.read_deployment_by_name("text-to-video/text-to-video")
        run = await client.create_flow_run_from_deployment(
            deployment.id,
            parameters=await parameters(client, sandbox, object_store, prefix),
            state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1)),  # so that the worker leaves it alone
        )
        await client.set_flow_run_state(run.id, Pending(), force=True)
        with subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and is only polled
            [sys.executable, "-m", "prefect.engine", str(run.id)], cwd=ROOT, env=deployed.environment
        ) as engine:
            await until(lambda: sandbox.books().polls > 2, "the request to be followed")
            await client.set_flow_run_state(run.id, Cancelling())
            await until(lambda: sandbox.books().cancelled == 1, "the request to be cancelled")
            await until(lambda: engine.poll() is not None, "the run to end")
        await ended(client, run.id)


async def test_serve_works_the_same(
    prefect_server: PrefectServer, sandbox: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """One process that serves all flows runs them, and cancels a queued request when its run is cancelled."""
    with prefect_server.running("deployments.serve"):
        async with api(prefect_server) as client:
            deployment = await registered(client, "text-to-video/served")
            run = await client.create_flow_run_from_deployment(
                deployment.id, parameters=await parameters(client, sandbox, object_store, prefix)
            )
            finished = await ended(client, run.id)
            assert finished.state is not None and finished.state.type is StateType.COMPLETED, finished.state
            assert archived(object_store, prefix) == ["jpg", "json", "mp4"]

            sandbox.hold()
            run = await client.create_flow_run_from_deployment(
                deployment.id, parameters=await parameters(client, sandbox, object_store, f"{prefix}-2")
            )
            polled = sandbox.books().polls
            await until(lambda: sandbox.books().polls > polled + 2, "the request to be followed")
            await client.set_flow_run_state(run.id, Cancelling())
            await until(lambda: sandbox.books().cancelled == 1, "the request to be cancelled")


async def test_a_trigger_may_give_every_setting_as_text(
    deployed: PrefectServer, sandbox: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """Rendered text is parsed to the flow's types, what the event lacks is left out, and errors are reported."""

    def text(template: str) -> dict[str, str]:  # as older servers render all of them, and the UI's editor still does
        return {"__prefect_kind": "jinja", "template": template}

    settings = {
        "seed": text("{{ event.payload.seed }}"), "num_frames": text("{{ event.payload.num_frames }}"),
        "frames_per_second": "{{ event.payload.rate | default('') }}", "resolution": "{{ event.payload.size }}",
        "enable_prompt_expansion": text("{{ event.payload.expand }}"),
        "aspect_ratio": text("{{ event.payload.missing }}"),
    }  # fmt: skip
    async with api(deployed) as client:
        deployment = await client.read_deployment_by_name("text-to-video/text-to-video")
        given = await parameters(
            client, sandbox, object_store, prefix, prompt="{{ event.payload.prompt }}", settings=settings,
            deadlines={"queue_timeout_seconds": text("{{ event.payload.patience }}")},
            variation=text("{{ event.payload.missing }}"), on_uncertain=text("{{ event.payload.missing }}"),
        )  # fmt: skip
        trigger = EventTrigger(expect={f"scene.ready.{prefix}"}, posture=Posture.Reactive, threshold=1)
        action = RunDeployment(source="selected", deployment_id=deployment.id, parameters=given)
        await client.create_automation(AutomationCore(name=prefix, trigger=trigger, actions=[action]))
        runs = {}
        for seed in ("7", "lucky"):
            payload = {
                "prompt": f"rain {seed}",
                "seed": seed,
                "num_frames": 85,
                "size": "480p",
                "expand": False,
                "patience": 60,
            }
            event = {
                "event": f"scene.ready.{prefix}", "resource": {"prefect.resource.id": "scene"}, "payload": payload,
            }  # fmt: skip

            async def started(prompt: str = payload["prompt"]) -> FlowRun | None:
                named = FlowFilter(name=FlowFilterName(any_=["text-to-video"]))
                found = await client.read_flow_runs(flow_filter=named, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
                return next((run for run in found if run.parameters.get("prompt") == prompt), None)

            runs[seed] = await ended(client, (await started_by(client, event, started)).id)

    assert runs["7"].state is not None and runs["7"].state.type is StateType.COMPLETED, runs["7"].state
    (request,) = sandbox.books().requests
    assert request.inputs == {
        "prompt": "rain 7", "seed": 7, "num_frames": 85, "frames_per_second": 16, "resolution": "480p",
        "aspect_ratio": "16:9", "enable_prompt_expansion": False,
    }  # fmt: skip
    assert runs["lucky"].state is not None and runs["lucky"].state.type is StateType.FAILED
    assert "settings.seed: Input should be a valid integer (it is 'lucky')" in str(runs["lucky"].state.message)
