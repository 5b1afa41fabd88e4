"""The generations that somebody has to look after, found without reading those that are at an end.

A listing tells when each entry was written last. One that has not changed since it was found to be at an end still is;
so only what has changed is read, and what was open the last time. A note beside the entries keeps both.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from runcomfy.journal.entry import OPEN, EntryState
from runcomfy.journal.journal import Journal, Versioned

__all__ = ["LATE", "watched_entries"]

LATE = timedelta(days=1)
"""So long after a cancel is a request looked at again: it may have been answered wrongly."""

logger = logging.getLogger(__name__)

_NOTE = "watched"
_SKEW = timedelta(hours=1)


class _Note(BaseModel):
    """What the last look found: up to when everything is known, and the keys that are watched."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    known_until: datetime
    watched: tuple[str, ...]
    entries: int
    """How many there were: more old ones than that were put there with their old times, and are not known."""


async def watched_entries(journal: Journal, *, skew: timedelta = _SKEW) -> list[Versioned]:
    """Return the entries that are open, or were cancelled lately.

    Args:
        journal: The journal.
        skew: How far the clocks of the store's own machines may be apart; what was written within it is read again.

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
        logger.warning("The journal's entry %s cannot be read by this version, and is passed over", key)
    if modified:
        watched = (*(version.entry.generation_key for version in found), *unread)
        until = min(max(modified.values()), datetime.now(UTC))  # a clock may have been ahead
        keep = _Note(known_until=until, watched=watched, entries=len(modified))
        await journal.write_note(_NOTE, keep.model_dump_json().encode())
    return found


def _is_watched(found: Versioned) -> bool:
    state = found.entry.state
    return state in OPEN or (state is EntryState.CANCELLED and found.age_seconds < LATE.total_seconds())


def _parsed(body: bytes | None) -> _Note | None:
    try:
        return _Note.model_validate_json(body) if body is not None else None
    except ValidationError:
        return None  # then everything is read once more
