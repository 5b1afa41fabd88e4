"""Where a journal is kept: anything that can create a document once, and compare-and-swap it afterwards."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["JournalStore", "MemoryJournalStore", "Stored", "memory_journal_store", "tag_of"]


@dataclass(frozen=True)
class Stored:
    """One version of a document."""

    body: bytes
    tag: str
    """Names this version; `replace` takes it."""
    age_seconds: float
    """Since it was written, by the store's clock, not this machine's."""


class JournalStore(Protocol):
    """Documents by name. Every method blocks, and raises `StoreUnavailable` where another try may help.

    Of any number of callers that create or replace the same version at once, exactly one gets a tag; the others get
    `None`. No two bodies are the same, so a store whose answers can be lost may recognise its own write by the body.
    """

    @property
    def where(self) -> str:
        """Where the store is, for people."""

    def check(self) -> None:
        """Make sure that the store keeps what it promises, before anything is paid for.

        Raises:
            ConfigurationError: it does not.
            StorageError: it cannot be reached or written.
        """

    def read(self, name: str) -> Stored | None:
        """Return the document's current version; `None` if there is none."""

    def create(self, name: str, body: bytes) -> str | None:
        """Write a document that is not there yet, and return its tag; `None` if one is there."""

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        """Write the next version after `tag`, and return its tag; `None` if `tag` is not the current one."""

    def names(self, start: str = "") -> Iterator[str]:
        """Yield the names that begin with `start`, in order; those that begin with a dot are hidden."""

    def hidden(self, start: str) -> Iterator[str]:
        """Yield the hidden names that begin with a dot and `start`, in order."""

    def modified(self) -> Iterator[tuple[str, datetime]]:
        """Yield every name that is not hidden, with the time of its current version by the store's clock."""


def tag_of(body: bytes) -> str:
    """Return a tag for a store that has none of its own."""
    return hashlib.sha256(body).hexdigest()


class MemoryJournalStore:
    """This process's memory: nothing of it outlives the process."""

    def __init__(self) -> None:
        self.where = "the memory of this process"
        self._documents: dict[str, tuple[bytes, datetime]] = {}
        self._guard = threading.Lock()

    def check(self) -> None:
        """Nothing to make sure of."""

    def read(self, name: str) -> Stored | None:
        """Return the document."""
        with self._guard:
            found = self._documents.get(name)
        return Stored(found[0], tag_of(found[0]), (datetime.now(UTC) - found[1]).total_seconds()) if found else None

    def create(self, name: str, body: bytes) -> str | None:
        """Create the document."""
        with self._guard:
            return None if name in self._documents else self._put(name, body)

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        """Replace the document."""
        with self._guard:
            found = self._documents.get(name)
            return self._put(name, body) if found and tag_of(found[0]) == tag else None

    def names(self, start: str = "") -> Iterator[str]:
        """Yield the names."""
        with self._guard:
            found = sorted(name for name in self._documents if name.startswith(start) and not name.startswith("."))
        yield from found

    def hidden(self, start: str) -> Iterator[str]:
        """Yield the hidden names."""
        with self._guard:
            found = sorted(name for name in self._documents if name.startswith(f".{start}"))
        yield from found

    def modified(self) -> Iterator[tuple[str, datetime]]:
        """Yield the names with their times."""
        with self._guard:
            found = [(name, at) for name, (_, at) in self._documents.items() if not name.startswith(".")]
        yield from found

    def _put(self, name: str, body: bytes) -> str:
        self._documents[name] = (body, datetime.now(UTC))
        return tag_of(body)


_memories: defaultdict[str, MemoryJournalStore] = defaultdict(MemoryJournalStore)


def memory_journal_store(name: str) -> MemoryJournalStore:
    """Return the one store in this process that has this name: two blocks of the same bucket share it."""
    return _memories[name]
