"""Bring the catalogue up to date: read what has changed since the last time, and replace the days that it belongs to.

A row is made of the journal's entry alone, which names the archived files; so a provenance file is read only if no
entry that has changed names it. Several updates may run at once, beside any number of workers: each day's file has one
writer at a time, and one that comes second begins with what the first one wrote. What the update knew is written last,
so one that is killed is done again by the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import date, datetime

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runcomfy.catalogue.changes import Seen, changed, seen_now
from runcomfy.catalogue.columns import SCHEMA, SCHEMA_VERSION
from runcomfy.catalogue.files import provenance_files
from runcomfy.catalogue.gathering import Gathering
from runcomfy.catalogue.partitions import merged, read_partition, summary, write_partition
from runcomfy.catalogue.values import FOLDER, TABLE, Day, Update
from runcomfy.errors import ConfigurationError, StoreUnavailable
from runcomfy.journal import Journal
from runcomfy.storage.store import Store

__all__ = ["update"]

_STATE = f"{FOLDER}state.json"
_RULES = 2  # since 2, a request that a generation has never has a row of its own
_MAX_STATE_BYTES = 256 * 1024 * 1024
_MOST_CONFLICTS = 20
_CLOCK_SECONDS = 2.0  # the store gives an object's age in whole seconds


class _CatalogueState(BaseModel):
    """What an update leaves for the next one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = SCHEMA_VERSION
    prompts: bool
    rules: int = Field(default=1, description="What makes a row; where it was otherwise, everything is read again.")
    entries: Seen | None = None
    files: Seen | None = None
    requests: dict[str, date] = Field(
        default_factory=dict, description="The requests that have a row of their own, each with its day."
    )


async def update(
    store: Store, journal: Journal | None, *, prompts: bool | None = None, everything: bool = False
) -> Update:
    """Bring the catalogue of a store up to date, and say what has changed.

    Args:
        store: The bucket and prefix with the archive; it also has the catalogue.
        journal: The journal of what is archived there; `None` if none outlives a process.
        prompts: Whether prompts are written as they are; `None` is as the last time, and at first they are. Where it
            was otherwise the last time, everything is read again.
        everything: Read everything again, not only what has changed.

    Raises:
        ConfigurationError: the store has no conditional writes, or a later version wrote the catalogue.
        StorageError: the store or the journal could not be read or written.
    """
    began = time.monotonic()
    before = await asyncio.to_thread(_read_state, store)
    if prompts is None:
        prompts = before.prompts if before is not None else True
    wanted = (SCHEMA_VERSION, _RULES, prompts)
    is_current = before is not None and (before.schema_version, before.rules, before.prompts) == wanted
    known = before if before is not None and is_current and not everything else _CatalogueState(prompts=prompts)
    # In this order: an entry is older than its files, so the entry of every file that is seen here is seen as well.
    files = await asyncio.to_thread(provenance_files, store)
    entries = await journal.modified() if journal is not None else dict[str, datetime]()
    rows = Gathering(store, journal, prompts=prompts, requests=known.requests)
    changed_entries = changed(entries, known.entries)
    await rows.add_entries(changed_entries)
    unnamed = [key for key in changed(files, known.files) if key not in rows.named]
    await rows.add_files(unnamed, files)
    days = await _write(store, rows, rows.gone(), began)
    state = _CatalogueState(
        prompts=prompts,
        rules=_RULES,
        requests=rows.requests,
        entries=seen_now(entries, known.entries, unsettled=rows.unsettled, unread=rows.unread_entries),
        files=seen_now(files, known.files, unsettled=(), unread=rows.unread_files),
    )
    if state != before:
        body = state.model_dump_json().encode()
        await asyncio.to_thread(store.put, store.key(_STATE), body, content_type="application/json")
    return Update(
        table=store.uri(store.key(TABLE)),
        entries=len(entries),
        files=len(files),
        entries_read=len(changed_entries),
        files_read=len(unnamed),
        days=tuple(days),
        unreadable=(*(f"journal entry {key}" for key in rows.unread_entries), *map(store.uri, rows.unread_files)),
    )


def _read_state(store: Store) -> _CatalogueState | None:
    found = store.read_version(store.key(_STATE), limit_bytes=_MAX_STATE_BYTES)
    try:
        state = _CatalogueState.model_validate_json(found.body) if found else None
    except ValidationError:
        return None  # then everything is read once more
    if state is not None and state.schema_version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"The catalogue {store.uri(store.key(TABLE))} is kept by a later version of this program. Nothing was "
            "changed: update this checkout."
        )
    return state


async def _write(store: Store, rows: Gathering, gone: Mapping[date, set[str]], began: float) -> list[Day]:
    new, nothing = rows.by_day(), SCHEMA.empty_table()
    return [
        await _write_day(store, day, rows, new.get(day, nothing), gone.get(day, set()), began)
        for day in sorted(new.keys() | gone.keys())
    ]


async def _write_day(
    store: Store, day: date, rows: Gathering, new: pa.Table, gone: set[str], began: float
) -> Day:  # fmt: skip
    for _ in range(_MOST_CONFLICTS):
        current = await asyncio.to_thread(read_partition, store, day)
        if current.age_seconds <= time.monotonic() - began + _CLOCK_SECONDS:
            # Another update wrote it after this one began, and may have read newer entries: read them once more.
            new = await rows.read_again(new)
        table = await asyncio.to_thread(merged, current.table, new, gone)
        if table.equals(current.table):
            return summary(day, table, written=False)
        if await asyncio.to_thread(write_partition, store, day, current, table):
            return summary(day, table, written=True)
    raise StoreUnavailable(
        f"Other writers came first {_MOST_CONFLICTS} times in a row at the catalogue's day {day}. Check whether "
        "something between here and the store changes its ETags."
    )
