"""Record in the journal how the waiting for a request ended.

A request that is no longer to be waited for is cancelled if it is queued, and detached if it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from runcomfy.api.client import RunComfyClient
from runcomfy.api.refusals import ANOTHER_ACCOUNT, REPLICAS_LAG_SECONDS
from runcomfy.api.requests import NOT_CANCELLED, cancel, state_after_cancel
from runcomfy.api.responses import State
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
    ServiceError,
    StorageError,
)
from runcomfy.journal.entry import RESTARTABLE, Entry, EntryState
from runcomfy.journal.journal import Journal, Versioned, worker_name
from runcomfy.values import Archive, ArchivedVideo, Result

__all__ = [
    "cancel_or_detach",
    "may_lag",
    "record_archived",
    "record_end",
    "record_outcome",
    "record_reviewed",
    "state_after",
]

logger = logging.getLogger(__name__)

_RECORD_SECONDS = 20.0


def state_after(error: BaseException) -> EntryState | None:
    """Return the state of a generation whose waiting ended with this error; `None` if the error does not say it."""
    match error:
        case GenerationFailed():
            return EntryState.FAILED
        case GenerationCancelled() | QueueTimeout():
            return EntryState.CANCELLED
        case RunTimeout() | PollingFailed() | NoOutput() | ArchiveError():
            return EntryState.DETACHED  # paid for, or may be: polled again, and not paid for again
        case RequestNotFound() if error.error_code != ANOTHER_ACCOUNT:
            return EntryState.EXPIRED
        case _:
            return None


def may_lag(found: Versioned) -> bool:
    """Whether a service that does not know a request may be a replica that lags behind.

    The age of the entry is by the store's clock, which is the same for all workers.
    """
    return found.entry.state in (EntryState.SUBMITTED, EntryState.DETACHED) and found.age_seconds < REPLICAS_LAG_SECONDS


@asynccontextmanager
async def record_outcome(journal: Journal | None, key: str | None, request_id: str) -> AsyncIterator[None]:
    """Record the error with which the body ends, if it says what state the request is in.

    Args:
        journal: Where it is recorded.
        key: The generation. Without a journal or a key, nothing is recorded.
        request_id: Its request.
    """
    try:
        yield
    except RunComfyError as error:
        state = state_after(error)
        if journal is not None and key is not None and state is not None:
            await record_end(
                journal, key, request_id, state, reason=error.message, error=error, cost_usd=error.cost_usd
            )
        raise


async def record_end(
    journal: Journal, key: str, request_id: str, state: EntryState, *, reason: str | None = None, **changes: Any
) -> Entry | None:
    """Record the state of a request; if the journal cannot be written, the next run or `reconcile` finds it out again.

    A request that the service does not know shortly after it was submitted is detached, not expired.
    """
    known = {name: value for name, value in changes.items() if value is not None}
    with anyio.move_on_after(_RECORD_SECONDS, shield=True):
        try:
            if state is EntryState.EXPIRED and (found := await journal.read(key)) and may_lag(found):
                state = EntryState.DETACHED
            return await journal.advance(key, request_id, state, reason=reason, **known)
        except StorageError as trouble:
            logger.warning("The journal could not record that generation %s is %s: %s", key[:12], state, trouble)
    return None


async def record_archived(journal: Journal, key: str, request_id: str, archive: Archive) -> Entry | None:
    """Record that a request of a generation is archived, the current one or an earlier one; return the entry.

    A request whose file a person rejected does not end a generation that may be paid for again: it was released since.

    Raises:
        StorageError: the journal could not be written; archiving again does no harm, and records it then.
    """
    known: dict[str, Any] = {"archive": archive, "cost_usd": archive.result.cost_usd}
    if any(video.is_rejected for video in archive.videos):
        found = await journal.read(key)
        if found is not None and _is_settled(found.entry, request_id):
            return found.entry
    entry = await journal.advance(key, request_id, EntryState.ARCHIVED, **known)
    if entry is not None and entry.request_id != request_id:
        return await _record_earlier_archived(journal, key, request_id, archive)
    if entry is not None and entry.state is EntryState.UNCERTAIN:  # its answer named the request, and here it is
        await journal.advance(key, request_id, EntryState.SUBMITTED, reason="the request has made its files")
        return await journal.advance(key, request_id, EntryState.ARCHIVED, **known)
    return entry


def _is_settled(entry: Entry, request_id: str) -> bool:
    """Whether a person released a generation after this request of it, so that another may be paid for."""
    return entry.state is EntryState.RELEASED or entry.request_id != request_id


async def _record_earlier_archived(journal: Journal, key: str, request_id: str, archive: Archive) -> Entry | None:
    """Record that an earlier request is archived, and return the entry.

    If the next run would pay for the generation again, the generation becomes archived. If a later request is under
    way, that one goes on, and the earlier one is only added to the history.
    """
    conflicts = 0
    while found := await journal.read(key):
        entry = found.entry
        own = [event for event in entry.history if event.request_id == request_id]
        if not own or any(event.state is EntryState.ARCHIVED for event in own):
            return entry
        moved = entry.moved(
            EntryState.ARCHIVED,
            worker=worker_name(),
            reason="an earlier request of it was fetched",
            request_id=request_id,
            submitted_at=own[0].at,
            archive=archive,
            cost_usd=archive.result.cost_usd,
        )
        event = moved.history[-1].model_copy(update={"attempt": own[-1].attempt})
        moved = moved.model_copy(update={"history": (*moved.history[:-1], event)})
        if entry.state not in RESTARTABLE:
            kept = {"history": moved.history, "updated_at": moved.updated_at, "nonce": moved.nonce}
            moved = entry.model_copy(update=kept)
        if await journal.replace(found, moved) is not None:
            return moved
        conflicts = await journal.pause_after_conflict(conflicts)
    return None


async def record_reviewed(
    journal: Journal, key: str, current: Callable[[], Awaitable[ArchivedVideo | None]]
) -> Entry | None:
    """Record where a file of a generation is now, and what a person decided about it; return the entry.

    The file is read after the entry and before the entry is written, so that of several people who decide one after the
    other the last decision is recorded, whoever writes it last. The state stays as it is, but for one that the next run
    would pay for again: a file of it that is accepted is archived after all, also where another request was made since,
    in vain. It may be repeated; an entry that does not have the file, since another request is under way or it is not
    recorded yet, is left as it is.

    Args:
        journal: The journal.
        key: The generation.
        current: Reads the file as it is now; `None` if it is gone.

    Raises:
        StorageError: the journal could not be read or written.
    """
    conflicts = 0
    while found := await journal.read(key):
        entry, video = found.entry, await current()
        if video is None:
            return entry
        videos = entry.archive.videos if entry.archive is not None else ()
        same = [each for each in videos if (each.request_id, each.index) == (video.request_id, video.index)]
        again = entry.state in RESTARTABLE and not video.is_rejected
        if not same and again and video.review is not None and video.request_id in entry.request_ids:
            moved = _accepted_after_all(entry, video)
        elif not same or entry.archive is None or not (entry.state is EntryState.ARCHIVED or again):
            return entry
        else:
            now = video.model_copy(update={"already_archived": same[0].already_archived})
            if same[0] == now and not again:
                return entry
            kept = tuple(now if each in same else each for each in videos)
            archive = entry.archive.model_copy(update={"videos": kept})
            reason = video.review.sentence if video.review is not None else "another worker archived it, too"
            moved = entry.moved(
                EntryState.ARCHIVED, worker=worker_name(), reason=reason, archive=archive, request_id=video.request_id
            )
        if await journal.replace(found, moved) is not None:
            return moved
        conflicts = await journal.pause_after_conflict(conflicts)
    return None


def _accepted_after_all(entry: Entry, video: ArchivedVideo) -> Entry:
    """Return the entry of a generation whose last attempt was in vain, archived by a file of an earlier request."""
    own = [event for event in entry.history if event.request_id == video.request_id]
    is_last = entry.request_id == video.request_id
    cost_usd = entry.cost_usd if is_last else entry.earlier_costs_usd.get(video.request_id)
    result = Result(
        request_id=video.request_id, output_count=1, noticed_at=own[-1].at, queued_seconds=None, running_seconds=None,
        polls=0, cost_usd=cost_usd,
    )  # fmt: skip
    return entry.moved(
        EntryState.ARCHIVED,
        worker=worker_name(),
        reason=video.review.sentence if video.review is not None else None,
        archive=Archive(result=result, videos=(video,)),
        request_id=video.request_id,
        submitted_at=own[0].at,
        cost_usd=cost_usd,
    )


_POLLS_AFTER_CANCEL = 4


async def cancel_or_detach(
    client: RunComfyClient, journal: Journal | None, key: str | None, request_id: str, *, reason: str
) -> EntryState:
    """Cancel a request if it is still in the queue, and record the state that it is in afterwards.

    A cancel that is lost, refused, or answered with what then proves wrong leaves the request detached: the next run or
    `reconcile` polls it until it is known how it ended.

    Args:
        client: The service.
        journal: Where it is recorded.
        key: The generation. Without a journal or a key, nothing is recorded.
        request_id: Its request.
        reason: Why, for a person.

    Returns:
        `cancelled`, `detached`, or `expired` if the service does not know the request; `archived` if another worker
        has archived it in the meantime, which stays so.
    """
    state, outcome = await _cancelled(client, request_id)
    if journal is not None and key is not None:
        entry = await record_end(journal, key, request_id, state, reason=f"{reason}; {outcome}")
        if entry is not None and entry.request_id == request_id and entry.state is EntryState.ARCHIVED:
            return EntryState.ARCHIVED
    return state


async def _cancelled(client: RunComfyClient, request_id: str) -> tuple[EntryState, str]:
    try:
        outcome = (await cancel(client, request_id)).outcome
    except RequestNotFound as error:
        return state_after(error) or EntryState.DETACHED, error.message
    except ServiceError as error:
        return EntryState.DETACHED, f"the cancel was not answered: {error.message}"
    if outcome != "cancelled":
        return EntryState.DETACHED, f"the service answered the cancel with {outcome or 'nothing that can be read'}"
    for attempt in range(_POLLS_AFTER_CANCEL):
        seen = await state_after_cancel(client, request_id)
        if seen is State.CANCELLED:
            return EntryState.CANCELLED, "cancelled in the queue"
        if seen in NOT_CANCELLED:
            return EntryState.DETACHED, "the service said that it was cancelled, but it goes on"
        await asyncio.sleep(0.5 * 2**attempt)
    return EntryState.DETACHED, "the service said that it was cancelled, but does not show it as cancelled yet"
