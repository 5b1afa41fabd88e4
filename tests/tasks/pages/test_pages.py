"""The pages of runs with many generations: what is missing and why, once for each cause, and what to do about it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.reconcile import reconcile
from flows.text_to_video import text_to_video
from runcomfy.errors import RunTimeout, UncertainSubmission
from runcomfy.models import TextToVideo, generation_key
from runcomfy.policy import Deadlines, Polling
from runcomfy.sandbox import Sandbox

ROOT = Path(__file__).parents[3]
QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
SOON = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.3)


@pytest.fixture(autouse=True)
def prefect(prefect_api: str) -> None:
    """Every test here runs on the test server."""


async def shown_by(flow_run_id: UUID | None) -> dict[str, tuple[str, str]]:
    """Return the description and the data of each artifact of a run, by its key."""
    assert flow_run_id is not None
    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        )
    return {one.key: (str(one.description), str(one.data)) for one in found if one.key}


async def test_a_batch_shows_posters_causes_and_what_to_do(
    account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Each cause is shown once, with its rows; the files are links; a prompt is plain text."""
    rows = ["prompt,seed"]
    rows += [f"rain <img src=x onerror=alert(1)> *{seed}*,{seed}" for seed in range(3)]
    rows += [f"rain [sandbox: result=failed],{seed}" for seed in range(2)]
    rows += ["rain [sandbox: submit=lost_answer],1"]
    (tmp_path / "scenes.csv").write_text("\n".join(rows) + "\n")

    state = await batch(str(tmp_path / "scenes.csv"), account, media_store, polling=QUICK, return_state=True)

    shown = await shown_by(state.state_details.flow_run_id)
    description, page = shown["runcomfy-batch"]
    assert description == "3 of 6 videos, 1.50 USD"  # one that is uncertain counts at the price that was seen
    assert page.count("](data:image/jpeg;base64,") == 3
    assert page.count("`GenerationFailed`") == 1 and "**2 failed** (`GenerationFailed`): line 5, line 6." in page
    assert "journal list --bucket" in page
    endpoint = media_store.get_store().endpoint_url
    assert f"[results.csv]({endpoint}/videos/" in page
    table = json.loads(shown["runcomfy-batch-rows"][1])
    assert table[-1]["prompt"] == "rain \\<img src=x onerror=alert(1)\\> \\*2\\*"


async def test_a_reconcile_shows_what_waits_for_a_person_and_the_commands(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The uncertain one first, then what only needs time."""
    lost = "rain [sandbox: submit=lost_answer] <b>|</b>"
    with pytest.raises(UncertainSubmission):
        await text_to_video(lost, account, media_store, polling=QUICK)
    sandbox.hold(queue=False, runs=True)
    with pytest.raises(RunTimeout):
        await text_to_video("wind", account, media_store, deadlines=SOON, polling=QUICK)

    state = await reconcile(account, media_store, abandoned_after_seconds=0, return_state=True)

    description, page = (await shown_by(state.state_details.flow_run_id))["runcomfy-journal"]
    key, where = generation_key(TextToVideo(prompt=lost))[:12], f"--bucket s3://videos/{media_store.prefix}"
    assert description == "2 open generations looked at, 0 finished, 1 wait for a person."
    assert f"prefect-runcomfy journal adopt {key} REQUEST_ID {where}\n" in page
    assert f"prefect-runcomfy journal release {key} {where}\n" in page
    assert page.index(key) < page.index("### The others") < page.index("**detached**")
    assert "\\<b\\>|\\</b\\>" in page


def test_the_page_lists_exactly_the_artifacts() -> None:
    """By its key, in the table of `docs/prefect.md`."""
    made = {
        key
        for file in (ROOT / "tasks").rglob("*.py")
        for key in re.findall(r'key="(runcomfy-[a-z-]+)"', file.read_text())
    }
    page = (ROOT / "docs" / "prefect.md").read_text(encoding="utf-8")

    assert made == set(re.findall(r"^\| `(runcomfy-[a-z-]+)` \|", page, re.MULTILINE))
