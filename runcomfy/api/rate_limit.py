"""Limit the calls of one account, however many requests are in flight; and time as an argument."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["Clock", "RateLimiter", "shared_rate_limiter"]


@dataclass(frozen=True)
class Clock:
    """Time as an argument: wall clock (UTC), monotonic seconds, a sleep in seconds, and a random number in [0, 1)."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    random: Callable[[], float] = random.random


_IN_USE = 0.85  # share of the rate for scheduled polls; the rest is for results, and for polls that coincide


class RateLimiter:
    """A rate limit for the calls of a process, and the backpressure that follows from it for all that poll.

    Unlike the libraries for this, it is not tied to an event loop, and its clock is an argument.

    Args:
        per_second: How many calls may be made per second; they are spread evenly.
        clock: Time.
    """

    def __init__(self, per_second: float, clock: Clock | None = None) -> None:
        self._interval = 1 / per_second
        self._clock = clock or Clock()
        self._next = self._last = float("-inf")
        self._declared: dict[Hashable, float] = {}
        self._total = 0.0

    async def acquire(self) -> None:
        """Wait until the next call may be made; first come, first served."""
        now = self._clock.monotonic()
        mine = max(now, self._next)
        self._next = mine + self._interval
        # After the process was suspended, many calls are due at once; they are still made one by one.
        while (wait := max(mine, self._last + self._interval) - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        self._last = self._clock.monotonic()

    def pause(self, seconds: float) -> None:
        """Make no call for so many seconds: the service asked for a pause."""
        self._next = max(self._next, self._clock.monotonic() + seconds)

    def declare_rate(self, who: Hashable, per_second: float) -> None:
        """Declare how often one request would be polled; 0 when it is no longer polled."""
        self._total += per_second - self._declared.pop(who, 0.0)
        if per_second:
            self._declared[who] = per_second
        elif not self._declared:
            self._total = 0.0  # what rounding left over

    @property
    def backpressure(self) -> float:
        """How many times longer all have to wait between polls, so that together they keep within the rate."""
        return max(1.0, self._total * self._interval / _IN_USE)


@functools.lru_cache(maxsize=256)
def shared_rate_limiter(account: str, per_second: float) -> RateLimiter:
    """Return the one rate limiter that all clients of an account share in this process; `account` is just a key."""
    return RateLimiter(per_second)
