"""The program that runs a batch or an inbox: what they need of it beside the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Protocol

from runcomfy.api.client import RunComfyClient
from runcomfy.batch.estimate import Tally
from runcomfy.download.hosts import HostPolicy
from runcomfy.generation.destination import Destination
from runcomfy.generation.engine import Engine, open_engine
from runcomfy.generation.generate import Authorise, generate
from runcomfy.generation.hooks import Hooks, Log
from runcomfy.models.orders import Order
from runcomfy.policy import RunPolicy
from runcomfy.values import Outcome, StagedFile, Submission

__all__ = ["GenerateOne", "Program"]

_LOG_SECONDS = 10.0


class GenerateOne(Protocol):
    """Makes one generation among many, and returns its outcome: `generate`, or something around it."""

    def __call__(
        self,
        order: Order,
        staged: Sequence[StagedFile],
        engine: Engine,
        *,
        label: str,
        authorise: Authorise | None = None,
        on_accepted: Callable[[Submission], Awaitable[None]] | None = None,
    ) -> Awaitable[Outcome]:
        """See `runcomfy.generation.generate.generate`."""


class Program:
    """A program without a server: its slots are not shared, and its progress is a line in the log every ten seconds.

    Args:
        client: Returns the account's client, not opened yet.
        destination: The bucket and its journal.
        hosts: Which hosts generated files may be downloaded from.
        hooks: What the program adds to each generation.
        generate: Makes one of them.
    """

    slots_are_shared = False
    """Whether slots may have to be waited for, while others pay."""

    def __init__(
        self,
        client: Callable[[], RunComfyClient],
        destination: Destination,
        hosts: HostPolicy = HostPolicy(),
        hooks: Hooks = Hooks(),
        generate: GenerateOne = generate,
    ) -> None:
        self.generate = generate
        self._client, self._hosts = client, hosts
        self.destination, self.hooks = destination, hooks

    def client(self) -> RunComfyClient:
        """Return the account's client, not opened yet."""
        return self._client()

    def open(self, policy: RunPolicy) -> AbstractAsyncContextManager[Engine]:
        """Open the engine; its client is closed with the body."""
        return open_engine(self._client(), self.destination, hosts=self._hosts, policy=policy, hooks=self.hooks)

    def slots(self, wanted: int) -> AbstractAsyncContextManager[int]:
        """Hold slots of the account while the body runs, and yield how many: no more than are wanted."""
        return nullcontext(wanted)

    def progress(self, tally: Tally, money: Callable[[], str] = lambda: "") -> AbstractAsyncContextManager[None]:
        """Show how a tally grows while the body runs, and how it ended.

        Args:
            tally: What is counted.
            money: Returns what was spent as text, empty if there is nothing to say.
        """
        return _logged(tally, money, self.hooks.log)


@asynccontextmanager
async def _logged(tally: Tally, money: Callable[[], str], log: Log) -> AsyncIterator[None]:
    began, logged = time.monotonic(), ""

    def log_progress() -> None:
        nonlocal logged
        now = ", ".join(filter(None, (tally.sentence(time.monotonic() - began), money())))
        if now != logged:
            log.info("%s", now)
        logged = now

    async def keep_logging() -> None:
        while True:
            await asyncio.sleep(_LOG_SECONDS)
            log_progress()

    ticking = asyncio.create_task(keep_logging())
    try:
        yield
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        log_progress()
