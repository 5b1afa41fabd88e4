"""The journal: one entry per generation, on which any number of workers agree without a lock.

Every write is a compare-and-swap: it names the version that it follows, so of all that race one wins, and the others
read again. Reads and writes that fail in the store are retried, since each is safe to repeat.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeVar

from cachetools import LRUCache
from pydantic import ValidationError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable, UnreadableEntry
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.stores import JournalStore, Stored
from runcomfy.values import Archive

__all__ = ["LEASE_SECONDS", "Journal", "Versioned", "worker_name"]

LEASE_SECONDS = 180.0
"""How long an intent that does not change counts as that of a worker who is submitting. Longer than the paid call:
`runcomfy.journal.submit`."""

_T = TypeVar("_T")
_READERS = 8  # more threads only stall the event loop
_THREADS = ThreadPoolExecutor(_READERS, thread_name_prefix="journal")
"""Its own: in asyncio's, a request id would queue behind the transfers of videos."""
_MOST_CONFLICTS = 40
_MOST_REMEMBERED = 4096


def worker_name() -> str:
    """Return what this process is known by in the journal: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Versioned:
    """An entry, and the version of it that the next write follows."""

    entry: Entry
    tag: str
    age_seconds: float

    @property
    def lease_remaining_seconds(self) -> float:
        """How much longer an intent counts as that of a living worker; 0 if it is abandoned, and for all else."""
        if self.entry.state is not EntryState.INTENT:
            return 0.0
        return max(0.0, self.entry.patience_seconds - self.age_seconds)


class Journal:
    """The entries of a store.

    Args:
        store: Where they are kept.
        lease_seconds: How long an intent that does not change counts as that of a worker who is submitting; after that,
            its worker counts as dead. It must be longer than a submission can take.
        retry_seconds: How long a read or write that failed in the store is retried.
        record_seconds: The same for the write of a request id, which is paid for by then.
        sleep: Waits, in seconds.
    """

    def __init__(
        self,
        store: JournalStore,
        *,
        lease_seconds: float = LEASE_SECONDS,
        retry_seconds: float = 30.0,
        record_seconds: float = 300.0,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.store = store
        self.lease_seconds = lease_seconds
        self.record_seconds = record_seconds
        self.sleep = sleep
        self._retry_seconds = retry_seconds
        self._written: LRUCache[str, Versioned] = LRUCache(_MOST_REMEMBERED)
        self._guard = threading.Lock()

    async def check(self) -> None:
        """Make sure that the store keeps what it promises, before anything is paid for.

        Raises:
            ConfigurationError: it does not.
            StorageError: it cannot be reached or written.
        """
        await self._call(self.store.check)

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing in it changes, and a lock cannot be copied

    async def read(self, key: str, *, seconds: float | None = None) -> Versioned | None:
        """Return the entry of a generation; `None` if it was never submitted.

        Args:
            key: The generation.
            seconds: How long a read that the store did not answer is retried.

        Raises:
            UnreadableEntry: the document there is no entry that this version can read.
            StorageError: the store failed.
        """
        stored = await self._call(self.store.read, f"{key}.json", seconds=seconds)
        return self._parsed(key, stored) if stored is not None else None

    async def create(self, entry: Entry) -> Versioned | None:
        """Write the first version of an entry; `None` if another worker did."""
        tag = await self._call(self.store.create, f"{entry.generation_key}.json", entry.to_json())
        return self._remembered(entry, tag)

    async def replace(self, current: Versioned, entry: Entry, *, seconds: float | None = None) -> Versioned | None:
        """Write the version after `current`; `None` if another worker wrote one in the meantime.

        Args:
            current: The version that it follows.
            entry: What is written.
            seconds: How long a write that failed in the store is retried.
        """
        name, body = f"{entry.generation_key}.json", entry.to_json()
        tag = await self._call(self.store.replace, name, body, current.tag, seconds=seconds)
        return self._remembered(entry, tag)

    def written(self, key: str) -> Versioned | None:
        """Return the version of an entry that this process wrote last; others may have written later ones."""
        with self._guard:
            return self._written.get(key)

    def _remembered(self, entry: Entry, tag: str | None) -> Versioned | None:
        written = Versioned(entry, tag, 0.0) if tag is not None else None
        with self._guard:
            if written is not None:
                self._written[entry.generation_key] = written
            else:
                self._written.pop(entry.generation_key, None)
        return written

    async def advance(
        self,
        key: str,
        request_id: str,
        state: EntryState,
        *,
        reason: str | None = None,
        file_is_gone: Archive | bool = False,
        **changes: Any,
    ) -> Entry | None:
        """Record the state of a request, and return the entry as it is afterwards.

        It does nothing if the entry is about another request by now, or is in a state that this one cannot follow: so
        it may be repeated, also by several workers that saw the same. What is archived stays so, whatever a worker
        that waited for the same request says later, unless the file is gone.

        Args:
            key: The generation.
            request_id: Its request.
            state: The request's state.
            reason: Why, for a person.
            file_is_gone: Whether an archived file is not in the bucket any more; or the archive of which that was
                found, so that one that was recorded since, of a file that moved, is kept.
            **changes: Other fields of the entry that are known now.
        """

        def follows(entry: Entry) -> bool:
            is_gone = file_is_gone if isinstance(file_is_gone, bool) else entry.archive == file_is_gone
            is_kept = entry.state is EntryState.ARCHIVED and state is EntryState.DETACHED and not is_gone
            return entry.request_id == request_id and entry.may_become(state) and not is_kept

        conflicts = 0
        found = self.written(key)  # if another worker wrote since, the write is refused, and the entry is read
        if found is None or not follows(found.entry):
            found = await self.read(key)
        while found is not None:
            if not follows(found.entry):
                return found.entry
            moved = found.entry.moved(state, worker=worker_name(), reason=reason, **changes)
            if await self.replace(found, moved) is not None:
                return moved
            conflicts = await self.pause_after_conflict(conflicts)
            found = await self.read(key)
        return None

    async def pause_after_conflict(self, conflicts: int) -> int:
        """Wait a moment after another worker's write came first, and return how often that has happened by now.

        Raises:
            StoreUnavailable: it happened so often that it is not another worker, but a store that refuses every write.
        """
        if conflicts >= _MOST_CONFLICTS:
            raise StoreUnavailable(
                f"The journal in {self.store.where} refused {conflicts} writes in a row as if others had come first. "
                "Look whether something between here and the store changes its ETags."
            )
        await self.sleep(min(0.05 * 1.5**conflicts, 2.0) * (0.5 + random.random()))  # noqa: S311 - keeps writers apart
        return conflicts + 1

    async def find(self, start: str) -> Versioned:
        """Return the only entry whose key begins with `start`, eight digits at least.

        Raises:
            ConfigurationError: there is none, or there are several.
        """
        if len(start) < 8 or not set(start) <= set("0123456789abcdef"):
            raise ConfigurationError(f"{start!r} is no key: give at least eight of its hexadecimal digits.")
        names = await self._call(lambda: list(self.store.names(start)))
        if len(names) != 1:
            count = f"{len(names)} generations" if names else "no generation"
            raise ConfigurationError(f"The journal in {self.store.where} has {count} whose key begins with {start}.")
        found = await self.read(names[0].removesuffix(".json"))
        if found is None:
            raise ConfigurationError(f"The entry {start} was removed from the journal in the meantime.")
        return found

    async def entries(self, *, unreadable: Callable[[str], None] | None = None) -> AsyncIterator[Versioned]:
        """Yield every entry as it is read, some hundred per second. `unreadable` is that of `read_all`."""
        names = await self._call(lambda: list(self.store.names()))
        async for found in self.read_all([name.removesuffix(".json") for name in names], unreadable=unreadable):
            yield found

    async def read_all(
        self, keys: Sequence[str], *, unreadable: Callable[[str], None] | None = None
    ) -> AsyncIterator[Versioned]:
        """Yield the entries of these generations, several being read at a time; one that is gone is left out.

        Args:
            keys: The generations.
            unreadable: Called with the key of each document that this version cannot read; it is skipped then.

        Raises:
            StorageError: the store failed; or, without `unreadable`, there is such a document.
        """
        gate = asyncio.Semaphore(_READERS)

        async def read(key: str) -> Versioned | None:
            async with gate:
                try:
                    return await self.read(key)
                except UnreadableEntry:
                    if unreadable is None:
                        raise
                    unreadable(key)
                    return None

        for start in range(0, len(keys), 100):
            for found in await asyncio.gather(*map(read, keys[start : start + 100])):
                if found is not None:
                    yield found

    async def modified(self) -> dict[str, datetime]:
        """Return every generation's key, with the time of its entry's current version by the store's clock."""
        found = await self._call(lambda: list(self.store.modified()))
        return {name.removesuffix(".json"): at for name, at in found}

    async def read_note(self, name: str) -> bytes | None:
        """Return a note that is kept beside the entries; `None` if there is none."""
        stored = await self._call(self.store.read, f".{name}.json")
        return stored.body if stored else None

    async def notes(self, start: str, *, seconds: float | None = None) -> list[str]:
        """Return the names of the notes that begin with `start`; `seconds` is how long to try again."""
        found = await self._call(lambda: list(self.store.hidden(start)), seconds=seconds)
        return [name.removeprefix(".").removesuffix(".json") for name in found]

    async def create_note(self, name: str, body: bytes) -> bool:
        """Keep a note unless there is one; return whether this call made it."""
        return await self._call(self.store.create, f".{name}.json", body) is not None

    async def write_note(self, name: str, body: bytes) -> None:
        """Write a note beside the entries; if another worker does at the same time, one of the two notes stays."""
        await self.update_note(name, lambda _: body)

    async def update_note(self, name: str, change: Callable[[bytes | None], bytes]) -> bool:
        """Replace a note by what `change` makes of it; `False` if another worker wrote one first, which stays."""
        hidden = f".{name}.json"
        stored = await self._call(self.store.read, hidden)
        if stored is None:
            return await self._call(self.store.create, hidden, change(None)) is not None
        return await self._call(self.store.replace, hidden, change(stored.body), stored.tag) is not None

    def _parsed(self, key: str, stored: Stored) -> Versioned:
        try:
            return Versioned(Entry.model_validate_json(stored.body), stored.tag, stored.age_seconds)
        except ValidationError:
            raise UnreadableEntry(
                f"The document at {self.store.where}/{key}.json is no journal entry that this version can read. It was "
                "left as it is, and nothing was submitted: look at it, or use the version that wrote it.",
                generation_key=key,
            ) from None

    async def _call(self, work: Callable[..., _T], *arguments: Any, seconds: float | None = None) -> _T:
        # A request id is paid for: its write is retried after any error of the store, expired credentials included.
        retried = StoreUnavailable if seconds is None else StorageError
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(retried),
            wait=wait_exponential_jitter(multiplier=0.2, max=15.0),
            stop=stop_after_delay(self._retry_seconds if seconds is None else seconds),
            sleep=self.sleep,
            reraise=True,
        )

        async def attempt() -> _T:
            return await asyncio.get_running_loop().run_in_executor(_THREADS, functools.partial(work, *arguments))

        return await retrying(attempt)
