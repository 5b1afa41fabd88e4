"""What the journal and the archive know of the rows of a batch before they are run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runcomfy.archiving import still_stands
from runcomfy.batch.budget import cost_so_far
from runcomfy.batch.plan import PlannedRow
from runcomfy.journal.entry import OPEN, Entry, EntryState
from runcomfy.journal.journal import Journal
from runcomfy.journal.spec import known_key
from runcomfy.outcomes import Outcome, OutcomeStatus
from runcomfy.store import Store

__all__ = ["Standing", "known_rows", "look_up"]

_READING_AT_ONCE = 32


@dataclass(frozen=True)
class Standing:
    """What the journal knows of rows before a run."""

    entries: Mapping[str, Entry]
    existing: Mapping[int, Outcome]
    """The outcomes of those that are archived, by line."""

    def cost_of_each(self, rows: Sequence[PlannedRow], price_usd: float) -> dict[str, float]:
        """Return what each row has cost until now, by its label, US dollars; unknown costs at this price."""
        return {row.label: cost_so_far(self.entries.get(row.generation_key), price_usd) for row in rows}

    def spent_usd(self, rows: Sequence[PlannedRow], price_usd: float) -> float:
        """Return what these rows have cost until now, whichever run paid, US dollars; unknown costs at this price."""
        return sum(self.cost_of_each(rows, price_usd).values())

    def paid_before(self, row: PlannedRow) -> bool:
        """Whether a row has a request that is not at its end: to follow it costs nothing more."""
        entry = self.entries.get(row.generation_key)
        return entry is not None and entry.state in OPEN

    def to_do(self, rows: list[PlannedRow]) -> list[PlannedRow]:
        """Return the rows that have no video yet."""
        return [row for row in rows if row.line not in self.existing]


async def known_rows(rows: Sequence[PlannedRow], journal: Journal) -> list[PlannedRow]:
    """Return the rows with the keys that the journal has them under: for some texts an earlier version's.

    Raises:
        StorageError: the journal could not be read.
    """
    gate = asyncio.Semaphore(_READING_AT_ONCE)

    async def known(row: PlannedRow) -> PlannedRow:
        sha256 = row.staged.sha256 if row.staged else None
        async with gate:
            key = await known_key(
                journal, row.order.inputs(row.staged), image_sha256=sha256, variation=row.order.variation
            )
        return row if key == row.generation_key else row.model_copy(update={"generation_key": key})

    return list(await asyncio.gather(*map(known, rows)))


async def look_up(rows: Sequence[PlannedRow], journal: Journal, store: Store) -> Standing:
    """Return what is known of these rows.

    Raises:
        StorageError: the journal or the archive could not be read.
    """
    entries = await _read_entries(rows, journal)
    return Standing(entries, await _existing(rows, entries, store))


async def _read_entries(rows: Sequence[PlannedRow], journal: Journal) -> dict[str, Entry]:
    """Return what the journal knows of these rows, by key."""
    gate, found = asyncio.Semaphore(_READING_AT_ONCE), dict[str, Entry]()

    async def read(key: str) -> None:
        async with gate:
            if version := await journal.read(key):
                found[key] = version.entry

    await asyncio.gather(*(read(row.generation_key) for row in rows))
    return found


async def _existing(rows: Sequence[PlannedRow], entries: Mapping[str, Entry], store: Store) -> dict[int, Outcome]:
    """Return the outcome of each row whose video is in the archive already, by line: two small calls for each file.

    Raises:
        StorageError: the store could not be read.
    """
    gate, found = asyncio.Semaphore(_READING_AT_ONCE), dict[int, Outcome]()

    async def look(row: PlannedRow) -> None:
        entry = entries.get(row.generation_key)
        if entry is None or entry.state is not EntryState.ARCHIVED or entry.archive is None:
            return
        async with gate:
            if await asyncio.to_thread(still_stands, entry.archive.videos, store):
                found[row.line] = Outcome(
                    label=row.label,
                    status=OutcomeStatus.EXISTING,
                    generation_key=row.generation_key,
                    request_id=entry.request_id,
                    uris=tuple(video.uri for video in entry.archive.videos),
                    cost_usd=entry.cost_usd,
                )

    await asyncio.gather(*map(look, rows))
    return found
