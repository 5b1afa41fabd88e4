"""Tell the journal how the waiting for a request ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from runcomfy.errors import (
    ArchiveError,
    GenerationCancelled,
    GenerationFailed,
    NoOutput,
    PollingFailed,
    QueueTimeout,
    RequestNotFound,
    RunComfyError,
    RunTimeout,
    StorageError,
)
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import Journal
from runcomfy.provenance import Archive
from runcomfy.refusals import ANOTHER_ACCOUNT

__all__ = ["outcome_told", "state_after", "tell", "tell_archived"]

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 20.0


def state_after(error: BaseException) -> EntryState | None:
    """Return what a generation is after its waiting ended with this error; `None` where that says nothing of it."""
    match error:
        case GenerationFailed():
            return EntryState.FAILED
        case GenerationCancelled() | QueueTimeout():
            return EntryState.CANCELLED
        case RunTimeout() | PollingFailed() | NoOutput() | ArchiveError():
            return EntryState.DETACHED  # paid for, or may be: looked at again, and not paid for again
        case RequestNotFound() if error.error_code != ANOTHER_ACCOUNT:
            return EntryState.EXPIRED
        case _:
            return None


@asynccontextmanager
async def outcome_told(journal: Journal | None, key: str | None, request_id: str) -> AsyncIterator[None]:
    """Tell the journal of the error with which the body ends, if it says something of the request.

    Args:
        journal: What is told.
        key: The generation. Without a journal or a key, nothing is told.
        request_id: Its request.
    """
    try:
        yield
    except RunComfyError as error:
        state = state_after(error)
        if journal is not None and key is not None and state is not None:
            await tell(journal, key, request_id, state, reason=error.message, error=error, cost_usd=error.cost_usd)
        raise


async def tell(
    journal: Journal, key: str, request_id: str, state: EntryState, *, reason: str | None = None, **changes: Any
) -> Entry | None:
    """Note what became of a request; if the journal cannot be written, the next run or `reconcile` finds out anew."""
    known = {name: value for name, value in changes.items() if value is not None}
    with anyio.move_on_after(_PATIENCE_SECONDS, shield=True):
        try:
            return await journal.advance(key, request_id, state, reason=reason, **known)
        except StorageError as trouble:
            logger.warning("The journal could not be told that generation %s is %s: %s", key[:12], state, trouble)
    return None


async def tell_archived(journal: Journal, key: str, request_id: str, archive: Archive) -> Entry | None:
    """Note that a generation is archived, and return its entry.

    Raises:
        StorageError: the journal could not be written; archiving again does no harm, and tells it then.
    """
    return await journal.advance(
        key, request_id, EntryState.ARCHIVED, archive=archive, cost_usd=archive.result.cost_usd
    )
