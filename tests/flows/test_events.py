"""What other teams' automations can start on: one event for each outcome of a generation."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.image_to_video import image_to_video
from flows.parameters import ImageSource
from flows.reconcile import reconcile
from flows.text_to_video import text_to_video
from runcomfy.errors import GenerationFailed, QueueTimeout, RunTimeout, UncertainSubmission
from runcomfy.policy import Deadlines, Polling
from runcomfy.sandbox import Sandbox
from runcomfy.values import Generation
from tasks.runtime.events import ASSET_MADE, ASSET_READ, EVENTS

PAGE = (Path(__file__).parents[2] / "docs" / "prefect.md").read_text(encoding="utf-8")
QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)


async def events(api_url: str, store: MediaStore, *wanted: str) -> list[dict[str, Any]]:
    """Wait until the server has these events of a store, and return all that it has, the earliest first."""
    archive = f"s3://videos/{store.prefix}"
    asked = {"resource": {"id_prefix": [archive]}, "event": {"prefix": ["runcomfy.", "prefect.asset."]}}
    deadline = time.monotonic() + 600
    async with httpx.AsyncClient() as client:
        while True:
            answer = await client.post(f"{api_url}/events/filter", json={"filter": asked, "limit": 50})
            found = sorted(answer.raise_for_status().json()["events"], key=lambda event: event["occurred"])
            if Counter(wanted) <= Counter(event["event"] for event in found):
                return list(found)
            assert time.monotonic() < deadline, f"only {[event['event'] for event in found]} came"
            await asyncio.sleep(0.3)


def names(found: list[dict[str, Any]]) -> list[str]:
    return sorted(event["event"] for event in found if event["event"].startswith("runcomfy."))


async def test_an_archived_video_is_an_event_and_an_asset(
    account: RunComfyCredentials, media_store: MediaStore, prefect_api: str, tmp_path: Path
) -> None:
    """The video's URI is the resource; its image is upstream of the asset; and nothing in them is a secret."""
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "waves.png")

    made: Generation = await image_to_video(
        ImageSource(str(tmp_path / "waves.png")), "waves", account, media_store, polling=QUICK
    )

    found = await events(
        prefect_api,
        media_store,
        "runcomfy.generation.submitted",
        "runcomfy.generation.archived",
        "prefect.asset.materialization.succeeded",
        "prefect.asset.referenced",
    )
    assert names(found) == ["runcomfy.generation.archived", "runcomfy.generation.submitted"]
    by_name = {event["event"]: event for event in found}
    (video,), image = made.videos, made.image
    assert image is not None
    archived = by_name["runcomfy.generation.archived"]
    assert archived["resource"] == {
        "prefect.resource.id": video.uri,
        "prefect.resource.name": video.key.rpartition("/")[2],
        "runcomfy.generation-key": made.submission.generation_key,
        "runcomfy.request-id": made.submission.request_id,
        "runcomfy.model": "wan-ai/wan-2-1/image-to-video",
    }
    assert {"uri": video.uri, "sha256": video.sha256, "image_uri": image.uri}.items() <= archived["payload"].items()
    asset = by_name["prefect.asset.materialization.succeeded"]
    assert asset["resource"]["prefect.resource.id"] == video.uri
    upstream = [one["prefect.resource.id"] for one in asset["related"] if one["prefect.resource.role"] == "asset"]
    assert upstream == [image.uri]
    assert {"prefect.resource.id": "runcomfy", "prefect.resource.role": "asset-materialized-by"} in asset["related"]
    endpoint = media_store.get_store().endpoint_url
    assert asset["resource"]["prefect.asset.url"] == f"{endpoint}/videos/{video.key}"
    assert made.submission.request_id in asset["resource"]["prefect.asset.description"]
    assert archived["payload"]["poster_uri"] == video.poster_uri == f"{video.uri}.jpg"
    assert (
        by_name["runcomfy.generation.submitted"]["resource"]["prefect.resource.id"]
        == f"s3://videos/{media_store.prefix}"
    )
    text = str(found)
    assert "X-Amz" not in text and account.api_token.get_secret_value() not in text


async def test_another_run_of_an_archived_generation_emits_nothing(
    account: RunComfyCredentials, media_store: MediaStore, prefect_api: str
) -> None:
    """An automation that starts on an archived video starts once."""
    for _ in range(3):
        await text_to_video("rain", account, media_store, polling=QUICK)
    await text_to_video("wind", account, media_store, polling=QUICK)

    await events(prefect_api, media_store, *["runcomfy.generation.archived"] * 2)
    await asyncio.sleep(1)  # time for one too many
    found = await events(prefect_api, media_store)

    assert names(found).count("runcomfy.generation.archived") == 2


@pytest.mark.parametrize(
    ("what", "raised", "told"),
    [
        ("failed", GenerationFailed, "runcomfy.generation.failed"),
        ("late", RunTimeout, "runcomfy.generation.detached"),
        ("queued", QueueTimeout, "runcomfy.generation.cancelled"),
        ("lost", UncertainSubmission, "runcomfy.generation.uncertain"),
    ],
)
async def test_every_other_end_is_an_event(
    sandbox: Sandbox,
    account: RunComfyCredentials,
    media_store: MediaStore,
    prefect_api: str,
    what: str,
    raised: type[Exception],
    told: str,
) -> None:
    """With the reason, and the generation by its key."""
    prompt, deadlines = "rain", Deadlines()
    match what:
        case "failed":
            prompt = "rain [sandbox: result=failed]"
        case "late":
            sandbox.hold(queue=False, runs=True)
            deadlines = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.3)
        case "queued":
            sandbox.hold()
            deadlines = Deadlines(queue_timeout_seconds=0.3, run_timeout_seconds=60)
        case _:
            sandbox.inject("http_500", endpoint="submit", after=True)

    with pytest.raises(raised):
        await text_to_video(prompt, account, media_store, deadlines=deadlines, polling=QUICK)

    found = await events(prefect_api, media_store, told)
    (event,) = [event for event in found if event["event"] == told]
    assert event["payload"]["reason"] and event["payload"]["error_type"] == raised.__name__
    assert len(event["resource"]["runcomfy.generation-key"]) == 64


async def test_reconcile_emits_an_end_that_no_run_saw(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, prefect_api: str
) -> None:
    """Once: the next reconcile has nothing new to emit."""
    sandbox.inject("failed")
    sandbox.hold(queue=False, runs=True)
    late = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.3)
    with pytest.raises(RunTimeout):
        await text_to_video("rain", account, media_store, deadlines=late, polling=QUICK)
    sandbox.release()
    sandbox.wait_for_end(sandbox.books().requests[0].id)

    for _ in range(2):
        await reconcile(account, media_store, abandoned_after_seconds=0)

    expected = [f"runcomfy.generation.{state}" for state in ("detached", "failed", "submitted")]
    await events(prefect_api, media_store, *expected)
    await asyncio.sleep(1)  # time for one too many
    found = await events(prefect_api, media_store)
    assert names(found) == expected
    (event,) = [event for event in found if event["event"] == "runcomfy.generation.failed"]
    assert event["payload"]["error_type"] == "GenerationFailed" and event["payload"]["reason"]
    assert event["resource"]["runcomfy.model"] == "wan-ai/wan-2-1/text-to-video"


async def test_a_batch_emits_an_event_for_each_row(
    account: RunComfyCredentials, media_store: MediaStore, prefect_api: str, tmp_path: Path
) -> None:
    """As single runs do."""
    (tmp_path / "scenes.csv").write_text("prompt,seed\nrain,1\nrain,2\nrain [sandbox: result=failed],3\n")

    await batch(str(tmp_path / "scenes.csv"), account, media_store, polling=QUICK)

    expected = [
        *["runcomfy.generation.archived"] * 2,
        "runcomfy.generation.failed",
        *["runcomfy.generation.submitted"] * 3,
    ]
    assert names(await events(prefect_api, media_store, *expected)) == expected


def test_the_page_lists_exactly_the_events() -> None:
    """What others' automations may rely on is the table of `docs/prefect.md`."""
    told = {*EVENTS.values(), ASSET_MADE, ASSET_READ}
    said = re.findall(r"^\| `((?:runcomfy|prefect)\.[a-z.]+)` ", PAGE, re.MULTILINE)

    assert sorted(said) == sorted(told)


async def test_the_page_has_every_field_of_a_video_event(
    account: RunComfyCredentials, media_store: MediaStore, prefect_api: str
) -> None:
    """Each name of the payload and each label."""
    await text_to_video("rain", account, media_store, polling=QUICK)

    (event,) = [
        event
        for event in await events(prefect_api, media_store, "runcomfy.generation.archived")
        if event["event"] == "runcomfy.generation.archived"
    ]
    for name in (*event["payload"], *(label for label in event["resource"] if label.startswith("runcomfy."))):
        assert f"`{name}`" in PAGE, name
