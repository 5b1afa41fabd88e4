"""What stopped a part of a batch stops the others: an object beside their rows, which all of them look for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel, ConfigDict

from runcomfy.batch.circuit_breaker import CircuitBreaker
from runcomfy.errors import AuthenticationError, CommonCause, InsufficientBalance, RunComfyError, StorageError
from runcomfy.generation.hooks import Log
from runcomfy.storage.store import Store

__all__ = ["CONCERN_ALL", "Halt", "halting", "tell_others"]

CONCERN_ALL = {kind.__name__: kind for kind in (CommonCause, AuthenticationError, InsufficientBalance)}
"""What is as true of the rows that were not begun, by the name of its class."""
_MAX_BYTES = 1024 * 1024


class _Written(BaseModel):
    model_config = ConfigDict(extra="ignore")

    error_type: str
    message: str
    error_code: int | str | None = None
    cause_type: str | None = None


class Halt:
    """Tells the other parts, or is told by them. Both calls block.

    Args:
        store: Where the rows of the parts are.
        key: Of the object; the same for all parts that are given out together.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key

    def tell(self, error: RunComfyError) -> None:
        """Tell the others what concerns them too.

        Raises:
            StorageError: the store did not take it.
        """
        written = _Written(
            error_type=type(error).__name__,
            message=error.message,
            error_code=error.error_code,
            cause_type=error.cause_type,
        )
        self._store.put(self._key, written.model_dump_json().encode(), content_type="application/json")

    def look(self) -> RunComfyError | None:
        """Return what another part has told; `None` if none did.

        Raises:
            StorageError: the store could not be read.
        """
        if self._store.head(self._key) is None:
            return None
        told = _Written.model_validate_json(self._store.read(self._key, limit_bytes=_MAX_BYTES))
        kind = CONCERN_ALL.get(told.error_type, RunComfyError)
        return kind(told.message, error_code=told.error_code, cause_type=told.cause_type)


@asynccontextmanager
async def halting(halt: Halt | None, proving: CircuitBreaker, *, look_seconds: float = 5.0) -> AsyncIterator[None]:
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


async def tell_others(halt: Halt | None, error: RunComfyError, log: Log) -> None:
    """Tell the other parts what stopped this one; where that fails, each of them finds out for itself."""
    if halt is None:
        return
    try:
        await asyncio.to_thread(halt.tell, error)
    except StorageError as failure:
        log.warning("The other parts could not be told: %s", failure)


async def _keep_looking(halt: Halt, proving: CircuitBreaker, look_seconds: float) -> None:
    while proving.stopped is None:
        await asyncio.sleep(look_seconds)
        await _look(halt, proving)


async def _look(halt: Halt, proving: CircuitBreaker) -> None:
    try:
        told = await asyncio.to_thread(halt.look)
    except StorageError:  # the next look tells the same
        return
    if told is not None and proving.stopped is None:
        proving.stop(told)
