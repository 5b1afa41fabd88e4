"""What a script gives to a flow unchecked, which Prefect stores before it is checked: no secret in it is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.sorting import FlowRunSort

from blocks import MediaStore, RunComfyCredentials
from flows.generate import generate
from flows.image_to_video import image_to_video

SECRET = "s3cr3t-4d7f0c-s3cr3t"
SIGNED = f"https://127.0.0.1:9/a.png?X-Amz-Signature={SECRET}"


async def stored(name: str) -> str:
    """Return all that Prefect has of the last run of a flow."""
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[name])), sort=FlowRunSort.START_TIME_DESC, limit=1
        )
        states = await client.read_flow_run_states(runs[0].id)
    return json.dumps([run.model_dump(mode="json") for run in runs] + [each.model_dump(mode="json") for each in states])


@pytest.mark.parametrize(
    "given",
    [
        {"credentials": {"api_token": SECRET}},
        {"credentials": {"api_token": {"wrong": SECRET}}},
        {"credentials": SECRET},
        {"store": {"bucket": "videos", "credentials": {"aws_secret_access_key": SECRET, "aws_access_key_id": 1}}},
        {"image": SIGNED},
        {"image": {"root": SIGNED, "wrong": SIGNED}},
    ],
)
async def test_a_secret_that_is_given_as_it_is_is_not_stored(
    account: RunComfyCredentials, media_store: MediaStore, given: dict[str, Any]
) -> None:
    """Whether the run may use it or not; what else was given is shown as it was."""
    wanted = {"image": "no-such-file.png", "prompt": "rain: see https://a.example/?q=1", "credentials": account}
    with pytest.raises(Exception) as caught:  # each is another one
        await image_to_video(**{**wanted, "store": media_store, **given})

    known = await stored("image-to-video")
    assert SECRET not in known + str(caught.value)
    assert "rain: see https://a.example/?q=1" in known


@pytest.mark.parametrize(
    "inputs", [{"image_url": SIGNED, "deep": [{"url": SIGNED}]}, json.dumps({"image_url": SIGNED})]
)
async def test_a_signed_url_among_inputs_is_not_stored(
    account: RunComfyCredentials, media_store: MediaStore, inputs: Any
) -> None:
    """Of any model, as a dictionary or as JSON."""
    with pytest.raises(Exception) as caught:  # each is another one
        await generate("no/such-model", inputs, account, media_store)

    assert SECRET not in await stored("generate") + str(caught.value)
