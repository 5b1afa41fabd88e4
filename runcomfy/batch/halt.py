"""What stops one shard of a batch stops the others: an object beside their rows, which all of them poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel, ConfigDict

from runcomfy.batch.circuit_breaker import CircuitBreaker
from runcomfy.errors import AuthenticationError, CommonCause, InsufficientBalance, RunComfyError, StorageError
from runcomfy.generation.hooks import Log
from runcomfy.storage.store import Store

__all__ = ["CONCERN_ALL", "Halt", "publish_halt", "stop_on_halt"]

CONCERN_ALL = {kind.__name__: kind for kind in (CommonCause, AuthenticationError, InsufficientBalance)}
"""What is as true of the rows that were not begun, by the name of its class."""
_MAX_BYTES = 1024 * 1024


class _HaltNote(BaseModel):
    model_config = ConfigDict(extra="ignore")

    error_type: str
    message: str
    error_code: int | str | None = None
    cause_type: str | None = None


class Halt:
    """What stopped a shard, for the others to read. Both calls block.

    Args:
        store: Where the rows of the shards are.
        key: Of the object; the same for all shards that are started together.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key

    def publish(self, error: RunComfyError) -> None:
        """Write down an error that concerns the other shards too.

        Raises:
            StorageError: the store did not take it.
        """
        note = _HaltNote(
            error_type=type(error).__name__,
            message=error.message,
            error_code=error.error_code,
            cause_type=error.cause_type,
        )
        self._store.put(self._key, note.model_dump_json().encode(), content_type="application/json")

    def read(self) -> RunComfyError | None:
        """Return the error that a shard has published; `None` if none did.

        Raises:
            StorageError: the store could not be read.
        """
        if self._store.head(self._key) is None:
            return None
        note = _HaltNote.model_validate_json(self._store.read(self._key, limit_bytes=_MAX_BYTES))
        kind = CONCERN_ALL.get(note.error_type, RunComfyError)
        return kind(note.message, error_code=note.error_code, cause_type=note.cause_type)


@asynccontextmanager
async def stop_on_halt(halt: Halt | None, breaker: CircuitBreaker, *, poll_seconds: float = 5.0) -> AsyncIterator[None]:
    """Stop the breaker while the body runs once another shard was stopped; it is checked at the start too.

    Args:
        halt: What the shards share; `None` for a batch that has none.
        breaker: What lets rows of this shard begin.
        poll_seconds: How often to poll.
    """
    if halt is None:
        yield
        return
    await _check(halt, breaker)
    polling = asyncio.create_task(_keep_checking(halt, breaker, poll_seconds))
    try:
        yield
    finally:
        polling.cancel()
        await asyncio.wait([polling])


async def publish_halt(halt: Halt | None, error: RunComfyError, log: Log) -> None:
    """Publish what stopped this shard; if that fails, each of the others finds out for itself."""
    if halt is None:
        return
    try:
        await asyncio.to_thread(halt.publish, error)
    except StorageError as failure:
        log.warning("The other shards could not be notified: %s", failure)


async def _keep_checking(halt: Halt, breaker: CircuitBreaker, poll_seconds: float) -> None:
    while breaker.stopped is None:
        await asyncio.sleep(poll_seconds)
        await _check(halt, breaker)


async def _check(halt: Halt, breaker: CircuitBreaker) -> None:
    try:
        error = await asyncio.to_thread(halt.read)
    except StorageError:  # the next poll finds it
        return
    if error is not None and breaker.stopped is None:
        breaker.stop(error)
