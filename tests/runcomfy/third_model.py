"""Add a third typed model as `registry.py` would, and send a row of a manifest through everything up to its file.

It is a program, so that no other test meets the model: `python -m tests.runcomfy.third_model MANIFEST`.
"""

# ruff: noqa: E402
from __future__ import annotations

import asyncio
import sys
from typing import ClassVar, Literal

from runcomfy.models import registry
from runcomfy.models.inputs import Integer, ModelInputs, Prompt


class Restyle(ModelInputs):
    """A model whose image has another name, and whose settings no other model has."""

    model_id: ClassVar[str] = "acme/restyle-3/restyle"
    image_field: ClassVar[str] = "picture_url"
    makes_video: ClassVar[bool] = True

    prompt: Prompt
    picture_url: str
    strength: Integer = 50
    style: Literal["ink", "oil"] | None = None


registry.MODELS[Restyle.model_id] = Restyle  # the one line; everything below is imported after it, and knows the model

from runcomfy.api.client import RunComfyClient
from runcomfy.api.requests import collect
from runcomfy.api.responses import Answer
from runcomfy.catalogue.rows import row_of_entry
from runcomfy.journal import GenerationSpec, Journal, MemoryJournalStore, inputs_of, submission_of, submit_once
from runcomfy.manifest import Manifest, read_manifest
from runcomfy.models import TextToVideo, generation_key, short_name, workload_of
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.storage.store import Store
from runcomfy.values import Archive, StagedImage

IMAGE = StagedImage(
    bucket="b", key="images/k.png", sha256="ab" * 32, size_bytes=1, content_type="image/png", width=64, height=64,
    source="k.png", uploaded=True,
)  # fmt: skip


async def _intact(archive: Archive) -> bool:
    return True


async def _end(client: RunComfyClient, sandbox: Sandbox, request_id: str) -> Answer:
    await asyncio.to_thread(sandbox.wait_for_end, request_id)
    return await collect(client, request_id)


async def _main(manifest: Manifest) -> None:
    (row,), (bad,) = manifest.rows, manifest.bad
    assert bad.problems == ("image: restyle needs one", "seed: restyle has no such setting"), bad
    inputs = row.order.inputs(IMAGE)
    assert isinstance(inputs, Restyle)
    assert inputs.body() == {"prompt": "a cat", "picture_url": IMAGE.uri, "strength": 70, "style": "ink"}
    assert short_name(inputs.model_id) == "restyle"

    signed = inputs.model_copy(update={"picture_url": "https://host/signed?X-Amz-Signature=1"})
    key = generation_key(inputs, image_sha256=IMAGE.sha256)
    assert key == generation_key(signed, image_sha256=IMAGE.sha256)
    assert key != generation_key(inputs, image_sha256="cd" * 32)

    journal = Journal(MemoryJournalStore())
    with Sandbox(SandboxSettings(run_seconds=0, tiny_videos=True, price_unit="second")) as sandbox:
        async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
            image = await client.post_submission(TextToVideo(prompt="a cat"))
            made = await _end(client, sandbox, image.json()["request_id"])
            fetchable = made.outputs[0].replace("video-1.mp4", "image-1.png")

            async def prepare() -> ModelInputs:
                return inputs.model_copy(update={"picture_url": fetchable})

            spec = GenerationSpec(inputs, client.base_url, (IMAGE,))
            submission = await submit_once(client, journal, spec, prepare=prepare, intact=_intact)
            answer = await _end(client, sandbox, submission.request_id)
        books = sandbox.books()
    assert answer.outputs and answer.cost_usd
    assert (books.image_fetches, books.requests[-1].model) == (1, Restyle.model_id)

    found = await journal.read(key)
    assert found is not None
    entry = found.entry
    assert entry.inputs["picture_url"] == IMAGE.uri
    assert inputs_of(entry) == inputs
    assert submission_of(entry).workload == submission.workload == workload_of(entry.model_id, inputs.body())
    assert submission.workload == f"{Restyle.model_id}?strength=70&style=%22ink%22"
    catalogue = row_of_entry(entry, prompts=True)
    assert (catalogue["image_uri"], catalogue["prompt"]) == (IMAGE.uri, "a cat")
    assert "picture_url" not in str(catalogue["settings_json"])


if __name__ == "__main__":
    asyncio.run(_main(read_manifest(sys.argv[1], Store("unused"))))
    print("as any other")
