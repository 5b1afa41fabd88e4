"""Connections that are each used by one call at a time, for any number of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx

__all__ = ["Connections", "one_connection"]


class Connections:
    """Hand out a connection for each call, the last one used first; calls beyond their number wait in line.

    A pool of httpx takes time with the square of its connections for each call, and with the number of calls that wait
    (httpcore 1.0): a thousand looks at once over TLS keep the processor busy for twenty seconds, and fail with
    `PoolTimeout`. Here a connection is a client of its own, and to choose one takes no time.

    Args:
        make: Makes a client with one connection.
        at_once: How many calls are under way at most.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], at_once: int) -> None:
        self._make = make
        self._places = asyncio.Semaphore(at_once)
        self._all: list[httpx.AsyncClient] = []
        self._idle: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def one(self, *, patience_seconds: float | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a connection to the body.

        Args:
            patience_seconds: How long to wait in line; `None` is as long as it takes.

        Raises:
            httpx.PoolTimeout: it took longer; nothing was sent.
        """
        try:
            async with asyncio.timeout(patience_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(f"no connection was free for {patience_seconds:.0f} s") from None
        try:
            client = self._idle.pop() if self._idle else self._another()
            try:
                yield client
            except BaseException:
                await self._give_up(client)
                raise
            self._idle.append(client)
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Close every connection."""
        for client in list(self._all):
            await client.aclose()

    async def _give_up(self, client: httpx.AsyncClient) -> None:
        """Replace a client whose call did not end: httpcore (1.0) may hold its one connection for that call for ever.

        That is so where the call is cancelled between the end of its connecting and the beginning of its sending.
        """
        self._all.remove(client)
        with suppress(Exception):  # what was wrong with the connection is told by the call
            await client.aclose()

    def _another(self) -> httpx.AsyncClient:
        self._all.append(self._make())
        return self._all[-1]


def one_connection(idle_seconds: float) -> httpx.Limits:
    """Return the limits of a client that has one connection, and gives it up when it was idle for longer."""
    return httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=idle_seconds)
