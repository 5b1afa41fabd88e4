"""A request's generation is found by the request's id alone, and its result is recorded there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from runcomfy.batch.account import account_of
from runcomfy.errors import InvalidInput
from runcomfy.journal import Entry, EntryState, Journal, find_request, record_archived
from runcomfy.values import Archive, Result
from tests.runcomfy.journal.making import FailingStore, journal_at, spec_for

SERVICE = "https://service.example"
S = EntryState


def archive_of(request_id: str) -> Archive:
    result = Result(
        request_id=request_id, output_count=1, noticed_at=datetime.now(UTC), queued_seconds=None, running_seconds=None,
        polls=0, cost_usd=0.25,
    )  # fmt: skip
    return Archive(result=result, videos=())


async def generation(journal: Journal, prompt: str, *steps: tuple[EntryState, str | None]) -> Entry:
    """Write a generation that has come through these states, each with its request."""
    entry = spec_for(SERVICE, prompt).intent("host:1")
    for state, request_id in steps:
        attempt = entry.attempt + (state is S.INTENT)
        entry = entry.moved(state, worker="host:1", request_id=request_id, attempt=attempt)
    assert await journal.create(entry) is not None
    return entry


async def now(journal: Journal, entry: Entry) -> Entry:
    found = await journal.read(entry.generation_key)
    assert found is not None
    return found.entry


@pytest.fixture
def journal_store() -> FailingStore:
    return FailingStore()


@pytest.fixture
def journal(journal_store: FailingStore) -> Journal:
    return journal_at(journal_store)


async def test_the_request_of_any_attempt_is_found(journal: Journal) -> None:
    """With the generation, its model, and when it was accepted; one that no generation had is not."""
    entry = await generation(
        journal, "rain", (S.SUBMITTED, "first"), (S.FAILED, "first"), (S.INTENT, None), (S.SUBMITTED, "second")
    )

    first, second = await find_request(journal, "first"), await find_request(journal, "second")

    assert first is not None and second is not None
    assert (first.is_earlier, second.is_earlier) == (True, False)
    for known in (first, second):
        assert known.submission.request_id == known.request_id
        assert known.submission.generation_key == entry.generation_key
    assert first.submission.submitted_at == entry.history[1].at
    assert await find_request(journal, "third") is None


async def test_the_latest_entries_are_read_first_and_no_more_than_are_needed(
    journal_store: FailingStore, journal: Journal
) -> None:
    """Of thousands, a handful; if everything has to be read, the progress is reported."""
    for number in range(2500):
        await generation(journal, f"rain {number}", (S.SUBMITTED, f"r{number}"))
    long_ago = datetime.now(UTC) - timedelta(days=3)
    names = sorted(journal_store.names())
    for name in names[:-1]:
        journal_store._documents[name] = (journal_store._documents[name][0], long_ago)
    last = await journal.read(names[-1].removesuffix(".json"))
    assert last is not None
    journal_store.calls.clear()
    reported: list[tuple[int, int]] = []

    assert await find_request(journal, str(last.entry.request_id)) is not None
    few = journal_store.calls.count("read")
    assert await find_request(journal, "unknown", progress=lambda *seen: reported.append(seen)) is None

    assert few <= 8
    assert reported == [(1008, 2500), (2008, 2500)]


async def test_an_entry_is_not_read_again_for_each_request(journal_store: FailingStore, journal: Journal) -> None:
    """Fifty are read one after the other, as `archive_outputs.map` does; changes in the meantime are seen."""
    journal_store.where, journal_store.older_by_seconds = "one of a kind", 5.0
    entries = [await generation(journal, f"rain {number}", (S.SUBMITTED, f"r{number}")) for number in range(50)]
    journal_store.calls.clear()

    for number in range(50):
        assert await find_request(journal, f"r{number}") is not None
    read = journal_store.calls.count("read")
    assert await journal.advance(entries[0].generation_key, "r0", S.FAILED)
    current = await journal.read(entries[0].generation_key)
    assert current is not None
    again = entries[0].moved(S.SUBMITTED, worker="host:2", request_id="another")
    assert await journal.replace(current, again)

    assert read <= 50 + 50
    found = await find_request(journal, "another")
    assert found is not None and found.entry.generation_key == entries[0].generation_key


async def test_a_request_that_two_generations_name_is_given_to_neither(
    journal: Journal, journal_store: FailingStore
) -> None:
    """Until a person releases one, or one of them has the video."""
    journal_store.where = "s3://videos/clips/journal"
    one = await generation(journal, "rain", (S.SUBMITTED, "same"))
    other = await generation(journal, "snow", (S.SUBMITTED, "same"))

    with pytest.raises(InvalidInput, match="journal release") as caught:
        await find_request(journal, "same")
    for entry in (one, other):
        release = f"`prefect-runcomfy journal release {entry.generation_key[:12]} --bucket s3://videos/clips`"
        assert release in caught.value.message
    await journal.advance(other.generation_key, "same", S.RELEASED)
    released = await find_request(journal, "same")
    await record_archived(journal, other.generation_key, "same", archive_of("same"))
    archived = await find_request(journal, "same")

    assert released is not None and released.entry.generation_key == one.generation_key
    assert archived is not None and archived.entry.generation_key == other.generation_key


async def test_an_entry_of_a_later_version_is_passed_over(journal_store: FailingStore, journal: Journal) -> None:
    """And does not keep others from being found."""
    await generation(journal, "rain", (S.SUBMITTED, "known"))
    journal_store.create(f"{'f' * 64}.json", b'{"schema_version": 2}')

    assert await find_request(journal, "known") is not None
    assert await find_request(journal, "unknown") is None


@pytest.mark.parametrize("state", [S.FAILED, S.CANCELLED, S.REFUSED, S.RELEASED])
async def test_an_earlier_request_that_made_its_video_ends_the_generation(journal: Journal, state: EntryState) -> None:
    """The next run would pay once more: it finds the video instead."""
    last = None if state is S.REFUSED else "second"
    entry = await generation(
        journal, "rain", (S.SUBMITTED, "first"), (S.RELEASED, "first"), (S.INTENT, None), (state, last)
    )

    for _ in range(2):
        await record_archived(journal, entry.generation_key, "first", archive_of("first"))

    found = await now(journal, entry)
    assert (found.state, found.request_id, found.cost_usd) == (S.ARCHIVED, "first", 0.25)
    assert len(found.history) == len(entry.history) + 1
    assert found.request_ids == ["first", "second"][: 1 + (last is not None)]


@pytest.mark.parametrize("state", [S.INTENT, S.SUBMITTED, S.DETACHED, S.UNCERTAIN, S.EXPIRED, S.ARCHIVED])
async def test_an_earlier_request_does_not_disturb_a_later_one(journal: Journal, state: EntryState) -> None:
    """The later one goes on as it is, and the history has both, with what the earlier one cost."""
    last = None if state in (S.INTENT, S.UNCERTAIN) else "second"
    entry = await generation(
        journal, "rain", (S.SUBMITTED, "first"), (S.RELEASED, "first"), (S.INTENT, None), (state, last)
    )

    for _ in range(2):
        await record_archived(journal, entry.generation_key, "first", archive_of("first"))

    found = await now(journal, entry)
    assert account_of(found)._replace(known_usd=0, dearest_usd=0) == account_of(entry)._replace(
        unpriced=account_of(entry).unpriced - 1
    )
    assert found.history[-1].attempt == 1
    assert (found.state, found.request_id, found.attempt) == (state, last, entry.attempt)
    assert found.earlier_costs_usd == {"first": 0.25}
    assert [event.state for event in found.history if event.request_id == "first"][-1] is S.ARCHIVED
    assert len(found.history) == len(entry.history) + 1


async def test_an_uncertain_submission_whose_answer_named_it_is_archived(journal: Journal) -> None:
    """That it has files is the proof that it was accepted."""
    entry = await generation(journal, "rain", (S.UNCERTAIN, "named"))

    await record_archived(journal, entry.generation_key, "named", archive_of("named"))

    assert (await now(journal, entry)).state is S.ARCHIVED
