"""What the journal and the archive know of the rows of a batch, before they are run and at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from runcomfy.archive.archive import verify_exists
from runcomfy.batch.account import account_of
from runcomfy.batch.plan import PlannedRow
from runcomfy.generation.verdicts import verdicts_of
from runcomfy.journal.entry import OPEN, Entry, EntryState
from runcomfy.journal.journal import Journal
from runcomfy.journal.spec import known_key
from runcomfy.storage.store import Store
from runcomfy.values import Outcome, OutcomeStatus

__all__ = ["RowStatus", "known_rows", "look_up", "true_outcome"]

_READING_AT_ONCE = 32
_S, _O = EntryState, OutcomeStatus
_NOT_SENT = (_O.REFUSED, _O.NOT_STARTED)
_BY_STATE = {
    _S.INTENT: _O.DETACHED,
    _S.SUBMITTED: _O.DETACHED,
    _S.DETACHED: _O.DETACHED,
    _S.ARCHIVED: _O.DETACHED,  # its file is gone: it is fetched again, at no cost
    _S.UNCERTAIN: _O.UNCERTAIN,
    _S.EXPIRED: _O.UNCERTAIN,
    _S.CANCELLED: _O.CANCELLED,
}


@dataclass(frozen=True)
class RowStatus:
    """What the journal knows of rows."""

    entries: Mapping[str, Entry]
    existing: Mapping[int, Outcome]
    """The outcomes of those that are archived, by line."""

    def cost_usd(self, rows: Sequence[PlannedRow], price_usd: float, not_sent: Collection[str] = ()) -> float:
        """Return what these rows have cost until now, US dollars, whichever run paid.

        A request of unknown cost counts as the dearest that is known, or at this price if that is more.

        Args:
            rows: The rows.
            price_usd: What a request of unknown cost is taken to cost.
            not_sent: The generations whose current intent costs nothing, since it was not sent.
        """
        accounts = [account_of(self.entries.get(row.generation_key)) for row in rows]
        intents = [row.generation_key in not_sent for row in rows]
        price = max(price_usd, *(account.dearest_usd for account in accounts), 0.0)
        return sum(account.cost_usd(price) for account in accounts) - sum(intents) * price

    def paid_before(self, row: PlannedRow) -> bool:
        """Whether a row has a request that can be polled, waits for a person, or was erased: it costs nothing more."""
        entry = self.entries.get(row.generation_key)
        return entry is not None and (entry.state in OPEN or entry.state in (EntryState.ARCHIVED, EntryState.ERASED))

    def is_held(self, row: PlannedRow) -> bool:
        """Whether a person erased or rejected the row's generation, which is not paid for until it is released."""
        entry = self.entries.get(row.generation_key)
        return entry is not None and (entry.state is EntryState.ERASED or entry.rejected is not None)

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
        async with gate:
            key = await known_key(journal, row.order.inputs(row.staged), row.staged, variation=row.order.variation)
        return row if key == row.generation_key else row.model_copy(update={"generation_key": key})

    return list(await asyncio.gather(*map(known, rows)))


async def look_up(rows: Sequence[PlannedRow], journal: Journal, store: Store) -> RowStatus:
    """Return what is known of these rows.

    Raises:
        StorageError: the journal or the archive could not be read.
    """
    entries = await _read_entries(rows, journal)
    return RowStatus(entries, await _existing(rows, entries, store))


def true_outcome(outcome: Outcome, entry: Entry | None) -> Outcome:
    """Return the outcome of a row, with the paid request of an earlier run if this run has sent nothing.

    Args:
        outcome: What this run knows.
        entry: What the journal says now; another run may have paid in the meantime.
    """
    account = account_of(entry)
    if entry is None or entry.state is EntryState.ERASED:
        return outcome
    if outcome.status not in _NOT_SENT or not (account.known_usd or account.unpriced):
        return outcome
    before = f"An earlier request of it is {entry.state}" + (f": {entry.reason}" if entry.reason else ".")
    return outcome.model_copy(
        update={
            "status": _BY_STATE.get(entry.state, OutcomeStatus.FAILED),
            "request_id": entry.request_id or next(reversed(entry.request_ids), None),
            "cost_usd": account.known_usd or None,
            "error": f"{outcome.error or ''} {before}".strip(),
            "retryable": True,
        }
    )


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

    async def check(row: PlannedRow) -> None:
        entry = entries.get(row.generation_key)
        if entry is None or entry.state is not EntryState.ARCHIVED or entry.archive is None or entry.rejected:
            return  # what a person rejected is no video: its run ends with that
        async with gate:
            if await asyncio.to_thread(verify_exists, entry.archive.videos, store):
                found[row.line] = Outcome(
                    label=row.label,
                    status=OutcomeStatus.EXISTING,
                    generation_key=row.generation_key,
                    request_id=entry.request_id,
                    uris=tuple(video.uri for video in entry.archive.videos),
                    verdicts=verdicts_of(entry.archive.videos),
                    cost_usd=entry.cost_usd,
                )

    await asyncio.gather(*map(check, rows))
    return found
