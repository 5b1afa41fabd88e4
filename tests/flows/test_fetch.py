"""What is archived by a request's id alone: as its own generation, in its own place, and never as something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blocks import MediaStore, RunComfyCredentials
from flows.fetch_request import fetch_request
from runcomfy.catalogue import update
from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.journal import Entry, EntryState, GenerationSpec, release
from runcomfy.models import IMAGE_TO_VIDEO, TEXT_TO_VIDEO, TextToVideo
from runcomfy.sandbox import Sandbox
from tasks import archive_outputs
from tests.flows.test_catalogue import PRICE, rows_of
from tests.runcomfy.journal.making import submit_for, submit_with_new_journal

ANOTHER = "some-org/Other-1/model"


async def given_up(sandbox: Sandbox, account: RunComfyCredentials, store: MediaStore) -> str:
    """Submit a generation that nobody waits for, and let it finish; return its request."""
    place = store.get_store()
    spec = GenerationSpec(TextToVideo(prompt="rain", seed=7), account.base_url, store=place.uri(place.prefix))
    async with account.get_client() as client:
        submission = await submit_for(client, store.get_journal(), spec)
    sandbox.wait_for_end(submission.request_id)
    return submission.request_id


async def of_another_program(sandbox: Sandbox, account: RunComfyCredentials) -> str:
    """Make a request that is in no journal."""
    async with account.get_client() as client:
        request = await submit_with_new_journal(client, TextToVideo(prompt="elsewhere"))
    sandbox.wait_for_end(request.request_id)
    return request.request_id


async def entry_in(store: MediaStore) -> Entry:
    (found,) = [found async for found in store.get_journal().entries()]
    return found.entry


def files(store: MediaStore) -> list[str]:
    """Return the names of the archived files below the prefix."""
    place = store.get_store()
    found = (each.key.removeprefix(place.prefix) for each in place.list(place.prefix))
    return [name for name in found if name.endswith(".mp4")]


def provenance(store: MediaStore, name: str) -> dict[str, Any]:
    place = store.get_store()
    return dict(json.loads(place.read(place.key(f"{name}.json"), limit_bytes=10**6)))


async def test_a_wrong_model_is_refused_and_none_is_needed(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The error names both models and the command; then it is archived as what it is, and counted once."""
    request_id = await given_up(sandbox, account, media_store)

    for wrong in (IMAGE_TO_VIDEO, ANOTHER):
        with pytest.raises(InvalidInput) as caught:
            await fetch_request(request_id, wrong, account, media_store)
        for named in (TEXT_TO_VIDEO, wrong, f"prefect-runcomfy fetch {request_id} --bucket s3://videos/"):
            assert named in caught.value.message
    assert files(media_store) == []
    (video,) = await fetch_request(request_id, None, account, media_store)

    assert files(media_store) == [f"{TEXT_TO_VIDEO}/{request_id}-0.mp4"]
    entry, told = await entry_in(media_store), provenance(media_store, files(media_store)[0])
    assert (entry.state, entry.cost_usd) == (EntryState.ARCHIVED, 0.25)
    assert told["generation_key"] == entry.generation_key and told["submitted_at"]
    assert (told["inputs"], told["seed"]) == (entry.inputs, 7)
    assert any("720p" in warning for warning in video.warnings)  # it was compared with what was asked for
    await update(media_store.get_store(), media_store.get_journal())
    (row,) = rows_of(media_store)
    assert (row["cost_usd"], row["requests_without_cost"], row["output_count"]) == (entry.cost_usd, 0, 1)


async def test_an_archived_request_is_found_without_the_service(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Nothing is requested or read again, unless its file is gone: then it is fetched once more."""
    request_id = await given_up(sandbox, account, media_store)
    (made,) = await archive_outputs(request_id, account, media_store)
    before = sandbox.books()
    calls = (before.polls, before.downloads)

    (again,) = await archive_outputs(request_id, account, media_store)
    after = sandbox.books()

    assert again == made.model_copy(update={"already_archived": True})
    assert (after.polls, after.downloads) == calls
    place = media_store.get_store()
    for key in (again.key, again.provenance_key):
        place.delete(key)
    (brought,) = await archive_outputs(request_id, account, media_store, model_id=TEXT_TO_VIDEO)
    assert (brought.key, brought.already_archived) == (again.key, False)
    assert (await entry_in(media_store)).state is EntryState.ARCHIVED


async def test_an_earlier_attempt_of_a_generation_is_known_too(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A person released it, and it is not paid for a second time once its video is archived."""
    request_id = await given_up(sandbox, account, media_store)
    journal = media_store.get_journal()
    await release(journal, (await entry_in(media_store)).generation_key)
    later = await given_up(sandbox, account, media_store)
    await archive_outputs(later, account, media_store)

    (video,) = await archive_outputs(request_id, account, media_store)

    told = provenance(media_store, f"{TEXT_TO_VIDEO}/{request_id}-0.mp4")
    entry = await entry_in(media_store)
    assert (video.request_id, told["generation_key"]) == (request_id, entry.generation_key)
    assert (entry.state, entry.request_id, entry.request_ids) == (EntryState.ARCHIVED, later, [request_id, later])
    await update(media_store.get_store(), journal)
    (row,) = rows_of(media_store)
    assert (row["cost_usd"], row["earlier_cost_usd"]) == (PRICE, PRICE)


async def test_any_model_may_be_given_for_an_unknown_request(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Without one, the error says what to type, with a journal and without."""
    request_id = await of_another_program(sandbox, account)

    for store in (media_store, media_store.model_copy(update={"journal": "none"})):
        with pytest.raises(InvalidInput, match=f"fetch {request_id} --model MODEL --bucket"):
            await archive_outputs(request_id, account, store)
    for nonsense in ("sora", "a//b", "../x/y", " "):
        with pytest.raises(InvalidInput):
            await archive_outputs(request_id, account, media_store, model_id=nonsense)
    assert files(media_store) == []
    (video,) = await fetch_request(request_id, ANOTHER, account, media_store)

    assert files(media_store) == [f"{ANOTHER}/{request_id}-0.mp4"]
    assert provenance(media_store, files(media_store)[0])["model_id"] == ANOTHER
    assert video.request_id == request_id


async def test_a_generation_of_another_store_is_archived_there(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """If several stores share a journal, it records where each generation belongs."""
    shared = f"s3://videos/{media_store.prefix}-journal"
    own = media_store.model_copy(update={"journal": shared})
    other = media_store.model_copy(update={"journal": shared, "prefix": f"{media_store.prefix}-other"})
    request_id = await given_up(sandbox, account, own)

    await archive_outputs(request_id, account, other)

    assert (len(files(own)), files(other)) == (1, [])
    assert (await entry_in(own)).state is EntryState.ARCHIVED


async def test_the_task_asks_the_journal_too(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """With an id alone, with a result, and with a submission that names another model than the argument."""
    request_id = await given_up(sandbox, account, media_store)
    entry = await entry_in(media_store)

    with pytest.raises(InvalidInput, match=TEXT_TO_VIDEO):
        await archive_outputs(request_id, account, media_store, model_id=IMAGE_TO_VIDEO)
    (video,) = await archive_outputs(
        request_id, account, media_store, inputs=TextToVideo(prompt="what nobody asked for", num_frames=97)
    )

    assert provenance(media_store, video.key.removeprefix(media_store.get_store().prefix))["inputs"] == entry.inputs
    assert not any("97" in warning for warning in video.warnings)


async def test_a_request_of_another_service_is_not_looked_for_here(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A sandbox's request is not the real service's, whatever its id."""
    request_id = await given_up(sandbox, account, media_store)
    elsewhere = account.model_copy(update={"base_url": "http://127.0.0.1:9"})

    with pytest.raises(ConfigurationError, match="ask there"):
        await archive_outputs(request_id, elsewhere, media_store)
