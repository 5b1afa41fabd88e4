"""Halt the parts of a batch together: each looks every few seconds whether another one was stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect import get_run_logger

from runcomfy.batch.halt import Halt
from runcomfy.errors import RunComfyError, StorageError
from runcomfy.proving import Proving

__all__ = ["halting", "tell_others"]


@asynccontextmanager
async def halting(halt: Halt | None, proving: Proving, *, look_seconds: float = 5.0) -> AsyncIterator[None]:
    """Let nothing more begin in the body once another part was stopped; one that was before it is known at its start.

    Args:
        halt: Where the parts tell each other; `None` for a batch that has none.
        proving: What lets rows of this part begin.
        look_seconds: How often to look.
    """
    if halt is None:
        yield
        return
    await _look(halt, proving)
    looking = asyncio.create_task(_keep_looking(halt, proving, look_seconds))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def tell_others(halt: Halt | None, error: RunComfyError) -> None:
    """Tell the other parts what stopped this one; where that fails, each of them finds out for itself."""
    if halt is None:
        return
    try:
        await asyncio.to_thread(halt.tell, error)
    except StorageError as failure:
        get_run_logger().warning("The other parts could not be told: %s", failure)


async def _keep_looking(halt: Halt, proving: Proving, look_seconds: float) -> None:
    while proving.stopped is None:
        await asyncio.sleep(look_seconds)
        await _look(halt, proving)


async def _look(halt: Halt, proving: Proving) -> None:
    try:
        told = await asyncio.to_thread(halt.look)
    except StorageError:  # the next look tells the same
        return
    if told is not None and proving.stopped is None:
        proving.stop(told)
