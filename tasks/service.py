"""Everything that a generation needs beside its inputs, opened once and shared by all that a flow run makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from blocks import MediaStore, RunComfyCredentials
from runcomfy.client import RunComfyClient
from runcomfy.journal import Journal
from runcomfy.policy import RunPolicy
from runcomfy.polling.forecast import RunTimes

__all__ = ["Service", "open_service"]

_SUBMITTING_AT_ONCE = 32


@dataclass(frozen=True)
class Service:
    """An account with an open client, the store, and the policy that holds for all generations of a run."""

    client: RunComfyClient
    credentials: RunComfyCredentials
    store: MediaStore
    run_times: RunTimes
    """How long requests run, shared by all waits: read when somebody first waits, written down if the run ends well."""
    policy: RunPolicy = RunPolicy()
    submitting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SUBMITTING_AT_ONCE))
    """How many submissions are under way at once; where the service says that it is too much, these wait and try."""

    @property
    def journal(self) -> Journal:
        """The journal of the store."""
        return self.store.get_journal()


@asynccontextmanager
async def open_service(
    credentials: RunComfyCredentials, store: MediaStore, policy: RunPolicy = RunPolicy()
) -> AsyncIterator[Service]:
    """Open a client for the account; it is closed with the body.

    Args:
        credentials: Who pays.
        store: Where pictures are staged and videos archived, and where the journal is.
        policy: How long to wait for a request, how often to poll, what becomes of it when the run is interrupted, and
            what to do about an earlier submission that nobody knows the answer of.

    Raises:
        ConfigurationError: the token or the base URL cannot be used.
    """
    run_times = RunTimes(store.get_journal())
    async with credentials.get_client() as client:
        yield Service(client, credentials, store, run_times, policy)
        await run_times.note()
