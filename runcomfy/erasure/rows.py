"""Take the words of one generation out of the catalogue; its row stays, with what it cost."""

from __future__ import annotations

import asyncio
import json
from datetime import date

from runcomfy.catalogue.values import FOLDER, TABLE
from runcomfy.errors import StoreUnavailable
from runcomfy.extras import needed
from runcomfy.journal import Entry
from runcomfy.storage.store import Store
from runcomfy.storage.versions import delete_old, old_versions

__all__ = ["blank_rows", "has_catalogue"]

_MOST_CONFLICTS = 20
_MAX_STATE_BYTES = 256 * 1024 * 1024


def has_catalogue(store: Store) -> bool:
    """Whether there is a catalogue, which then can be written. Blocks.

    Raises:
        ConfigurationError: there is one, and what it needs is not installed.
        StorageError: the store could not be listed.
    """
    if next(iter(store.list(store.key(TABLE))), None) is None:
        return False
    with needed("parquet", "The catalogue"):
        import runcomfy.catalogue.partitions  # noqa: F401
    return True


async def blank_rows(store: Store, entry: Entry, *, versions: bool) -> list[str]:
    """Replace the row of an erased generation by what is left of its entry; return the files that were changed.

    A row that another update writes at the same time is made of the entry as it is by then.

    Args:
        store: Where the catalogue is.
        entry: What is left of it.
        versions: Whether the bucket may have old versions of the table's files, which are then deleted.

    Raises:
        StorageError: the catalogue could not be read or written.
    """
    changed = []
    for day in sorted(await asyncio.to_thread(_days, store, entry)):
        key = await asyncio.to_thread(_blank, store, entry, day)
        if key is not None:
            changed.append(key)
        await asyncio.to_thread(_forget, store, day, versions=versions)
    return changed


def _days(store: Store, entry: Entry) -> set[date]:
    """Return the days that may have a row of it: its own, and those of requests that were fetched by their id alone."""
    from runcomfy.catalogue.rows import day_of

    days = {day_of({"created_at": entry.created_at})}
    found = store.read_version(store.key(f"{FOLDER}state.json"), limit_bytes=_MAX_STATE_BYTES)
    try:
        known = json.loads(found.body).get("requests", {}) if found else {}
        return days | {date.fromisoformat(known[each]) for each in entry.request_ids if each in known}
    except (ValueError, AttributeError, TypeError):
        return days


def _blank(store: Store, entry: Entry, day: date) -> str | None:
    import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types

    from runcomfy.catalogue.columns import SCHEMA
    from runcomfy.catalogue.partitions import merged, partition_key, read_partition, write_partition
    from runcomfy.catalogue.rows import REQUEST, row_of_entry

    gone = {f"{REQUEST}{request_id}" for request_id in entry.request_ids}
    for _ in range(_MOST_CONFLICTS):
        current = read_partition(store, day)
        ids = set(current.table["id"].to_pylist())
        rows = [row_of_entry(entry, prompts=False)] if entry.generation_key in ids else []
        if not rows and not gone & ids:
            return None
        table = merged(current.table, pa.Table.from_pylist(rows, SCHEMA), gone)
        if table.equals(current.table) or write_partition(store, day, current, table):
            return partition_key(store, day)
    raise StoreUnavailable(
        f"Other writers came first {_MOST_CONFLICTS} times in a row at the catalogue's day {day}. Erase it again."
    )


def _forget(store: Store, day: date, *, versions: bool) -> None:
    from runcomfy.catalogue.partitions import partition_key

    for old in list(old_versions(store, partition_key(store, day))) if versions else ():
        delete_old(store, old)
