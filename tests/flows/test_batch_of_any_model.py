"""The flows `batch`, `batch_shard` and `inbox` with models of the catalogue: what the command does, in Prefect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prefect.client.schemas.objects import State
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.batch_shard import batch_shard
from flows.inbox import inbox
from flows.parameters import GivenInputs
from runcomfy.batch.plan import rows_to_json
from runcomfy.batch.shard import Shard
from runcomfy.models.orders import OrderDefaults
from runcomfy.policy import Polling
from runcomfy.sandbox import Sandbox, SandboxSettings
from tasks.batch.plan import plan_batch

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
MODELS = Path(__file__).parents[1] / "contract" / "models"
EDIT, MUSIC = "wan-ai/wan-2.7/edit", "elevenlabs/elevenlabs/music-generation"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(run_seconds=0.05, tiny_videos=True, models=MODELS)) as running:
        yield running


@pytest.fixture
def account(sandbox: Sandbox) -> RunComfyCredentials:
    return RunComfyCredentials(api_token=SecretStr(sandbox.token), base_url=sandbox.url, output_hosts=[sandbox.host])


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    Image.new("RGB", (320, 180), "navy").save(tmp_path / "a.png")
    Image.new("RGB", (320, 180), "teal").save(tmp_path / "b.png")
    rows = [
        {"prompt": "snow", "image_urls": ["a.png", "b.png"]},
        {"prompt": "fog", "image_urls": "b.png", "num_images": 1},
        {"model": MUSIC, "prompt": "piano", "music_length_ms": "5000"},
        {"model": "text-to-video", "prompt": "rain"},
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.slow
async def test_a_batch_and_its_shards_make_the_same_generations(
    manifest: str, sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Defaults name the model and an input; another worker reads the class of each row from the pin."""
    defaults = OrderDefaults(model=EDIT, inputs={"enable_prompt_expansion": False})
    before = sandbox.books().submissions_accepted
    plan = await plan_batch(manifest, account, media_store, defaults.given())
    store = media_store.get_store()
    shard = Shard(number=1, rows_key=store.key("batches/x/rows.jsonl"), outcomes_key=store.key("batches/x/ended.jsonl"))
    store.put(shard.rows_key, rows_to_json(plan.rows[:2]), content_type="application/x-ndjson")

    counts = await batch_shard(shard, account, media_store, polling=QUICK)
    state: Any = await batch(manifest, account, media_store, defaults=defaults, polling=QUICK, return_state=True)

    assert isinstance(state, State)
    report = await state.aresult()
    assert counts == {"archived": 2}
    assert (report.archived, report.counts) == (4, {"existing": 2, "archived": 2})
    assert sandbox.books().submissions_accepted == before + 4


@pytest.mark.slow
async def test_an_inbox_of_images_for_a_model(
    manifest: str, sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    store = media_store.get_store()
    store.put(store.key("in/a.png"), Path(manifest).with_name("a.png").read_bytes(), content_type="image/png")
    before = sandbox.books().submissions_accepted

    state: Any = await inbox(
        store.uri(store.key("in")), account, media_store,
        prompt="sun", model=EDIT, inputs=GivenInputs({"num_images": 2}), polling=QUICK, return_state=True,
    )  # fmt: skip

    report = await state.aresult()
    assert [len(one.uris) for one in report.received] == [2]
    assert sandbox.books().submissions_accepted == before + 1


def test_prefect_stores_no_signature_of_a_default() -> None:
    url = "https://example.com/a.png?X-Amz-Signature=0123456789abcdef"
    defaults = OrderDefaults(model=EDIT, inputs={"image_urls": [url]})

    assert "0123456789abcdef" not in defaults.model_dump_json() + repr(defaults)
    assert defaults.given()["image_urls"] == [url]
