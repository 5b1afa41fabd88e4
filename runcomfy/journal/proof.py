"""Of which models a generation was archived recently in a media store, and which were stopped: a note beside entries.

It shows a batch, before it pays for many at once, that account, network, bucket and model work together; or that a
common cause stopped a run, and nothing was archived since.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from cachetools import TTLCache
from pydantic import BaseModel, ConfigDict, ValidationError

from runcomfy.errors import RunComfyError
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import Journal

__all__ = ["RecentProof", "StopNote", "note_archived", "note_stops", "recent_proof"]

logger = logging.getLogger(__name__)

_NOTE = "archived-lately"
_RECENT = timedelta(days=1)
_NOTED_SECONDS = 3600.0  # a process writes the same note no more often
_noted: TTLCache[tuple[str, ...], bool] = TTLCache(maxsize=1024, ttl=_NOTED_SECONDS)


class StopNote(BaseModel):
    """What stopped a run: a common cause."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    error_type: str
    error_code: str = ""
    alike: int
    """How many had failed for the same cause."""
    setting: Literal["first_at_once", "stop_after_alike"]
    """The setting that stopped it; a value above `alike` says that the cause is not common."""
    at: datetime

    @property
    def cause(self) -> tuple[str, str]:
        """The class of the error, and its code; empty if it has none."""
        return self.error_type, self.error_code


class RecentProof(NamedTuple):
    """What is known of models in a media store, of the last day."""

    archived: set[str]
    """Models of which a generation was archived."""
    stopped: dict[str, StopNote]
    """Models at which a run was stopped, and of which nothing was archived since."""


class _ProofNote(BaseModel):
    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    archived_at: dict[str, datetime] = {}
    """By service, media store and model."""
    stops: dict[str, StopNote] = {}
    """By the same."""

    @classmethod
    def read(cls, body: bytes | None) -> _ProofNote:
        """Parse a note, without what is older than a day."""
        try:
            note = cls() if body is None else cls.model_validate_json(body)
        except ValidationError:
            return cls()
        since = datetime.now(UTC) - _RECENT
        return cls(
            archived_at={name: at for name, at in note.archived_at.items() if at > since},
            stops={name: stop for name, stop in note.stops.items() if stop.at > since},
        )


async def note_archived(journal: Journal, entry: Entry) -> None:
    """Note that a generation was just archived; if that fails, a batch begins with a few, which only costs time."""
    name = _name(entry.service, entry.store, entry.model_id)
    once = (journal.store.where, name)
    if entry.state is not EntryState.ARCHIVED or once in _noted:
        return
    _noted[once] = True

    def change(body: bytes | None) -> bytes:
        note = _ProofNote.read(body)
        note.archived_at[name] = datetime.now(UTC)
        note.stops.pop(name, None)
        return note.model_dump_json().encode()

    try:
        if await journal.update_note(_NOTE, change):
            return
    except RunComfyError as error:
        logger.info("The journal could not note that a generation was archived: %s", error)
    _noted.pop(once, None)


async def note_stops(journal: Journal, service: str, store: str, stops: Mapping[str, StopNote]) -> None:
    """Note what stopped a run, by model, so that the next run pays for just one to find out if it is over.

    If that fails, the next run begins with a few, as if nothing had happened.
    """
    named = {_name(service, store, model): stop for model, stop in stops.items()}

    def change(body: bytes | None) -> bytes:
        note = _ProofNote.read(body)
        note.stops.update(named)
        return note.model_dump_json().encode()

    try:
        conflicts = 0
        while not await journal.update_note(_NOTE, change):
            conflicts = await journal.pause_after_conflict(conflicts)
    except RunComfyError as error:
        logger.warning("The journal could not note that a run was stopped: %s", error)
    _forget(journal, named)


async def recent_proof(
    journal: Journal, service: str, store: str, model_ids: Iterable[str], entries: Iterable[Entry] = ()
) -> RecentProof:
    """Return of which of these models one was archived in this media store within a day, and which were stopped since.

    Args:
        journal: The journal.
        service: The base URL of the service.
        store: `s3://bucket/prefix/`.
        model_ids: The models.
        entries: Entries that are known already, which may say more than the note.
    """
    try:
        note = _ProofNote.read(await journal.read_note(_NOTE))
    except RunComfyError as error:
        logger.info("The journal's note of what was archived recently could not be read: %s", error)
        note = _ProofNote()
    since = datetime.now(UTC) - _RECENT
    for entry in entries:
        name = _name(entry.service, entry.store, entry.model_id)
        if entry.state is EntryState.ARCHIVED and entry.updated_at > since:
            note.archived_at[name] = entry.updated_at
            if name in note.stops and entry.updated_at > note.stops[name].at:
                del note.stops[name]
    _forget(journal, note.stops)
    wanted = {model: _name(service, store, model) for model in model_ids}
    return RecentProof(
        {model for model, name in wanted.items() if name in note.archived_at},
        {model: note.stops[name] for model, name in wanted.items() if name in note.stops},
    )


def _forget(journal: Journal, names: Iterable[str]) -> None:
    """Let the next archived generation be noted, even if one was a moment ago: it ends a stop."""
    for name in names:
        _noted.pop((journal.store.where, name), None)


def _name(service: str, store: str, model_id: str) -> str:
    return f"{service} {store} {model_id}"
