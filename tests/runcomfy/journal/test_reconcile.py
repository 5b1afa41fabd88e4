"""Reconciling reads the open generations and what has changed; not every generation there ever was."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runcomfy.journal import (
    BucketJournalStore,
    EntryState,
    GenerationSpec,
    Journal,
    MemoryJournalStore,
    watched_entries,
)
from runcomfy.journal.stores import Stored
from runcomfy.models import TextToVideo
from runcomfy.storage.store import Store


class Counting:
    """A journal that counts the entries it reads."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.read = 0
        read = journal.store.read

        def counted(name: str) -> Stored | None:
            self.read += not name.startswith(".")
            return read(name)

        journal.store.read = counted  # type: ignore[method-assign]

    async def watched(self, skew: timedelta = timedelta(hours=1)) -> tuple[set[str], int]:
        """Return the prompts of what is watched, and how many entries were read for that."""
        self.read = 0
        found = await watched_entries(self.journal, skew=skew)
        return {str(version.entry.inputs["prompt"]) for version in found}, self.read

    async def write(self, prompt: str, state: EntryState) -> None:
        spec = GenerationSpec(TextToVideo(prompt=prompt), "https://service")
        found = await self.journal.read(spec.key) or await self.journal.create(spec.intent("a test"))
        assert found is not None
        assert await self.journal.replace(found, found.entry.moved(state, worker="a test", request_id="r"))


@pytest.fixture(params=["bucket", "memory"])
def counting(request: pytest.FixtureRequest, store: Store) -> Counting:
    stores = {"bucket": lambda: BucketJournalStore(store), "memory": MemoryJournalStore}
    return Counting(Journal(stores[request.param]()))


async def test_open_entries_are_found_and_closed_ones_are_read_once(counting: Counting) -> None:
    """The margin for clocks is an hour; without it, what was closed at the last pass is not read again."""
    none = timedelta(microseconds=-1)
    for number in range(5):
        await counting.write(f"done {number}", EntryState.ARCHIVED)
    await counting.write("open", EntryState.DETACHED)
    await counting.write("waits", EntryState.UNCERTAIN)

    assert await counting.watched(none) == ({"open", "waits"}, 7)
    assert await counting.watched(none) == ({"open", "waits"}, 2)
    await counting.write("open", EntryState.ARCHIVED)
    assert await counting.watched(none) == ({"waits"}, 2)
    assert await counting.watched(none) == ({"waits"}, 1)


async def test_within_the_margin_nothing_is_overlooked(counting: Counting) -> None:
    """What was written just before the last pass, by a machine whose clock is behind, is read again."""
    await counting.write("done", EntryState.ARCHIVED)
    assert await counting.watched() == (set(), 1)
    await counting.write("done", EntryState.DETACHED)

    assert (await counting.watched())[0] == {"done"}


async def test_a_note_that_cannot_be_read_costs_one_full_pass(counting: Counting) -> None:
    """Nothing is lost with it."""
    await counting.write("open", EntryState.SUBMITTED)
    await counting.journal.write_note("watched", b"not a note")

    assert await counting.watched() == ({"open"}, 1)
    assert await watched_entries(Journal(MemoryJournalStore())) == []
