"""What a run knows of earlier runs: which models worked within a day, and at which one a run was stopped since."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runcomfy.journal import (
    Entry,
    EntryState,
    Journal,
    MemoryJournalStore,
    StopNote,
    note_archived,
    note_stops,
    recent_proof,
)
from runcomfy.models import TEXT_TO_VIDEO
from tests.runcomfy.journal.making import instantly, journal_at, spec_for

SERVICE, STORE = "https://model-api.runcomfy.net", "s3://videos/"
NOTE = ".archived-lately.json"


def stop(hours_ago: float = 0.0) -> StopNote:
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    return StopNote(error_type="ArchiveError", error_code="301", alike=5, setting="first_at_once", at=at)


def archived(hours_ago: float = 0.0) -> Entry:
    intent = spec_for(SERVICE, store=STORE).intent("w")
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    return intent.model_copy(update={"state": EntryState.ARCHIVED, "updated_at": at})


@pytest.fixture
def journal() -> Journal:
    journal_store = MemoryJournalStore()
    journal_store.where = f"memory {id(journal_store)}"
    return journal_at(journal_store, sleep=instantly)


async def known(journal: Journal, *entries: Entry, **other: Any) -> tuple[bool, bool]:
    """Return whether the model was archived, and whether it was stopped."""
    given = {"service": SERVICE, "store": STORE, "model_ids": [TEXT_TO_VIDEO]} | other
    lately = await recent_proof(journal, entries=entries, **given)
    return bool(lately.archived), bool(lately.stopped)


async def test_a_stop_is_known_until_one_is_archived(journal: Journal) -> None:
    """Also if one was noted a moment before the stop; otherwise the note is not repeated."""
    for _ in range(2):
        await note_archived(journal, archived())
        assert await known(journal) == (True, False)
        await note_stops(journal, SERVICE, STORE, {TEXT_TO_VIDEO: stop()})
        assert await known(journal) == (True, True)


async def test_a_process_that_finds_a_stop_notes_the_next_that_is_archived(journal: Journal) -> None:
    """Whatever it has noted before another process was stopped."""
    await note_archived(journal, archived())
    note = json.loads(journal.store.read(NOTE).body)  # type: ignore[union-attr]
    note["stops"] = {name: json.loads(stop().model_dump_json()) for name in note["archived_at"]}
    await journal.write_note(NOTE[1:].removesuffix(".json"), json.dumps(note).encode())
    assert await known(journal) == (True, True)

    await note_archived(journal, archived())
    assert await known(journal) == (True, False)


async def test_a_stop_is_that_of_its_service_store_and_model(journal: Journal) -> None:
    """And is over after a day."""
    await note_stops(journal, SERVICE, STORE, {TEXT_TO_VIDEO: stop()})
    for other in ({"service": "https://other.example"}, {"store": "s3://other/"}, {"model_ids": ["another"]}):
        assert await known(journal, **other) == (False, False)

    await note_stops(journal, SERVICE, STORE, {TEXT_TO_VIDEO: stop(hours_ago=25)})
    assert await known(journal) == (False, False)


async def test_an_entry_counts_only_if_it_was_archived_after_the_stop(journal: Journal) -> None:
    """The rows of a manifest that were made before the cause arose are no sign that it is over."""
    await note_stops(journal, SERVICE, STORE, {TEXT_TO_VIDEO: stop(hours_ago=2)})

    assert await known(journal, archived(hours_ago=3)) == (True, True)
    assert await known(journal, archived(hours_ago=1)) == (True, False)


async def test_notes_that_come_at_the_same_time_are_all_kept(journal: Journal) -> None:
    """A stop is written until it is kept; none is lost to another's."""
    models = [f"model {number}" for number in range(8)]
    await asyncio.gather(*(note_stops(journal, SERVICE, STORE, {model: stop()}) for model in models))

    lately = await recent_proof(journal, SERVICE, STORE, models)
    assert sorted(lately.stopped) == models


@pytest.mark.parametrize("body", [b"no json", b'{"archived_at": 7}', b'{"schema_version": 1, "archived_at": {}}'])
async def test_a_note_of_another_version_is_no_obstacle(journal: Journal, body: bytes) -> None:
    """What cannot be read says nothing, and is replaced."""
    await journal.write_note(NOTE[1:].removesuffix(".json"), body)
    assert await known(journal) == (False, False)
    await note_stops(journal, SERVICE, STORE, {TEXT_TO_VIDEO: stop()})
    assert await known(journal) == (False, True)
