"""The `inbox` flow: arriving images become videos, each once; what cannot be processed is set aside and reported."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State
from prefect.states import Cancelling
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.inbox import inbox
from runcomfy.errors import ConfigurationError
from runcomfy.inbox.run import InboxReport
from runcomfy.policy import Polling
from runcomfy.sandbox import Sandbox
from runcomfy.values import OutcomeStatus
from tests.runcomfy.inbox.cloud import Cloud, painted, running_cloud

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running_cloud() as running:
        yield running


@pytest.fixture
def archive(cloud: Cloud) -> MediaStore:
    """A bucket of its own for images and videos, on the server that has queues."""
    keys = AwsCredentials(
        aws_access_key_id=cloud.access_key,
        aws_secret_access_key=SecretStr(cloud.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=cloud.endpoint_url),
    )
    return MediaStore(bucket=cloud.bucket(), prefix="archive", credentials=keys, journal_patience_seconds=5)


@pytest.fixture
def queue_url(cloud: Cloud, archive: MediaStore) -> str:
    """A queue that the bucket notifies of every new object, our own included."""
    url = cloud.queue()
    cloud.notify(archive.bucket, url)
    return url


class Folder:
    """The folder where images arrive."""

    def __init__(self, cloud: Cloud, bucket: str) -> None:
        self._s3, self._bucket = cloud.s3, bucket
        self.uri = f"s3://{bucket}/in"

    def put(self, name: str, body: bytes | str, **metadata: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        self._s3.put_object(Bucket=self._bucket, Key=f"in/{name}", Body=data, Metadata=metadata)


@pytest.fixture
def folder(cloud: Cloud, archive: MediaStore) -> Folder:
    return Folder(cloud, archive.bucket)


@pytest.fixture
def run(folder: Folder, account: RunComfyCredentials, archive: MediaStore) -> Any:
    """Runs the flow on the folder, and returns its final state."""

    async def running(queue_url: str = "", **parameters: Any) -> State[InboxReport]:
        quick: dict[str, Any] = {"polling": QUICK, "idle_seconds": 0, "hidden_seconds": 20}
        state: Any = await inbox(folder.uri, account, archive, queue_url, return_state=True, **quick | parameters)
        assert isinstance(state, State)
        return state

    return running


async def fates(state: State[InboxReport]) -> dict[str, OutcomeStatus]:
    report = await state.aresult(raise_on_failure=False)
    assert isinstance(report, InboxReport), report
    return {one.source.rpartition("/")[2]: one.fate for one in report.received}


def videos(cloud: Cloud, archive: MediaStore) -> list[str]:
    found = cloud.s3.list_objects_v2(Bucket=archive.bucket, Prefix="archive/wan-ai/").get("Contents", [])
    return [entry["Key"] for entry in found if entry["Key"].endswith(".mp4")]


async def test_arriving_images_become_videos(
    sandbox: Sandbox, cloud: Cloud, archive: MediaStore, queue_url: str, folder: Folder, run: Any
) -> None:
    """With prompt and settings from sidecars in either order, from metadata, or from the run; then the queue is empty.

    The bucket notifies the queue of what we write ourselves, too: that is ignored.
    """
    folder.put("sidecar later.png", painted(1))
    folder.put("sidecar later.txt", "rain")
    folder.put("sidecar first.json", json.dumps({"prompt": "snow", "seed": 7, "resolution": "480p"}))
    folder.put("sidecar first.png", painted(2))
    folder.put("größe+1.png", painted(3), prompt="=?UTF-8?Q?Schn=C3=A9e?=", seed="8")
    folder.put("plain.png", painted(4))
    folder.put("notes.md", "nothing")

    state = await run(queue_url, prompt="fog", idle_seconds=2)

    assert state.is_completed(), state
    assert await fates(state) == dict.fromkeys(
        ("sidecar later.png", "sidecar first.png", "größe+1.png", "plain.png"), OutcomeStatus.ARCHIVED
    )
    asked = {(entry.inputs["prompt"], entry.inputs["seed"]) for entry in sandbox.books().requests}
    assert asked == {("rain", 40426604), ("snow", 7), ("Schnée", 8), ("fog", 40426604)}
    assert len(videos(cloud, archive)) == sandbox.books().submissions_accepted == 4
    # the bucket notifies of our own writes too: the next run consumes those of a run's very end
    assert await fates(await run(queue_url)) == {}
    assert cloud.count(queue_url) == (0, 0)


async def test_a_sidecar_makes_a_waiting_image_ready(
    sandbox: Sandbox, cloud: Cloud, queue_url: str, folder: Folder, run: Any
) -> None:
    """Without a prompt it waits, without a message and at no cost; the sidecar's arrival starts it."""
    folder.put("p.png", painted())
    assert await fates(await run(queue_url)) == {"p.png": OutcomeStatus.WAITING}
    assert cloud.count(queue_url) == (0, 0)

    folder.put("p.json", '{"prompt": "rain"}')
    assert await fates(await run(queue_url)) == {"p.png": OutcomeStatus.ARCHIVED}
    assert sandbox.books().submissions_accepted == 1


async def test_without_a_queue_the_folder_is_listed(
    sandbox: Sandbox, cloud: Cloud, archive: MediaStore, folder: Folder, run: Any
) -> None:
    """Listed twice, nothing is done twice; a changed sidecar and a new image are new."""
    for number in range(3):
        folder.put(f"{number}.png", painted(number), prompt="rain")
    folder.put("later.png", painted(9))

    assert set((await fates(await run())).values()) == {OutcomeStatus.ARCHIVED, OutcomeStatus.WAITING}
    assert await fates(await run()) == {"later.png": OutcomeStatus.WAITING}
    folder.put("0.txt", "snow")
    folder.put("3.png", painted(3), prompt="rain")
    assert await fates(await run(prompt="fog")) == dict.fromkeys(
        ("0.png", "3.png", "later.png"), OutcomeStatus.ARCHIVED
    )

    assert sandbox.books().submissions_accepted == len(videos(cloud, archive)) == 6
    assert await fates(await run(prompt="fog")) == {}


async def test_an_earlier_generation_is_not_paid_for_again(
    sandbox: Sandbox, folder: Folder, queue_url: str, run: Any
) -> None:
    """The same image with the same request spec under another name is the same generation in the journal."""
    folder.put("a.png", painted(), prompt="rain")
    await run(queue_url)
    folder.put("b.png", painted(), prompt="rain")

    assert await fates(await run(queue_url)) == {"b.png": OutcomeStatus.EXISTING}
    assert await fates(await run()) == {}
    assert sandbox.books().submissions_accepted == 1


async def test_an_unusable_arrival_is_set_aside_once(
    sandbox: Sandbox, cloud: Cloud, archive: MediaStore, queue_url: str, folder: Folder, run: Any
) -> None:
    """No image, a bad sidecar, an unreadable message: kept with the reason, not tried again until it changes."""
    folder.put("text.png", "not a picture", prompt="rain")
    folder.put("misspelt.png", painted(1))
    folder.put("misspelt.json", '{"prompt": "rain", "sed": 7}')
    folder.put("good.png", painted(2), prompt="rain")
    cloud.send(queue_url, ["hello, https://h/p?X-Amz-Signature=0123456789abcdef"])

    state = await run(queue_url)

    assert (state.is_completed(), state.name) == (True, "Incomplete")
    found = await fates(state)
    (message,) = (name for name in found if name.endswith(".json"))
    refused = (message, "text.png", "misspelt.png")
    assert found == dict.fromkeys(refused, OutcomeStatus.SET_ASIDE) | {"good.png": OutcomeStatus.ARCHIVED}
    kept = json.loads(archive.get_store().read(f"archive/inbox/messages/{message}", limit_bytes=10_000))
    assert "no JSON" in kept["reason"] and kept["body"].startswith("hello") and "0123456789abcdef" not in kept["body"]
    # the bucket notifies of our own writes too: the next run consumes those of a run's very end
    assert await fates(await run(queue_url)) == {}
    assert cloud.count(queue_url) == (0, 0)
    assert await fates(await run()) == {}, "a listing does not try them again"
    folder.put("misspelt.json", '{"prompt": "rain", "seed": 7}')
    assert await fates(await run(queue_url)) == {"misspelt.png": OutcomeStatus.ARCHIVED}
    assert sandbox.books().submissions_accepted == 2


async def test_a_failed_generation_is_not_paid_for_at_every_listing(sandbox: Sandbox, folder: Folder, run: Any) -> None:
    """It is set aside: for another attempt, the image is uploaded again."""
    folder.put("a.png", painted(), prompt="a cat [sandbox: result=failed]")

    state = await run()
    assert (state.is_failed(), await fates(state)) == (True, {"a.png": OutcomeStatus.SET_ASIDE})
    assert await fates(await run()) == {}
    assert sandbox.books().submissions_accepted == 1


async def test_a_fault_that_is_not_the_images_leaves_it_in_the_queue(
    sandbox: Sandbox, cloud: Cloud, queue_url: str, folder: Folder, run: Any
) -> None:
    """Without balance nothing is set aside and no more messages are received; a listing does it once there is some."""
    sandbox.inject("http_402", endpoint="submit", rate=1)
    for number in range(5):
        folder.put(f"{number}.png", painted(number), prompt="rain")

    state = await run(queue_url, at_once=2)

    assert state.is_failed()
    assert set((await fates(state)).values()) == {OutcomeStatus.POSTPONED}
    assert sum(cloud.count(queue_url)) >= 5
    sandbox.clear_faults()
    assert set((await fates(await run())).values()) == {OutcomeStatus.ARCHIVED}
    assert sandbox.books().submissions_accepted == 5


async def test_the_message_goes_only_when_the_journal_has_the_generation(
    sandbox: Sandbox, cloud: Cloud, queue_url: str, folder: Folder, run: Any
) -> None:
    """A submission whose answer is unknown leaves the message in the queue; and it is not sent again."""
    sandbox.inject("lost_answer", endpoint="submit")
    folder.put("a.png", painted(), prompt="rain")

    state = await run(queue_url)

    assert await fates(state) == {"a.png": OutcomeStatus.OPEN}
    assert sum(cloud.count(queue_url)) == 1
    assert await fates(await run()) == {"a.png": OutcomeStatus.OPEN}
    assert sandbox.books().submissions_received == 1


async def test_an_image_reported_twice_is_processed_once(
    sandbox: Sandbox, cloud: Cloud, archive: MediaStore, queue_url: str, folder: Folder, run: Any
) -> None:
    """At the same time and later, and in any order."""
    for number in range(4):
        folder.put(f"{number}.png", painted(number), prompt="rain")
    told = cloud.drain(queue_url)
    cloud.send(queue_url, [*reversed(told), *told])

    assert set((await fates(await run(queue_url))).values()) == {OutcomeStatus.ARCHIVED}
    cloud.send(queue_url, told)
    assert set((await fates(await run(queue_url))).values()) == {OutcomeStatus.HANDLED}

    assert sandbox.books().submissions_accepted == len(videos(cloud, archive)) == 4
    # the bucket notifies of our own writes too: the next run consumes those of a run's very end
    assert await fates(await run(queue_url)) == {}
    assert cloud.count(queue_url) == (0, 0)


async def test_arrivals_elsewhere_are_ignored(
    sandbox: Sandbox, cloud: Cloud, archive: MediaStore, queue_url: str, run: Any
) -> None:
    """They are counted, and nothing else."""
    cloud.s3.put_object(Bucket=archive.bucket, Key="out/a.png", Body=painted(), Metadata={"prompt": "rain"})

    state = await run(queue_url)

    report = await state.aresult()
    assert (report.received, report.elsewhere) == ((), 1)
    assert sandbox.books().submissions_received == 0
    assert cloud.count(queue_url) == (0, 0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"queue_url": "arrivals"}, "URL"),
        ({"queue_url": "{endpoint}/123456789012/nowhere"}, "no such queue"),
    ],
)
async def test_a_wrong_setting_is_reported_at_once(cloud: Cloud, run: Any, wrong: dict[str, str], says: str) -> None:
    """The run fails and says what to fix."""
    state = await run(**{name: value.format(endpoint=cloud.endpoint_url) for name, value in wrong.items()})

    with pytest.raises(ConfigurationError, match=says):
        await state.aresult()


async def test_the_pages_show_what_became_of_them(folder: Folder, run: Any) -> None:
    """A table of what arrived, and a page of what was set aside, if anything was."""
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    async def shown(state: State[InboxReport]) -> dict[str, str]:
        run_id = state.state_details.flow_run_id
        async with get_client() as client:
            found = await client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
            )
        return {str(artifact.key): f"{artifact.description} {artifact.data}" for artifact in found}

    folder.put("a.png", painted(), prompt="rain")
    first = await shown(await run())
    folder.put("b|c.png", "text", prompt="rain")
    second = await shown(await run())

    assert "1 archived" in first["runcomfy-inbox"] and "in/a.png" in first["runcomfy-inbox"]
    assert "runcomfy-inbox-set-aside" not in first
    assert "not an image" in second["runcomfy-inbox-set-aside"]


async def test_secrets_stay_secret(
    sandbox: Sandbox,
    cloud: Cloud,
    archive: MediaStore,
    queue_url: str,
    folder: Folder,
    run: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither the log at its loudest, nor what is written into the bucket, holds a key, a token or a signature."""
    folder.put("good.png", painted(1), prompt="rain")
    folder.put("bad.png", painted(2), prompt="rain [sandbox: result=error_echoes_url]")
    cloud.send(queue_url, [f"Bearer {sandbox.token}, https://h/p?X-Amz-Signature=0123456789abcdef"])

    with caplog.at_level(logging.DEBUG):
        for name in list(logging.root.manager.loggerDict):
            if name.startswith(("botocore", "urllib3", "httpx", "httpcore", "runcomfy")):
                caplog.set_level(logging.DEBUG, logger=name)
        state = await run(queue_url, idle_seconds=1)

    assert sorted((await fates(state)).values()) == [
        OutcomeStatus.ARCHIVED,
        OutcomeStatus.SET_ASIDE,
        OutcomeStatus.SET_ASIDE,
    ]
    written = [caplog.text.encode(), str(state).encode()]
    for entry in cloud.s3.list_objects_v2(Bucket=archive.bucket, Prefix="archive/").get("Contents", []):
        if entry["Key"].endswith(".json"):
            written.append(archive.get_store().read(entry["Key"], limit_bytes=10**6))
    assert b"ReceiveMessage" in written[0], "the loggers were not turned up"
    for text in written:
        for secret in (sandbox.token.encode(), cloud.secret_key.encode(), b"0123456789abcdef"):
            where = text.find(secret)
            assert where < 0, text[max(0, where - 300) : where + 80]
        assert not re.search(rb"X-Amz-Signature=(?!\[redacted)[0-9a-f]{8}", text)


@pytest.mark.parametrize("queued", [True, False])
async def test_a_cancelled_inbox_starts_nothing_more(
    sandbox: Sandbox,
    cloud: Cloud,
    archive: MediaStore,
    queue_url: str,
    folder: Folder,
    account: RunComfyCredentials,
    queued: bool,
) -> None:
    """Queued requests are cancelled; the other images stay where they are, and so do their messages."""
    for number in range(6):
        folder.put(f"{number}.png", painted(number), prompt="rain")
    sandbox.hold()
    url = queue_url if queued else ""
    task = asyncio.create_task(inbox(folder.uri, account, archive, url, at_once=2, polling=QUICK, idle_seconds=30))
    while sandbox.books().submissions_accepted < 2:
        assert not task.done()
        await asyncio.sleep(0.1)

    async with get_client() as client:
        named = FlowRunFilter(name=FlowRunFilterName(any_=[f"inbox-{folder.uri}"]))
        (run,) = await client.read_flow_runs(flow_run_filter=named)
        await client.set_flow_run_state(run.id, Cancelling(), force=True)
    ended, _ = await asyncio.wait({task}, timeout=300)

    assert ended
    assert (sandbox.books().submissions_accepted, sandbox.books().cancelled) == (2, 2)


async def test_a_cause_that_is_common_to_all_pays_for_five(
    sandbox: Sandbox, cloud: Cloud, archive: MediaStore, queue_url: str, folder: Folder, run: Any
) -> None:
    """The run ends and names it; what it had not paid for is in the queue for the next run, which does all of it."""
    sandbox.inject("no_output", rate=1.0)
    for number in range(12):
        folder.put(f"{number}.png", painted(number))

    state = await run(queue_url, prompt="fog", hidden_seconds=60)

    assert sandbox.books().submissions_accepted == 5
    assert state.is_failed() and "The first 5 that were paid for failed alike" in str(state.message)
    assert "NoOutput" in str(state.message)
    found = await fates(state)
    assert sorted(fate for fate in found.values() if fate is OutcomeStatus.OPEN) == [OutcomeStatus.OPEN] * 5
    assert set(found.values()) <= {OutcomeStatus.OPEN, OutcomeStatus.POSTPONED}
    visible, hidden = cloud.count(queue_url)
    assert visible + hidden >= 7

    await run(prompt="fog")
    assert sandbox.books().submissions_accepted == 6, "the next run pays for one"

    sandbox.clear_faults()
    again = await fates(await run(prompt="fog"))  # by listing: those that were paid for are collected, too
    assert sum(fate is OutcomeStatus.ARCHIVED for fate in again.values()) >= 6
