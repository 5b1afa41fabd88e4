"""One budget that any number of runs of a manifest share: a note beside the journal, changed by conditional writes.

The journal decides what was paid. The note holds what the journal said of each generation right before its send, and a
send is made only after a version of the note has counted it. So no run spends what another has reserved, and the next
run corrects from the journal a note that was lost, or that a killed run left behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from runcomfy.batch.account import Account, account_of
from runcomfy.batch.budget import Budget
from runcomfy.errors import BudgetReached, UnreadableEntry
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import Journal

__all__ = ["SharedBudget", "shared_budget_name"]

_DIGITS = 24  # of a generation's key: enough to distinguish those of a manifest, and fewer bytes


def shared_budget_name(generation_keys: Iterable[str]) -> str:
    """Return the name of the budget of these generations: the same rows share it, whatever their file is called."""
    return hashlib.sha256("\n".join(sorted(generation_keys)).encode()).hexdigest()[:_DIGITS]


class _BudgetNote(BaseModel):
    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    nonce: str = ""
    dearest_usd: float = 0.0
    accounts: dict[str, Account] = {}

    @classmethod
    def written(cls, budget: Budget) -> bytes:
        note = cls.model_construct(
            schema_version=1, nonce=uuid.uuid4().hex, dearest_usd=budget.dearest_usd, accounts=budget.accounts
        )
        return note.model_dump_json().encode()


@dataclass(eq=False)
class _BudgetChange:
    """A change to the note, written together with all others that wait."""

    apply: Callable[[Budget], None]
    refusal: BudgetReached | None = None
    is_written: bool = False


class SharedBudget:
    """A budget, and what other runs take from it. Without a limit there is nothing to share, and nothing is written.

    Args:
        budget: The limit, and what is counted.
        journal: Where the note is kept, and what it counts.
        name: The budget's name; see `shared_budget_name`.
    """

    def __init__(self, budget: Budget, journal: Journal, name: str) -> None:
        self.budget = budget
        self._journal = journal
        self._note = f"budget-{name}"
        self._current: bytes | None = None
        """The note that `budget` agrees with; `None` while unsure. Parsing one of 100,000 accounts takes a second."""
        self._waiting: list[_BudgetChange] = []
        self._lock = asyncio.Lock()

    async def open(self, keys: Iterable[str], entries: Mapping[str, Entry]) -> None:
        """Count what was paid before, and correct what killed runs, and decisions of people, have left outdated.

        Args:
            keys: The generations.
            entries: What the journal said of them a moment ago, by key.

        Raises:
            StorageError: the journal failed.
        """
        before = self._read(await self._journal.read_note(self._note) if self._is_shared else None)
        found = {key: account_of(entries.get(key)) for key in keys}
        other = [key for key, account in found.items() if before.accounts.get(_short(key), Account()) != account]
        if before.accounts:  # Read the note before the entries, or a reservation of another run in between is lost.
            async for version in self._journal.read_all(other):
                found[version.entry.generation_key] = account_of(version.entry)

        def correct(budget: Budget) -> None:
            for key in other:
                if budget.accounts.get(_short(key)) == before.accounts.get(_short(key)):
                    budget.record(_short(key), found[key])

        if other:
            await self._write(correct)
        else:
            self.budget.replace(before.accounts, before.dearest_usd)

    def begin(self, key: str) -> None:
        """Count a generation that this process is about to begin; its send is authorised later.

        Raises:
            BudgetReached: there is too little left.
        """
        self.budget.begin(_short(key))

    def end(self, key: str) -> None:
        """Record that a generation which this process began is no longer in progress."""
        self.budget.end(_short(key))

    async def authorise(self, key: str) -> None:
        """Reserve what the send of a generation may cost; its intent must be in the journal.

        Raises:
            BudgetReached: there is too little left; nothing may be sent.
            StorageError: the journal failed; nothing may be sent.
        """
        found = self._journal.written(key) or await self._journal.read(key)
        account = account_of(found.entry if found else None)
        await self._write(lambda budget: budget.reserve(_short(key), account))

    async def settle(self, key: str, entry: Entry | None) -> None:
        """Count what a generation has cost; without its entry, what was reserved for it stays reserved.

        It is in progress until the note has its cost, since a row that waits may get what is left over.

        Raises:
            StorageError: the journal failed; the next run corrects the note.
        """
        try:
            if entry is not None:
                account = account_of(entry)
                await self._write(lambda budget: budget.record(_short(key), account))
        finally:
            self.end(key)

    async def not_sent(self, entries: Mapping[str, Entry]) -> set[str]:
        """Return those of these generations whose intent is not authorised, according to the note.

        Each run writes its intent before it reserves money, and takes it back where there is none left.

        Raises:
            StorageError: the journal failed.
        """
        intents = {key: entry for key, entry in entries.items() if entry.state is EntryState.INTENT}
        if not intents or not self._is_shared:
            return set()
        accounts = self._read(await self._journal.read_note(self._note)).accounts
        return {key for key, entry in intents.items() if accounts.get(_short(key), Account()) != account_of(entry)}

    @property
    def _is_shared(self) -> bool:
        return self.budget.limit_usd is not None

    async def _write(self, apply: Callable[[Budget], None]) -> None:
        """Apply a change to the note; all changes that wait for a write in progress share the next one."""
        if not self._is_shared:
            apply(self.budget)
            return
        change = _BudgetChange(apply)
        self._waiting.append(change)
        try:
            async with self._lock:
                if not change.is_written:
                    await self._write_all()
        finally:
            if change in self._waiting:
                self._waiting.remove(change)
        if change.refusal is not None:
            raise change.refusal

    async def _write_all(self) -> None:
        changes = list(self._waiting)

        made = b""

        def changed(body: bytes | None) -> bytes:
            nonlocal made
            current, self._current = self._current, None
            if body is None or body != current:
                note = self._read(body)
                self.budget.replace(note.accounts, note.dearest_usd)
            for change in changes:
                change.refusal = None
                try:
                    change.apply(self.budget)
                except BudgetReached as refusal:
                    change.refusal = refusal
            made = _BudgetNote.written(self.budget)
            return made

        conflicts = 0
        while not await self._journal.update_note(self._note, changed):
            conflicts = await self._journal.pause_after_conflict(conflicts)
        self._current = made
        for change in changes:
            change.is_written = True
            self._waiting.remove(change)

    def _read(self, body: bytes | None) -> _BudgetNote:
        try:
            return _BudgetNote() if body is None else _BudgetNote.model_validate_json(body)
        except ValidationError:
            raise UnreadableEntry(
                f"The budget's note {self._journal.store.where}/.{self._note}.json cannot be read by this version, so "
                "nothing was sent. Stop all runs of this manifest, and look at it or delete it: the next run makes it "
                "again from the journal."
            ) from None


def _short(key: str) -> str:
    return key[:_DIGITS]
