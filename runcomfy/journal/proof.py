"""Which models have lately had a generation archived in a store: a note beside the journal's entries.

It tells a batch that account, network, bucket and model work together, before it pays for many at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cachetools import TTLCache
from pydantic import BaseModel, ConfigDict, ValidationError

from runcomfy.errors import RunComfyError
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import Journal

__all__ = ["archived_lately", "note_archived"]

logger = logging.getLogger(__name__)

_NOTE = "archived-lately"
_LATELY = timedelta(days=1)
_NOTED_SECONDS = 3600.0  # a process notes the same no more often
_noted: TTLCache[tuple[str, ...], bool] = TTLCache(maxsize=1024, ttl=_NOTED_SECONDS)


class _Note(BaseModel):
    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    archived_at: dict[str, datetime] = {}
    """By service, store and model."""


async def note_archived(journal: Journal, entry: Entry) -> None:
    """Note that a generation was archived just now; if that fails, a batch begins with a few, which costs time only."""
    name, now = _name(entry.service, entry.store, entry.model_id), datetime.now(UTC)
    once = (journal.place.where, name)
    if entry.state is not EntryState.ARCHIVED or once in _noted:
        return
    _noted[once] = True

    def change(body: bytes | None) -> bytes:
        known = {each: at for each, at in _read(body).archived_at.items() if at > now - _LATELY}
        return _Note(archived_at=known | {name: now}).model_dump_json().encode()

    try:
        if await journal.update_note(_NOTE, change):
            return
    except RunComfyError as error:
        logger.info("It could not be noted that a generation was archived: %s", error)
    _noted.pop(once, None)


async def archived_lately(
    journal: Journal, service: str, store: str, model_ids: Iterable[str], entries: Iterable[Entry] = ()
) -> set[str]:
    """Return those of these models of which one was archived in this store within a day.

    Args:
        journal: The journal.
        service: The base URL of the service.
        store: `s3://bucket/prefix/`.
        model_ids: The models.
        entries: Entries that are known already, which may tell without the note.
    """
    since = datetime.now(UTC) - _LATELY
    lately = {
        _name(entry.service, entry.store, entry.model_id)
        for entry in entries
        if entry.state is EntryState.ARCHIVED and entry.updated_at > since
    }
    wanted = {model: _name(service, store, model) for model in model_ids}
    if not lately.issuperset(wanted.values()):
        try:
            note = _read(await journal.read_note(_NOTE))
            lately |= {name for name, at in note.archived_at.items() if at > since}
        except RunComfyError as error:
            logger.info("It could not be read what was archived lately: %s", error)
    return {model for model, name in wanted.items() if name in lately}


def _read(body: bytes | None) -> _Note:
    try:
        return _Note() if body is None else _Note.model_validate_json(body)
    except ValidationError:
        return _Note()


def _name(service: str, store: str, model_id: str) -> str:
    return f"{service} {store} {model_id}"
