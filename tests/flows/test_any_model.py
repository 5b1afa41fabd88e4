"""The flow `generate`: any model of the catalogue under the same promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.generate import generate
from flows.parameters import GivenInputs
from runcomfy.errors import InvalidInput
from runcomfy.policy import Polling
from runcomfy.sandbox import Sandbox, SandboxSettings

FOLDER = Path(__file__).parents[1] / "contract" / "models"
QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
EDIT = "wan-ai/wan-2.7/edit"


@pytest.fixture(scope="module")
def models() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(run_seconds=0.05, tiny_videos=True, models=FOLDER)) as sandbox:
        yield sandbox


@pytest.fixture
def account(models: Sandbox) -> RunComfyCredentials:
    return RunComfyCredentials(api_token=SecretStr(models.token), base_url=models.url, output_hosts=[models.host])


async def test_two_images_in_and_three_out(
    account: RunComfyCredentials, media_store: MediaStore, models: Sandbox, tmp_path: Path
) -> None:
    """The inputs are staged by content, in their order; every file is archived; a second run pays nothing."""
    sources = [tmp_path / "a.png", tmp_path / "b.png"]
    for source, colour in zip(sources, ("navy", "red"), strict=True):
        Image.new("RGB", (64, 64), colour).save(source)
    inputs = GivenInputs({"prompt": "Make it snow", "image_urls": [str(each) for each in sources], "num_images": 3})
    before = models.books().submissions_accepted

    made = await generate(EDIT, inputs, account, media_store, polling=QUICK)
    again = await generate(EDIT, inputs, account, media_store, polling=QUICK)
    turned = GivenInputs(inputs.root | {"image_urls": [str(each) for each in reversed(sources)]})
    other = await generate(EDIT, turned, account, media_store, polling=QUICK)

    assert [video.content_type for video in made.videos] == ["image/png"] * 3
    assert [video.key for video in again.videos] == [video.key for video in made.videos]
    assert other.submission.request_id != made.submission.request_id
    assert models.books().submissions_accepted == before + 2
    store = media_store.get_store()
    provenance = json.loads(store.read(made.videos[0].provenance_key, limit_bytes=1_000_000))
    assert [Path(each["source"]).name for each in provenance["staged"]] == ["a.png", "b.png"]
    assert provenance["inputs"]["image_urls"] == [
        f"s3://{each['bucket']}/{each['key']}" for each in provenance["staged"]
    ]


async def test_what_is_wrong_is_said_before_anything_is_paid(
    account: RunComfyCredentials, media_store: MediaStore, models: Sandbox
) -> None:
    before = models.books().submissions_received

    with pytest.raises(InvalidInput, match=r"image_urls: Field required; num_images: it has to be 4 or less"):
        await generate(EDIT, GivenInputs({"prompt": "x", "num_images": 9}), account, media_store)
    with pytest.raises(InvalidInput, match="no model 'nobody/nothing'"):
        await generate("nobody/nothing", GivenInputs({"prompt": "x"}), account, media_store)

    assert models.books().submissions_received == before


def test_a_parameter_is_stored_without_signatures() -> None:
    inputs = GivenInputs(
        {
            "image": "https://host/a.png?X-Amz-Signature=secret",
            "many": [{"https://host/b?sig=secret": "https://host/b?sig=secret"}],
        }
    )

    assert "secret" not in inputs.model_dump_json() + repr(inputs)
    assert inputs.root["image"].endswith("secret")
