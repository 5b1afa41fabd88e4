"""What was set aside, in Prefect: no event says that it is there before a person has accepted it, by a form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import State

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.parameters import WrongParameter
from flows.reconcile import reconcile
from flows.review import review
from flows.text_to_video import text_to_video
from runcomfy.batch.results import BatchReport
from runcomfy.errors import InvalidInput, OutputRejected
from runcomfy.policy import Polling
from runcomfy.review import accept, choose
from runcomfy.sandbox import Sandbox
from runcomfy.values import ArchivedVideo
from tasks.pages import review as pages
from tasks.runtime.events import ASSET_MADE
from tests.flows.test_events import events, names

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
BLACK = "rain [sandbox: output=black]"


async def aside(prompt: str, account: RunComfyCredentials, store: MediaStore) -> ArchivedVideo:
    made = await text_to_video(prompt, account, store, polling=QUICK, on_defect="set_aside", contact_sheets=True)
    (video,) = made.videos
    assert video.set_aside and "/quarantine/" in video.key
    return video


async def run(store: MediaStore, **given: Any) -> State[int]:
    state: Any = await review(store, **given, return_state=True)
    assert isinstance(state, State)
    return state


async def page_of(state: State[Any], key: str) -> str:
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    async with get_client() as client:
        (artifact,) = await client.read_artifacts(artifact_filter=wanted)
    return f"{artifact.description}\n{artifact.data}"


async def test_what_is_set_aside_is_told_of_as_that_and_archived_when_it_is_accepted(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, prefect_api: str
) -> None:
    """The list shows it with its sheet; who accepted it, and why, is recorded; the event comes then; paid for once."""
    video = await aside(BLACK, account, media_store)
    before = names(await events(prefect_api, media_store, "runcomfy.generation.set-aside"))
    listed = await run(media_store)
    page = await page_of(listed, "runcomfy-review")
    key = page.partition("| `")[2][:12]

    accepted = await run(media_store, decision="accept", file=key, reason="a night scene, as *asked*", by="Ana")
    again = await run(media_store, decision="accept", file=key, by="Ben")
    made = await text_to_video(BLACK, account, media_store, polling=QUICK)
    after = names(await events(prefect_api, media_store, "runcomfy.generation.archived"))

    assert "runcomfy.generation.archived" not in before and "runcomfy.generation.set-aside" in before
    assert await listed.aresult() == 1 and "1 file waits for a decision" in page
    assert "**suspect**" in page and "The video is black" in page and "](data:image/jpeg;base64," in page
    assert f"prefect-runcomfy review accept {video.uri} --bucket" in page
    assert await accepted.aresult() == 0 == await again.aresult()
    (usual,) = made.videos
    assert usual.key == video.key.replace("quarantine/", "", 1) and not usual.set_aside
    assert usual.review is not None and (usual.review.by, usual.review.reason) == ("Ana", "a night scene, as *asked*")
    assert "runcomfy.generation.archived" in after
    assert r"as \*asked\*" in await page_of(accepted, "runcomfy-review")
    assert sandbox.books().submissions_accepted == 1


async def test_what_is_rejected_ends_runs_and_is_paid_for_once(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A run that finds it set aside shows how to decide; nobody in particular cannot decide."""
    video = await aside(BLACK, account, media_store)
    state: Any = await text_to_video(BLACK, account, media_store, polling=QUICK, return_state=True)
    own = await page_of(state, "runcomfy-generation")

    for given in ({"file": video.uri}, {"by": "Ana"}, {"file": "0" * 64, "by": "Ana"}):
        refused = await run(media_store, decision="reject", **given)
        assert isinstance(await refused.aresult(raise_on_failure=False), WrongParameter | InvalidInput)
    rejected = await run(media_store, decision="reject", file=video.uri, by="Ana", reason="too dark")

    assert "Set aside: a person has to decide" in own and f"review reject {video.uri}" in own
    assert rejected.message and "rejected by Ana" in rejected.message
    with pytest.raises(OutputRejected, match="too dark"):
        await text_to_video(BLACK, account, media_store, polling=QUICK)
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.slow
async def test_what_the_command_accepted_is_told_of_once_by_the_deployment(
    account: RunComfyCredentials, media_store: MediaStore, prefect_api: str
) -> None:
    """The command tells Prefect nothing; accepted again here, and again, the event and the asset come once."""
    video, there = await aside(BLACK, account, media_store), media_store.destination()
    await accept(there, await choose(there, video.uri), by="Ana")
    before = names(await events(prefect_api, media_store, "runcomfy.generation.set-aside"))

    for _ in range(2):
        assert await (await run(media_store, decision="accept", file=video.uri, by="Ben")).aresult() == 0
    usual = await text_to_video(BLACK, account, media_store, polling=QUICK)
    after = await events(prefect_api, media_store, "runcomfy.generation.archived", ASSET_MADE)

    assert "runcomfy.generation.archived" not in before
    assert names(after).count("runcomfy.generation.archived") == 1
    (told,) = [event for event in after if event["event"] == "runcomfy.generation.archived"]
    assert told["resource"]["prefect.resource.id"] == usual.videos[0].uri and told["payload"]["accepted_by"] == "Ana"
    assert [event["event"] for event in after].count(ASSET_MADE) == 1


async def test_the_operations_page_counts_what_waits(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside what else needs a person. The page of what waits says where it has not looked at all."""
    await aside(BLACK, account, media_store)

    state: Any = await reconcile(account, media_store, return_state=True)

    page = await page_of(state, "runcomfy-operations")
    assert "1 file that was set aside waits for a decision" in page and "1 needs a person" in page
    monkeypatch.setattr(pages, "_MOST_READ", 0)
    page, count = await pages.page_of(media_store)
    assert count == 0 and page.startswith("No file of these waits.") and "review list" in page


async def test_a_batch_says_what_it_set_aside_and_counts_what_a_person_accepted(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """It waits, and is no good file; accepted, it is one; rejected, the row fails, and was paid for all the same."""
    (tmp_path / "rows.csv").write_text(f"prompt\n{BLACK}\n{BLACK} again\n")
    given = {"polling": QUICK, "on_defect": "set_aside", "return_state": True}

    first: Any = await batch(str(tmp_path / "rows.csv"), account, media_store, **given)
    before: BatchReport = await first.aresult()
    keys = (await page_of(await run(media_store), "runcomfy-review")).split("| `")[1:3]
    await run(media_store, decision="accept", file=keys[0][:12], by="Ana")
    await run(media_store, decision="reject", file=keys[1][:12], by="Ana")
    second: Any = await batch(str(tmp_path / "rows.csv"), account, media_store, **given)
    after: BatchReport = await second.aresult(raise_on_failure=False)

    assert (before.set_aside, before.quality.good, before.usd_per_good_file) == (2, 0, None)
    page = await page_of(first, "runcomfy-batch")
    assert "2 set aside wait for a decision" in page and "prefect-runcomfy review list" in page
    assert (after.set_aside, after.quality.good, after.counts) == (0, 1, {"existing": 1, "failed": 1})
    assert after.usd_per_good_file == sandbox.books().usd_charged and sandbox.books().submissions_accepted == 2
