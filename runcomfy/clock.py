"""Time itself, as an argument: so that tests need not wait."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["Clock"]


@dataclass(frozen=True)
class Clock:
    """Time as an argument: wall clock (UTC), monotonic seconds, a sleep in seconds, and a random number in [0, 1)."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    random: Callable[[], float] = random.random
