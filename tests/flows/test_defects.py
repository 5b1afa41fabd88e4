"""What a run says of defects and contact sheets itself: it counts, whatever the stored block says."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.schemas.objects import State

from blocks import MediaStore, RunComfyCredentials
from flows.batch_shard import batch_shard
from flows.text_to_video import text_to_video
from runcomfy.batch.plan import rows_to_json
from runcomfy.batch.results import outcomes_from_json
from runcomfy.batch.shard import Shard
from runcomfy.errors import DefectiveOutput
from runcomfy.policy import Polling
from runcomfy.sandbox import Sandbox
from tasks.batch.plan import plan_batch

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)


async def test_a_run_chooses_for_itself(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The block keeps what it says; the sheet is beside the video, and nothing is paid for again."""
    black = "rain [sandbox: output=black]"

    with pytest.raises(DefectiveOutput):
        await text_to_video(black, account, media_store, polling=QUICK, on_defect="fail", contact_sheets=True)
    kept = await text_to_video(black, account, media_store, polling=QUICK)

    (video,) = kept.videos
    assert video.contact_sheet_key and media_store.get_store().head(video.contact_sheet_key) is not None
    assert (media_store.on_defect, media_store.contact_sheets) == ("keep", False)
    assert sandbox.books().submissions_accepted == 1


async def test_a_shard_takes_the_choices_of_its_batch(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Any
) -> None:
    """It gets the stored block, and beside it what the batch was told."""
    manifest = tmp_path / "rows.csv"
    manifest.write_text("prompt\nrain [sandbox: output=black]\n")
    store = media_store.get_store()
    plan = await plan_batch(str(manifest), account, media_store, {}, allow_placeholder_prompts=False)
    shard = Shard(number=1, rows_key=store.key("batches/one.rows"), outcomes_key=store.key("batches/one.outcomes"))
    store.put(shard.rows_key, rows_to_json(plan.rows), content_type="application/x-ndjson")

    state: Any = await batch_shard(shard, account, media_store, polling=QUICK, on_defect="fail", return_state=True)

    assert isinstance(state, State) and await state.aresult() == {"failed": 1}
    (outcome,) = outcomes_from_json(store.read(shard.outcomes_key, limit_bytes=100_000)).values()
    assert outcome.error_type == DefectiveOutput.__name__ and outcome.uris
