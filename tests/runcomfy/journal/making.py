"""Small helpers that the tests of the journal share."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any

from runcomfy.api.client import RunComfyClient
from runcomfy.errors import StoreUnavailable
from runcomfy.journal import GenerationSpec, Journal, JournalStore, MemoryJournalStore, submit_once
from runcomfy.journal.stores import Stored
from runcomfy.models import ModelInputs, TextToVideo
from runcomfy.sandbox import Sandbox
from runcomfy.values import Archive, Submission

__all__ = [
    "FailingStore",
    "Later",
    "accepted_elsewhere",
    "body",
    "instantly",
    "journal_at",
    "spec_for",
    "submit_for",
    "submit_with_new_journal",
]  # fmt: skip

_RAIN = TextToVideo(prompt="rain")


def body(text: str = "") -> bytes:
    """Return a unique document, as the journal's are."""
    return f'{{"text": "{text}", "nonce": "{uuid.uuid4().hex}", "pid": {os.getpid()}}}'.encode()


def spec_for(service: str, prompt: str = "rain", **changes: Any) -> GenerationSpec:
    return GenerationSpec(TextToVideo(prompt=prompt), service, **changes)


async def instantly(seconds: float) -> None:
    """Return at once instead of sleeping."""


def journal_at(journal_store: JournalStore, **changes: Any) -> Journal:
    return Journal(journal_store, **{"retry_seconds": 0.0, "record_seconds": 0.0} | changes)


async def submit_for(client: RunComfyClient, journal: Journal, spec: GenerationSpec, **options: Any) -> Submission:
    """Submit as the task does, with inputs that need no preparation, and files that exist where they were stored."""

    async def prepare() -> ModelInputs:
        return spec.inputs

    async def intact(archive: Archive) -> bool:
        return True

    return await submit_once(client, journal, spec, **{"prepare": prepare, "intact": intact} | options)


async def submit_with_new_journal(
    client: RunComfyClient,
    inputs: ModelInputs = _RAIN,
    *,
    journal_store: JournalStore | None = None,
    lease_seconds: float = 180.0,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    **options: Any,
) -> Submission:
    """Submit with an empty journal of its own, in memory: so the service is called each time."""
    journal = journal_at(journal_store or MemoryJournalStore(), lease_seconds=lease_seconds, sleep=sleep)
    return await submit_for(client, journal, GenerationSpec(inputs, client.base_url), **options)


def accepted_elsewhere(sandbox: Sandbox, prompt: str = "rain") -> str:
    """Submit a request as another program would, and return its id."""

    async def ask() -> str:
        async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
            return (await submit_with_new_journal(client, TextToVideo(prompt=prompt))).request_id

    return asyncio.run(ask())


class Later(MemoryJournalStore):
    """Another journal store as it is a little over three minutes later: the lease of every intent is over."""

    def __init__(self, journal_store: JournalStore, seconds: float = 200.0) -> None:
        self.where, self._store, self._seconds = journal_store.where, journal_store, seconds

    def check(self) -> None:
        self._store.check()

    def read(self, name: str) -> Stored | None:
        found = self._store.read(name)
        return Stored(found.body, found.tag, found.age_seconds + self._seconds) if found else None

    def create(self, name: str, body: bytes) -> str | None:
        return self._store.create(name, body)

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        return self._store.replace(name, body, tag)

    def names(self, start: str = "") -> Iterator[str]:
        return self._store.names(start)

    def modified(self) -> Iterator[tuple[str, datetime]]:
        return self._store.modified()


class FailingStore(MemoryJournalStore):
    """A journal store in memory that cannot be reached for some of its calls, and whose documents can be made old."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, int] = {}
        """By the name of a call, how often it fails from now on; -1 is indefinitely."""
        self.calls: list[str] = []
        self.older_by_seconds = 0.0

    def check(self) -> None:
        self._called("check")

    def read(self, name: str) -> Stored | None:
        self._called("read")
        found = super().read(name)
        return Stored(found.body, found.tag, found.age_seconds + self.older_by_seconds) if found else None

    def create(self, name: str, body: bytes) -> str | None:
        self._called("create")
        return super().create(name, body)

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        self._called("replace")
        return super().replace(name, body, tag)

    def names(self, start: str = "") -> Iterator[str]:
        self._called("names")
        yield from super().names(start)

    def _called(self, call: str) -> None:
        self.calls.append(call)
        left = self.failures.get(call, 0)
        if left:
            self.failures[call] = left - 1
            raise StoreUnavailable("The store could not be reached.")
