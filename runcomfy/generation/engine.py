"""Everything that a generation needs besides its inputs, opened once and shared by all generations of a program."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from runcomfy.api.client import RunComfyClient
from runcomfy.download.hosts import HostPolicy
from runcomfy.generation.destination import Destination
from runcomfy.generation.hooks import Hooks
from runcomfy.journal.journal import Journal
from runcomfy.policy import RunPolicy
from runcomfy.polling.forecast import RunTimes
from runcomfy.storage.store import Store

__all__ = ["Engine", "open_engine"]

_SUBMITTING_AT_ONCE = 32


@dataclass(frozen=True)
class Engine:
    """An account with an open client, the bucket, and the policy for all generations of a run."""

    client: RunComfyClient
    destination: Destination
    run_times: RunTimes
    """The run-time cache, shared by all waits: loaded by the first wait, saved if the run ends well."""
    hosts: HostPolicy = HostPolicy()
    """Which hosts generated files may be downloaded from."""
    policy: RunPolicy = RunPolicy()
    hooks: Hooks = Hooks()
    submitting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SUBMITTING_AT_ONCE))
    """Limits concurrent submissions; when the service says that there are too many, these wait and retry."""

    @property
    def store(self) -> Store:
        """The bucket that videos are archived in."""
        return self.destination.store

    @property
    def journal(self) -> Journal:
        """The journal of what was paid for."""
        return self.destination.journal

    def at(self, destination: Destination) -> Engine:
        """Return the same with another bucket."""
        return self if destination is self.destination else replace(self, destination=destination)


@asynccontextmanager
async def open_engine(
    client: RunComfyClient,
    destination: Destination,
    *,
    hosts: HostPolicy = HostPolicy(),
    policy: RunPolicy = RunPolicy(),
    hooks: Hooks = Hooks(),
) -> AsyncIterator[Engine]:
    """Open what generations need; the client is closed at the end of the body.

    Args:
        client: The account, not opened yet.
        destination: Where images are staged and videos archived, and where the journal is.
        hosts: Which hosts generated files may be downloaded from.
        policy: How long to wait for a request, how often to poll, what happens to it when the run is interrupted, and
            what to do about an earlier submission whose answer is unknown.
        hooks: What the program around it adds.
    """
    run_times = RunTimes(destination.journal)
    async with client:
        yield Engine(client, destination, run_times, hosts, policy, hooks)
        await run_times.save()
