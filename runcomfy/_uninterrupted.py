"""Await something to its end, though the one who awaits it is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["to_its_end"]

_T = TypeVar("_T")


async def to_its_end(work: Coroutine[Any, Any, _T]) -> tuple[asyncio.Task[_T], asyncio.CancelledError | None]:
    """Return the task that has done the work, and the cancellation that came meanwhile, for the caller to go on with.

    Only an event loop that shuts down can cancel the work itself.
    """
    task = asyncio.ensure_future(work)
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # Prefect's time-outs cancel every further await; anyio's shield is what keeps them off.
            with anyio.CancelScope(shield=interrupted is not None):
                await asyncio.wait({task})
        except asyncio.CancelledError as cancelled:
            interrupted = cancelled
    return task, interrupted
