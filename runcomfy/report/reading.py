"""Read the generations of a report from the catalogue, and never from a listing of the archive."""

from __future__ import annotations

import re
from datetime import date

from runcomfy.catalogue.values import TABLE, Row
from runcomfy.errors import ConfigurationError
from runcomfy.extras import needed
from runcomfy.report.options import Selection
from runcomfy.storage.store import Store

__all__ = ["last_day", "read_rows"]

_DAY = re.compile(r"/day=(\d{4}-\d\d-\d\d)/")
_UNUSED = frozenset({"image_sha256", "service", "variation", "video_sha256", "worker"})


def last_day(store: Store) -> date | None:
    """Return the last day that the catalogue has; `None` if there is none. Blocks: one call for three years.

    Raises:
        StorageError: the store could not be listed.
    """
    return max(_days(store), default=None)


def read_rows(store: Store, selection: Selection) -> tuple[Selection, list[Row]]:
    """Return the selection with its days, and its rows, the newest first. Blocks: one call more than it has days.

    Raises:
        ConfigurationError: there is no catalogue, a later version of this program wrote it, or what reads it is not
            installed.
        StorageError: the store or a file of the catalogue could not be read.
    """
    with needed("report", "A report"):
        from runcomfy.catalogue.columns import SCHEMA
        from runcomfy.catalogue.partitions import read_partition
    columns = [name for name in SCHEMA.names if name not in _UNUSED]
    days = _days(store)
    if not days:
        raise ConfigurationError(
            f"There is no catalogue in {store.uri(store.key(TABLE))}, and a report is made of that: run "
            "`prefect-runcomfy catalogue` first."
        )
    until = selection.until or max(days[-1], selection.since or days[-1])
    selection = selection.model_copy(update={"since": selection.since or until, "until": until})
    rows: list[Row] = []
    for day in days:
        if selection.includes(day):
            rows += filter(selection.takes, read_partition(store, day).table.select(columns).to_pylist())
    rows.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
    return selection, rows


def _days(store: Store) -> list[date]:
    """Return every day that has a file, the oldest first."""
    names = (_DAY.search(each.key) for each in store.list(store.key(TABLE)))
    return sorted({date.fromisoformat(found[1]) for found in names if found})
