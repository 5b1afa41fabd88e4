"""Connections for any number of calls, each used by one call at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx

__all__ = ["Connections", "one_connection"]


class Connections:
    """Hand out a connection for each call, the most recently used first; further calls wait in line.

    For each call, a pool of httpx takes time proportional to the square of its connections and to the number of waiting
    calls (httpcore 1.0): a thousand polls at once over TLS keep the processor busy for twenty seconds, and fail with
    `PoolTimeout`. Here each connection is a client of its own, and choosing one takes constant time.

    Args:
        make: Makes a client with one connection.
        at_once: How many calls may be in flight.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], at_once: int) -> None:
        self._make = make
        self._slots = asyncio.Semaphore(at_once)
        self._all: list[httpx.AsyncClient] = []
        self._idle: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def one(self, *, timeout_seconds: float | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a connection to the body.

        Args:
            timeout_seconds: How long to wait in line; `None` is indefinitely.

        Raises:
            httpx.PoolTimeout: it took longer; nothing was sent.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(f"no connection was free for {timeout_seconds:.0f} s") from None
        try:
            client = self._idle.pop() if self._idle else self._opened()
            try:
                yield client
            except BaseException:
                await self._discard(client)
                raise
            self._idle.append(client)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Close every connection."""
        for client in list(self._all):
            await client.aclose()

    async def _discard(self, client: httpx.AsyncClient) -> None:
        """Close a client whose call did not end: httpcore (1.0) may hold its one connection indefinitely.

        That happens if the call is cancelled after it has connected and before it sends.
        """
        self._all.remove(client)
        with suppress(Exception):  # the call itself raises what was wrong
            await client.aclose()

    def _opened(self) -> httpx.AsyncClient:
        self._all.append(self._make())
        return self._all[-1]


def one_connection(idle_seconds: float) -> httpx.Limits:
    """Return the limits of a client with one connection, which it closes after so many idle seconds."""
    return httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=idle_seconds)
