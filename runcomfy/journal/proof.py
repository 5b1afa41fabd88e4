"""Which models have lately had a generation archived in a store, and which were stopped: a note beside the entries.

It tells a batch that account, network, bucket and model work together, before it pays for many at once; or that a cause
which is common to all stopped a run, and nothing was archived since.
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
_LATELY = timedelta(days=1)
_NOTED_SECONDS = 3600.0  # a process notes the same no more often
_noted: TTLCache[tuple[str, ...], bool] = TTLCache(maxsize=1024, ttl=_NOTED_SECONDS)


class StopNote(BaseModel):
    """What stopped a run: a cause that is common to all."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    error_type: str
    error_code: str = ""
    alike: int
    """How many had failed alike."""
    setting: Literal["first_at_once", "stop_after_alike"]
    """Which rule it was; whoever raises it above `alike` says that the cause is not common."""
    at: datetime

    @property
    def cause(self) -> tuple[str, str]:
        """The class of the error, and its code or nothing."""
        return self.error_type, self.error_code


class RecentProof(NamedTuple):
    """What is known of models in a store, of the last day."""

    archived: set[str]
    """Of which one was archived."""
    stopped: dict[str, StopNote]
    """At which a run was stopped, and of which none was archived since."""


class _ProofNote(BaseModel):
    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    archived_at: dict[str, datetime] = {}
    """By service, store and model."""
    stops: dict[str, StopNote] = {}
    """The same."""

    @classmethod
    def read(cls, body: bytes | None) -> _ProofNote:
        """Read it, without what is older than a day."""
        try:
            note = cls() if body is None else cls.model_validate_json(body)
        except ValidationError:
            return cls()
        since = datetime.now(UTC) - _LATELY
        return cls(
            archived_at={name: at for name, at in note.archived_at.items() if at > since},
            stops={name: stop for name, stop in note.stops.items() if stop.at > since},
        )


async def note_archived(journal: Journal, entry: Entry) -> None:
    """Note that a generation was archived just now; if that fails, a batch begins with a few, which costs time only."""
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
        logger.info("It could not be noted that a generation was archived: %s", error)
    _noted.pop(once, None)


async def note_stops(journal: Journal, service: str, store: str, stops: Mapping[str, StopNote]) -> None:
    """Note what stopped a run, by model, so that the next one pays for one only to find out whether it is over.

    If that fails, the next one begins with a few, as if nothing had been.
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
        logger.warning("It could not be noted that a run was stopped: %s", error)
    _forget(journal, named)


async def recent_proof(
    journal: Journal, service: str, store: str, model_ids: Iterable[str], entries: Iterable[Entry] = ()
) -> RecentProof:
    """Return of which of these models one was archived in this store within a day, and which were stopped since.

    Args:
        journal: The journal.
        service: The base URL of the service.
        store: `s3://bucket/prefix/`.
        model_ids: The models.
        entries: Entries that are known already, which may tell more than the note.
    """
    try:
        note = _ProofNote.read(await journal.read_note(_NOTE))
    except RunComfyError as error:
        logger.info("It could not be read what was archived lately: %s", error)
        note = _ProofNote()
    since = datetime.now(UTC) - _LATELY
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
    """Let the next archived one be noted although one was a moment ago: it ends a stop."""
    for name in names:
        _noted.pop((journal.store.where, name), None)


def _name(service: str, store: str, model_id: str) -> str:
    return f"{service} {store} {model_id}"
