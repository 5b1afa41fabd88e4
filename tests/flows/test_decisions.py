"""What a person decides about a lost submission, as flows: where there is no shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blocks import MediaStore, RunComfyCredentials
from flows.adopt_request import adopt_request
from flows.image_to_video import image_to_video
from flows.parameters import ImageSource
from flows.release_generation import release_generation
from runcomfy.errors import UncertainSubmission
from runcomfy.journal import EntryState, GenerationSpec
from runcomfy.models import IMAGE_TO_VIDEO, ImageToVideoSettings, TextToVideo
from runcomfy.policy import Polling
from runcomfy.sandbox import Sandbox

PICTURE = Path(__file__).parents[2] / "deployments" / "demo.jpg"


async def test_an_adopted_generation_keeps_its_image_and_settings(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """From the journal alone: the provenance has the inputs, though the run that had them is over."""
    sandbox.inject("lost_answer", endpoint="submit", times=1)
    settings = ImageToVideoSettings(seed=7, resolution="480p")
    with pytest.raises(UncertainSubmission) as caught:
        await image_to_video(ImageSource(str(PICTURE)), "a boat", account, media_store, settings)
    (request,) = sandbox.books().requests

    generation = await adopt_request(
        caught.value.generation_key,
        request.id,
        account,
        media_store,
        polling=Polling(min_interval_seconds=0.05, default_interval_seconds=0.05),
    )

    assert generation.image is not None
    (video,) = generation.videos
    provenance = json.loads(media_store.get_store().read(video.provenance_key, limit_bytes=10**6))
    assert provenance["model_id"] == IMAGE_TO_VIDEO
    assert (provenance["seed"], provenance["inputs"]["resolution"]) == (7, "480p")
    assert provenance["image"]["sha256"] == generation.image.sha256
    assert provenance["inputs"]["image_url"] == generation.image.uri
    assert provenance["generation_key"] == caught.value.generation_key


async def test_a_generation_is_released_by_a_flow(media_store: MediaStore) -> None:
    """From Prefect's UI, where there is no shell."""
    intent = GenerationSpec(TextToVideo(prompt="rain"), "x").intent("worker-7:4711")
    entry = intent.moved(EntryState.UNCERTAIN, worker="worker-7:4711", reason="The connection broke.")
    assert await media_store.get_journal().create(entry)

    released = await release_generation(entry.generation_key[:12], media_store)

    assert released.state is EntryState.RELEASED
