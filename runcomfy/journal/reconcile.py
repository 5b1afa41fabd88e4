"""Reconcile the generations that nobody waits for: find out how they ended, and which can be collected.

They are found without reading those that are at an end. A listing shows when each entry was last written, and one that
has not changed since it was at an end still is; so only what has changed and what was open before is read. A note
beside the entries keeps both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from runcomfy.api.client import RunComfyClient
from runcomfy.api.refusals import ANOTHER_ACCOUNT, REPLICAS_LAG_SECONDS
from runcomfy.api.requests import succeeded
from runcomfy.api.responses import Answer, State
from runcomfy.errors import AuthenticationError, GenerationError, NoOutput, RequestNotFound, RunComfyError, ServiceError
from runcomfy.journal.entry import OPEN, Entry, EntryState
from runcomfy.journal.journal import Journal, Versioned, worker_name
from runcomfy.journal.record import may_lag, state_after
from runcomfy.journal.spec import same_service
from runcomfy.models import workload_of

__all__ = ["DueIn", "Finding", "reconcile_entry", "watched_entries"]

_CANCEL_DOUBTED_FOR = timedelta(days=1)
"""For so long after a cancel a request is polled again: the cancel may have been answered wrongly."""

logger = logging.getLogger(__name__)

_NOTE = "watched"
_SKEW = timedelta(hours=1)


class _OpenNote(BaseModel):
    """What the last pass found: up to when everything is known, and the keys that are watched."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    known_until: datetime
    watched: tuple[str, ...]
    entries: int
    """How many there were; if there are more old ones now, some were copied with their old times, and are unknown."""


async def watched_entries(journal: Journal, *, skew: timedelta = _SKEW) -> list[Versioned]:
    """Return the entries that are open, or were cancelled recently.

    Args:
        journal: The journal.
        skew: How far the clocks of the store's own machines may differ; what was written within it is read again.

    Raises:
        StorageError: the journal could not be read.
    """
    modified = await journal.modified()
    note = _parsed(await journal.read_note(_NOTE))
    changed = [key for key, at in modified.items() if note is None or at >= note.known_until - skew]
    if note is not None and len(modified) - len(changed) > note.entries:
        changed = list(modified)
    keys = sorted({*changed, *(note.watched if note else ())})
    unread: list[str] = []
    found = [entry async for entry in journal.read_all(keys, unreadable=unread.append) if _is_watched(entry)]
    for key in unread:
        logger.warning("The journal's entry %s cannot be read by this version, and is skipped", key)
    if modified:
        watched = (*(version.entry.generation_key for version in found), *unread)
        until = min(max(modified.values()), datetime.now(UTC))  # a clock may have been ahead
        keep = _OpenNote(known_until=until, watched=watched, entries=len(modified))
        await journal.write_note(_NOTE, keep.model_dump_json().encode())
    return found


def _is_watched(found: Versioned) -> bool:
    state = found.entry.state
    return state in OPEN or (state is EntryState.CANCELLED and found.age_seconds < _CANCEL_DOUBTED_FOR.total_seconds())


def _parsed(body: bytes | None) -> _OpenNote | None:
    try:
        return _OpenNote.model_validate_json(body) if body is not None else None
    except ValidationError:
        return None  # then everything is read again


DueIn = Callable[[str, timedelta, State], timedelta]
"""After how long a request that goes on is to be polled next, by its workload, its age, and its state."""

_S = EntryState
_EXPIRED_POLLED = timedelta(days=7)
_OVERDUE_AFTER = timedelta(days=1)  # no request takes so long
_STORE_CLOCK = timedelta(seconds=2)  # a store's clock may show whole seconds


@dataclass(frozen=True)
class Finding:
    """What was found out about a generation."""

    entry: Entry
    """As it is now."""
    news: str = ""
    """What is new, in a sentence; empty if nothing is."""
    ready: bool = False
    """Whether its request has succeeded, and its files are to be archived now."""
    stuck: bool = False
    """Whether it makes no progress by itself, though its state does not say so."""
    overdue: bool = False
    """Whether the service has worked on it for longer than any request takes."""
    due: datetime | None = None
    """When it is to be polled next, if nobody else is known to poll it."""

    @property
    def needs_person(self) -> bool:
        """Whether it makes no progress by itself."""
        return self.stuck or self.entry.state in (_S.UNCERTAIN, _S.EXPIRED)


async def reconcile_entry(
    client: RunComfyClient,
    journal: Journal,
    found: Versioned,
    *,
    abandoned_after: timedelta,
    abandoned: bool | None = None,
    due_in: DueIn | None = None,
) -> Finding:
    """Poll a generation's request, and record its state in the journal. Safe beside active workers; costs no money.

    Args:
        client: The service.
        journal: The journal.
        found: The entry as it was read.
        abandoned_after: A submitted request whose entry has not changed for so long is polled, though a run may be
            waiting for it.
        abandoned: `True` if its run is known to have ended, so that its request is polled at once; `False` if the run
            is known to go on; `None` if neither is known, and the age alone decides.
        due_in: Says when a request that goes on is to be polled next; without it, that is unknown.

    Raises:
        AuthenticationError: the service refuses the token.
        StorageError: the journal could not be read or written.
    """
    entry = found.entry
    if not same_service(entry.service, client.base_url):
        return Finding(entry, f"it was submitted to {entry.service}: reconcile it with that account", stuck=True)
    if entry.state is _S.INTENT:
        return await _reconcile_intent(journal, found, abandoned)
    if not _needs_poll(found, timedelta(0) if abandoned else abandoned_after):
        return Finding(entry)
    request_id = entry.request_id or ""
    try:
        answer = await client.result(request_id)
        ready = succeeded(answer)
    except NoOutput as error:
        await _record(journal, entry, _S.DETACHED, error.message, error=error)
        return Finding(entry, error.message, stuck=True)
    except GenerationError as error:
        return await _record(journal, entry, state_after(error) or entry.state, error.message, error=error)
    except RequestNotFound as error:
        if error.error_code == ANOTHER_ACCOUNT or entry.state is _S.UNCERTAIN:
            return Finding(entry, error.message, stuck=True)
        if may_lag(found):
            return Finding(entry, due=_in(REPLICAS_LAG_SECONDS - found.age_seconds))
        return await _record(journal, entry, _S.EXPIRED, error.message, error=error)
    except ServiceError as error:
        if isinstance(error, AuthenticationError) and error.http_status != 403:
            raise  # the token, so it is the same for all; a 403 may be about this one
        return Finding(entry, f"could not be polled: {error.message}", stuck=not error.retryable)
    if ready:
        return await _ready(journal, entry)
    finding = await _goes_on(journal, entry, answer)
    if due_in is None or finding.stuck or abandoned is False or finding.entry.state not in (_S.SUBMITTED, _S.DETACHED):
        return finding
    now = datetime.now(UTC)
    age = max(now - (entry.submitted_at or entry.created_at), timedelta())
    return replace(finding, due=now + due_in(workload_of(entry.model_id, entry.inputs), age, answer.state))


def _needs_poll(found: Versioned, abandoned_after: timedelta) -> bool:
    """Whether its request may have a state that the journal does not know."""
    entry, age = found.entry, timedelta(seconds=found.age_seconds)
    if entry.request_id is None:
        return False
    if entry.state is _S.SUBMITTED:
        return age >= abandoned_after
    if entry.state is _S.EXPIRED:
        return datetime.now(UTC) - (entry.submitted_at or entry.created_at) < _EXPIRED_POLLED
    return entry.state in (_S.DETACHED, _S.UNCERTAIN) or (entry.state is _S.CANCELLED and age < _CANCEL_DOUBTED_FOR)


async def _reconcile_intent(journal: Journal, found: Versioned, abandoned: bool | None) -> Finding:
    """Leave it alone during its lease, even if its run is known to have ended: the process may not know that."""
    if found.lease_remaining_seconds:
        return Finding(found.entry, due=_in(found.lease_remaining_seconds) if abandoned else None)
    moved = found.entry.marked_uncertain(worker=worker_name())
    if await journal.replace(found, moved) is None:
        return Finding(found.entry)  # another worker wrote it just now
    return Finding(moved, found.entry.silence_reason)


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds) + _STORE_CLOCK


async def _ready(journal: Journal, entry: Entry) -> Finding:
    """Let it be archived; an entry that lost track of its request returns to `submitted` first."""
    if entry.state in (_S.UNCERTAIN, _S.EXPIRED):
        found = await _record(journal, entry, _S.SUBMITTED, "the service knows the request after all")
        entry = found.entry
    return Finding(entry, "it is finished, and is collected", ready=entry.may_become(_S.ARCHIVED))


async def _goes_on(journal: Journal, entry: Entry, answer: Answer) -> Finding:
    if entry.state is _S.CANCELLED and answer.state is not State.CANCELLED:
        return await _record(journal, entry, _S.DETACHED, f"it was cancelled, but the service says '{answer.word}'")
    if entry.state in (_S.UNCERTAIN, _S.EXPIRED):
        return await _record(journal, entry, _S.SUBMITTED, "the service knows the request after all")
    age = datetime.now(UTC) - (entry.submitted_at or entry.created_at)
    if age < _OVERDUE_AFTER:
        return Finding(entry)
    hours = age / timedelta(hours=1)
    news = f"the service says '{answer.word}' {hours:.0f} hours after its submission"
    return Finding(entry, news, stuck=True, overdue=True)


async def _record(
    journal: Journal, entry: Entry, state: EntryState, reason: str, *, error: RunComfyError | None = None
) -> Finding:
    if state is entry.state:
        return Finding(entry)
    cost: dict[str, Any] = {"cost_usd": error.cost_usd} if error is not None and error.cost_usd is not None else {}
    key, request_id = entry.generation_key, entry.request_id or ""
    now = await journal.advance(key, request_id, state, reason=reason, error=error, **cost)
    return Finding(now or entry, reason if now is not None and now.state is state else "")
