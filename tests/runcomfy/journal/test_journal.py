"""The journal's reads and writes, and what a person decides: on every state, and against every race."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from runcomfy.api.client import RunComfyClient
from runcomfy.api.refusals import ANOTHER_ACCOUNT
from runcomfy.errors import (
    ConfigurationError,
    GenerationCancelled,
    GenerationFailed,
    NoOutput,
    PollingFailed,
    QueueTimeout,
    RequestNotFound,
    RunTimeout,
    ServiceUnavailable,
    StorageError,
    StoreUnavailable,
)
from runcomfy.journal import (
    RESTARTABLE,
    Entry,
    EntryState,
    Journal,
    MemoryJournalStore,
    adopt,
    memory_journal_store,
    record_archived,
    record_end,
    record_outcome,
    release,
    watched_entries,
)
from runcomfy.sandbox import Sandbox
from tests.runcomfy.journal.making import FailingStore, Later, instantly, journal_at, spec_for, submit_for
from tests.runcomfy.journal.test_submit_once import archive_of

_S = EntryState
SERVICE = "https://model-api.runcomfy.net"


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[RunComfyClient]:
    async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
        yield client


@pytest.fixture
def journal() -> Journal:
    return journal_at(MemoryJournalStore())


async def put(
    journal: Journal, state: EntryState, *, prompt: str = "rain", service: str = SERVICE, **changes: Any
) -> Entry:
    current = await journal.create(spec_for(service, prompt).intent("other-host:1"))
    assert current is not None
    if state is _S.INTENT:
        return current.entry
    moved = await journal.replace(current, current.entry.moved(state, worker="other-host:1", **changes))
    assert moved is not None
    return moved.entry


async def present(journal: Journal, entry: Entry) -> Entry:
    found = await journal.read(entry.generation_key)
    assert found is not None
    return found.entry


# ---- reads and writes


async def test_an_entry_is_created_once_and_replaced_only_in_its_current_version(journal: Journal) -> None:
    """The second one gets nothing, and has to read again."""
    intent = spec_for(SERVICE).intent("host:1")
    current = await journal.create(intent)
    assert current is not None and current.entry == intent
    assert await journal.create(intent) is None

    moved = await journal.replace(current, intent.moved(_S.REFUSED, worker="host:1"))
    assert moved is not None
    assert await journal.replace(current, intent.moved(_S.UNCERTAIN, worker="host:2")) is None
    assert await present(journal, intent) == moved.entry


async def test_a_generation_that_was_never_submitted_has_no_entry(journal: Journal) -> None:
    """Neither to read nor to advance."""
    assert await journal.read("a" * 64) is None
    assert await journal.advance("a" * 64, "r1", _S.FAILED) is None


@pytest.mark.parametrize("call", ["read", "create", "replace", "check", "names"])
async def test_a_call_that_fails_in_the_store_is_retried_within_bounds(call: str) -> None:
    """Three failures are retried; a store that stays away is an error that may be retried."""
    journal_store = FailingStore()
    journal = journal_at(journal_store, retry_seconds=60, sleep=instantly)
    intent = spec_for(SERVICE).intent("host:1")

    async def everything() -> None:
        await journal.check()
        current = await journal.create(intent) or await journal.read(intent.generation_key)
        assert current is not None
        assert await journal.replace(current, intent.moved(_S.REFUSED, worker="host:1"))
        await journal.find(intent.generation_key)

    journal_store.failures[call] = 3
    await everything()
    assert journal_store.failures[call] == 0

    journal_store.failures[call] = -1
    journal = journal_at(journal_store, retry_seconds=0.1, sleep=instantly)
    with pytest.raises(StoreUnavailable):
        await everything()


async def test_a_permanent_failure_is_not_retried() -> None:
    """Wrong credentials stay wrong."""

    class Refusing(MemoryJournalStore):
        calls = 0

        def read(self, name: str) -> Any:
            self.calls += 1
            raise StorageError("Access denied.")

    journal_store = Refusing()
    with pytest.raises(StorageError):
        await journal_at(journal_store, retry_seconds=60, sleep=instantly).read("a" * 64)
    assert journal_store.calls == 1


async def test_an_entry_is_found_by_the_start_of_its_key(journal: Journal) -> None:
    """Eight digits at least, and only one that begins so."""
    keys = ["aaaaaaaa" + "0" * 56, "aaaaaaab" + "0" * 56, "bbbbbbbb" + "1" * 56, "bbbbbbbb" + "2" * 56]
    for key in keys:
        await journal.create(spec_for(SERVICE).intent("host:1").model_copy(update={"generation_key": key}))

    assert (await journal.find("aaaaaaaa")).entry.generation_key == keys[0]
    assert (await journal.find(keys[2])).entry.generation_key == keys[2]
    with pytest.raises(ConfigurationError, match="2 generations"):
        await journal.find("bbbbbbbb")
    with pytest.raises(ConfigurationError, match="no generation"):
        await journal.find("cccccccc")
    for no_key in ("", "aaaaaaa", "AAAAAAAA", "../../aa", "aaaaaaaa.json", "aaaaaaaa*", "g" * 64):
        with pytest.raises(ConfigurationError, match="eight"):
            await journal.find(no_key)


async def test_every_entry_is_yielded(journal: Journal) -> None:
    """Also where there are more than are read at once."""
    made = {(await put(journal, _S.INTENT, prompt=f"rain {number}")).generation_key for number in range(230)}

    assert {found.entry.generation_key async for found in journal.entries()} == made


async def test_notes_are_kept_beside_the_entries(journal: Journal) -> None:
    """They are no entries, and the last one stays."""
    assert await journal.read_note("watched") is None
    for note in (b"one", b"two"):
        await journal.write_note("watched", note)

    assert await journal.read_note("watched") == b"two"
    assert [found async for found in journal.entries()] == []
    assert await journal.modified() == {}


async def test_an_open_entry_is_watched_until_it_is_closed(journal: Journal) -> None:
    """Whatever was written last, and when: no open entry is left out, pass after pass."""
    made = {state: await put(journal, state, prompt=state, request_id="r1") for state in EntryState}

    for _ in range(3):
        watched = {found.entry.state for found in await watched_entries(journal)}
        assert watched == {
            _S.INTENT, _S.SUBMITTED, _S.DETACHED, _S.UNCERTAIN, _S.EXPIRED, _S.CANCELLED,
        }  # fmt: skip
    key = made[_S.ARCHIVED].generation_key
    await journal.advance(key, "r1", _S.DETACHED, file_is_gone=True)
    assert key in {found.entry.generation_key for found in await watched_entries(journal)}
    await journal.advance(made[_S.DETACHED].generation_key, "r1", _S.ARCHIVED)
    left = {found.entry.generation_key for found in await watched_entries(journal)}
    assert made[_S.DETACHED].generation_key not in left


async def test_an_entry_that_cannot_be_read_does_not_hide_the_others(journal: Journal) -> None:
    """An entry of a later version is left alone; the rest is reconciled all the same."""
    await put(journal, _S.DETACHED, request_id="r1")
    journal.store.create(f"{'f' * 64}.json", b'{"schema_version": 2}')

    assert len(await watched_entries(journal)) == 1


class Ahead(MemoryJournalStore):
    """A journal store whose clock was a day ahead when it wrote what is named."""

    names_ahead: tuple[str, ...] = ()

    def modified(self) -> Iterator[tuple[str, datetime]]:
        for name, at in super().modified():
            yield name, at + timedelta(days=name in self.names_ahead)


async def test_a_clock_that_was_ahead_does_not_hide_what_is_written_later() -> None:
    """A store's clock was a day ahead when it wrote, and was set right: what is open is found all the same."""
    journal_store = Ahead()
    journal = journal_at(journal_store)
    done = await put(journal, _S.ARCHIVED, prompt="done", request_id="r1")
    journal_store.names_ahead = (f"{done.generation_key}.json",)
    assert await watched_entries(journal) == []

    await put(journal, _S.DETACHED, prompt="open", request_id="r2")
    assert len(await watched_entries(journal)) == 1


def test_a_memory_has_a_name() -> None:
    """Two blocks of one bucket share what this process remembers; two buckets do not."""
    assert memory_journal_store("s3://one/") is memory_journal_store("s3://one/")
    assert memory_journal_store("s3://one/") is not memory_journal_store("s3://two/")


# ---- the outcome of a request


@pytest.mark.parametrize("state", list(EntryState))
async def test_news_of_another_request_is_ignored(journal: Journal, state: EntryState) -> None:
    """A late answer about an earlier attempt says nothing about this one."""
    entry = await put(journal, state, request_id="r2")

    for news in EntryState:
        assert await journal.advance(entry.generation_key, "r1", news) == entry


@pytest.mark.parametrize("state", [state for state in EntryState if state is not EntryState.INTENT])
async def test_an_outcome_that_cannot_follow_is_ignored_and_others_are_recorded(
    journal: Journal, state: EntryState
) -> None:
    """From every state, every other: so it may be recorded twice, and late."""
    for number, news in enumerate(EntryState):
        entry = await put(journal, state, prompt=f"rain {number}", request_id="r1")
        after = await journal.advance(
            entry.generation_key, "r1", news, reason="because", file_is_gone=True, cost_usd=0.25
        )

        assert after == await present(journal, entry)
        if entry.may_become(news):
            assert (after.state, after.reason, after.cost_usd, after.request_id) == (news, "because", 0.25, "r1")
        else:
            assert after == entry


async def test_an_entry_written_here_is_advanced_without_a_read() -> None:
    """The process that wrote last knows the current version; another one has to read it, once."""
    journal_store = FailingStore()
    entry = await put(Journal(journal_store), _S.SUBMITTED, request_id="r1")
    other = Journal(journal_store)
    journal_store.calls.clear()

    assert other.written(entry.generation_key) is None
    for state in (_S.DETACHED, _S.FAILED):
        moved = await other.advance(entry.generation_key, "r1", state)
        assert moved is not None and moved.state is state
        assert (known := other.written(entry.generation_key)) is not None and known.entry == moved

    assert journal_store.calls == ["read", "replace", "replace"]


async def test_a_later_write_of_another_process_counts(journal: Journal) -> None:
    """A remembered version that is not the current one is neither written over nor trusted."""
    entry = await put(journal, _S.SUBMITTED, request_id="r1")
    await Journal(journal.store).advance(entry.generation_key, "r1", _S.FAILED, reason="the other saw it")

    after = await journal.advance(entry.generation_key, "r1", _S.DETACHED, reason="late")

    assert (after.state, after.reason) == (_S.FAILED, "the other saw it")
    assert after == await present(journal, entry)


async def test_what_is_archived_stays_so_whatever_another_worker_says_later(journal: Journal) -> None:
    """Two waited for one request: one archived it, the other ran out of time. A file that is gone is looked for."""
    entry = await put(journal, _S.ARCHIVED, request_id="r1")

    late = await journal.advance(entry.generation_key, "r1", _S.DETACHED, reason="its waiting was over")
    assert late is not None and late.state is _S.ARCHIVED and late == await present(journal, entry)

    gone = await journal.advance(entry.generation_key, "r1", _S.DETACHED, reason="gone", file_is_gone=True)
    assert gone is not None and gone.state is _S.DETACHED


async def test_many_that_record_the_same_record_it_once(journal: Journal) -> None:
    """Twenty who saw the same leave one step in the history."""
    entry = await put(journal, _S.SUBMITTED, request_id="r1")

    await asyncio.gather(*(journal.advance(entry.generation_key, "r1", _S.FAILED) for _ in range(20)))

    assert [event.state for event in (await present(journal, entry)).history] == [_S.INTENT, _S.SUBMITTED, _S.FAILED]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (GenerationFailed("x", cost_usd=0.25), _S.FAILED),
        (GenerationCancelled("x"), _S.CANCELLED),
        (QueueTimeout("x"), _S.CANCELLED),
        (RunTimeout("x"), _S.DETACHED),
        (PollingFailed("x"), _S.DETACHED),
        (NoOutput("x"), _S.DETACHED),
        (RequestNotFound("x"), _S.EXPIRED),
        (RequestNotFound("x", error_code=ANOTHER_ACCOUNT), _S.SUBMITTED),
        (ServiceUnavailable("x"), _S.SUBMITTED),
        (StoreUnavailable("x"), _S.SUBMITTED),
        (asyncio.CancelledError(), _S.SUBMITTED),
        (ValueError("x"), _S.SUBMITTED),
    ],
)
async def test_the_end_of_the_waiting_is_recorded(journal: Journal, error: BaseException, state: EntryState) -> None:
    """An error that says nothing about the request leaves the entry as it is; it is raised unchanged."""
    entry = await put(journal, _S.SUBMITTED, request_id="r1")

    with pytest.raises(type(error)) as caught:
        async with record_outcome(journal_at(Later(journal.store)), entry.generation_key, "r1"):
            raise error

    assert caught.value is error
    now = await present(journal, entry)
    assert now.state is state
    assert now.cost_usd == (0.25 if state is _S.FAILED else None)


async def test_a_journal_that_cannot_be_written_does_not_hide_how_it_ended() -> None:
    """The failure is raised, not the store's; the next run finds it out again."""
    journal_store = FailingStore()
    journal = journal_at(journal_store)
    entry = await put(journal, _S.SUBMITTED, request_id="r1")
    journal_store.failures["replace"] = -1

    with pytest.raises(GenerationFailed):
        async with record_outcome(journal, entry.generation_key, "r1"):
            raise GenerationFailed("bad luck")
    assert await record_end(journal, entry.generation_key, "r1", _S.FAILED) is None


async def test_an_archive_that_cannot_be_recorded_is_an_error() -> None:
    """Archiving may be repeated, and records it then; once recorded, recording it again changes nothing."""
    journal_store = FailingStore()
    journal, archive = journal_at(journal_store), archive_of("r1")
    entry = await put(journal, _S.SUBMITTED, request_id="r1")
    journal_store.failures["replace"] = 1

    with pytest.raises(StoreUnavailable):
        await record_archived(journal, entry.generation_key, "r1", archive)
    await record_archived(journal, entry.generation_key, "r1", archive)
    recorded = await present(journal, entry)
    await record_archived(journal, entry.generation_key, "r1", archive)

    assert (recorded.state, recorded.archive) == (_S.ARCHIVED, archive)
    assert await present(journal, entry) == recorded


# ---- what a person decides


async def accepted(client: RunComfyClient, sandbox: Sandbox) -> str:
    """Return the id of a request that the service knows, and this journal does not."""
    return (await submit_for(client, journal_at(MemoryJournalStore()), spec_for(sandbox.url, "another"))).request_id


@pytest.mark.parametrize("state", [state for state in EntryState if state is not EntryState.INTENT])
async def test_adopting_in_every_state(
    client: RunComfyClient, journal: Journal, sandbox: Sandbox, state: EntryState
) -> None:
    """What is lost or has ended without a video is adopted; what has a request that can be collected is not."""
    entry = await put(journal, state, service=sandbox.url, request_id="r-before")
    found = await accepted(client, sandbox)

    if state in {_S.UNCERTAIN, _S.EXPIRED, *RESTARTABLE}:
        adopted = await adopt(client, journal, entry.generation_key[:8], found)
        assert (adopted.state, adopted.request_id) == (_S.SUBMITTED, found)
        assert adopted.request_ids == ["r-before", found]
        assert await adopt(client, journal, entry.generation_key, found) == adopted  # given twice, done once
    else:
        with pytest.raises(ConfigurationError, match="nothing to adopt"):
            await adopt(client, journal, entry.generation_key, found)
        adopted = entry
    assert await present(journal, entry) == adopted


async def test_adopting_beside_a_worker_that_submits(
    client: RunComfyClient, journal: Journal, sandbox: Sandbox
) -> None:
    """An intent is not adopted during its lease: its worker is about to record the outcome. After it, it is."""
    entry = await put(journal, _S.INTENT, service=sandbox.url)
    found = await accepted(client, sandbox)

    with pytest.raises(ConfigurationError, match="nothing to adopt"):
        await adopt(client, journal, entry.generation_key, found)
    old = journal_at(Later(journal.store))
    assert (await adopt(client, old, entry.generation_key, found)).request_id == found


async def test_only_a_request_that_the_service_knows_is_adopted(
    client: RunComfyClient, journal: Journal, sandbox: Sandbox
) -> None:
    """A typing error is found at once; a key that names no generation, or several, is refused."""
    entry = await put(journal, _S.UNCERTAIN, service=sandbox.url)

    with pytest.raises(RequestNotFound):
        await adopt(client, journal, entry.generation_key, "r-misspelt")
    assert await present(journal, entry) == entry
    with pytest.raises(ConfigurationError, match="no generation"):
        await adopt(client, journal, "0" * 64, await accepted(client, sandbox))


async def test_a_request_of_another_service_is_adopted_there(
    client: RunComfyClient, journal: Journal, sandbox: Sandbox
) -> None:
    """A sandbox's request is not the real service's."""
    entry = await put(journal, _S.UNCERTAIN)

    with pytest.raises(ConfigurationError, match="ask there"):
        await adopt(client, journal, entry.generation_key, await accepted(client, sandbox))
    assert await present(journal, entry) == entry


async def test_the_request_of_another_generation_is_not_adopted(
    client: RunComfyClient, journal: Journal, sandbox: Sandbox
) -> None:
    """Also where it is only in its history, and beside an entry that cannot be read."""
    found = await accepted(client, sandbox)
    other = await put(journal, _S.FAILED, prompt="snow", request_id=found)
    lost = await put(journal, _S.UNCERTAIN, service=sandbox.url)
    journal.store.create(f"{'f' * 64}.json", b"{}")

    with pytest.raises(ConfigurationError, match=f"generation {other.generation_key[:12]} already"):
        await adopt(client, journal, lost.generation_key, found)
    assert await present(journal, lost) == lost


@pytest.mark.parametrize("state", list(EntryState))
async def test_releasing_in_every_state(journal: Journal, state: EntryState) -> None:
    """What may be running or lost is released, once; what is archived, submitted just now, or free anyway is not."""
    entry = await put(journal, state, request_id="r1")

    if state in {_S.UNCERTAIN, _S.EXPIRED, _S.SUBMITTED, _S.DETACHED, _S.ERASED}:
        released = await release(journal, entry.generation_key[:8])
        assert released.state is _S.RELEASED
        assert released.request_ids == ["r1"]
        assert await release(journal, entry.generation_key) == released
    elif state is _S.RELEASED:
        assert await release(journal, entry.generation_key) == entry
        released = entry
    else:
        with pytest.raises(ConfigurationError, match=r"just now|variation|submits it again anyway"):
            await release(journal, entry.generation_key)
        released = entry
    assert await present(journal, entry) == released


async def test_an_old_intent_is_released(journal: Journal) -> None:
    """Its worker is dead, and no other run has to report that first."""
    entry = await put(journal, _S.INTENT)

    released = await release(journal_at(Later(journal.store)), entry.generation_key)
    assert released.state is _S.RELEASED


async def test_a_released_request_that_finishes_after_all_is_kept(journal: Journal) -> None:
    """The worker that waits for it still archives it, and the next run returns that; nothing is paid for again."""
    entry = await put(journal, _S.SUBMITTED, request_id="r1")
    await release(journal, entry.generation_key)

    await record_archived(journal, entry.generation_key, "r1", archive_of("r1"))
    assert (await present(journal, entry)).state is _S.ARCHIVED


async def test_two_people_at_once(client: RunComfyClient, journal: Journal, sandbox: Sandbox) -> None:
    """One adopts, one releases: whatever the order, one entry that says what it is, and a history of both."""
    entry = await put(journal, _S.UNCERTAIN, service=sandbox.url)
    found = await accepted(client, sandbox)

    await asyncio.gather(
        adopt(client, journal, entry.generation_key, found), release(journal, entry.generation_key),
        return_exceptions=True,
    )  # fmt: skip

    now = await present(journal, entry)
    assert now.state in (_S.SUBMITTED, _S.RELEASED)
    assert now.request_ids == [found]
