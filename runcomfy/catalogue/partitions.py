"""One Parquet file a day, replaced by a conditional PUT: readers see the old one or the new one, whole.

Of several that write the same day at once one wins, and the others begin with what it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from runcomfy.catalogue.columns import SCHEMA, SCHEMA_VERSION, VERSION_FIELD
from runcomfy.catalogue.values import TABLE, Day
from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.storage.store import Store

__all__ = [
    "Partition",
    "generations_requests",
    "merged",
    "partition_key",
    "read_partition",
    "summary",
    "write_partition",
]

_DAY = re.compile(r"/day=(\d{4}-\d\d-\d\d)/generations\.parquet$")
_LARGEST_BYTES = 1024**3
_TYPE = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Partition:
    """A day's current file; `etag` is `None` if there is none yet."""

    table: pa.Table
    etag: str | None
    age_seconds: float


def partition_key(store: Store, day: date) -> str:
    """Return the key of a day's file."""
    return store.key(f"{TABLE}day={day.isoformat()}/generations.parquet")


def read_partition(store: Store, day: date) -> Partition:
    """Return a day's current file. Blocks.

    Raises:
        ConfigurationError: a later version of this program wrote it.
        StorageError: it cannot be read, or is no Parquet file.
    """
    found = store.read_version(partition_key(store, day), limit_bytes=_LARGEST_BYTES)
    if found is None:
        return Partition(SCHEMA.empty_table(), None, float("inf"))
    try:
        table = pq.read_table(pa.BufferReader(found.body), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"{store.uri(partition_key(store, day))} is no Parquet file that can be read ({type(error).__name__}). "
            "Delete it, and update the catalogue once with everything read again."
        ) from None
    version = int((table.schema.metadata or {}).get(VERSION_FIELD, b"0"))
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"The catalogue was written by a later version of this program (columns of version {version}, not "
            f"{SCHEMA_VERSION}). Nothing was changed: update this checkout."
        )
    return Partition(_with_all_columns(table), found.etag, found.age_seconds)


def merged(current: pa.Table, rows: pa.Table, gone: Collection[str] = ()) -> pa.Table:
    """Return a day with these rows instead of those of the same `id`, and without those that are gone, in order."""
    replaced = pa.chunked_array([rows["id"].combine_chunks(), pa.array(list(gone), pa.string())])
    kept = current.filter(pc.invert(pc.is_in(current["id"], value_set=replaced.combine_chunks())))
    return pa.concat_tables([kept, rows]).sort_by([("created_at", "ascending"), ("id", "ascending")])


def generations_requests(store: Store) -> set[str]:
    """Return every request of the generations that have a row. Blocks, and reads the whole catalogue.

    Raises:
        ConfigurationError, StorageError: as `read_partition`.
    """
    found: set[str] = set()
    for each in store.list(store.key(TABLE)):
        day = _DAY.search(each.key)
        if day is not None:
            table = read_partition(store, date.fromisoformat(day[1])).table
            own = table.filter(pc.is_valid(table["service"]))  # only a generation of the journal has one
            found.update(pc.list_flatten(own["request_ids"]).to_pylist())
    return found


def write_partition(store: Store, day: date, current: Partition, table: pa.Table) -> bool:
    """Put a day in place of what was there; `False` if another writer came first. Blocks.

    Raises:
        ConfigurationError: the store has no conditional writes.
        StorageError: the store refused.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(SCHEMA), sink, compression="zstd")
    body = sink.getvalue().to_pybytes()
    try:
        return store.replace_if(partition_key(store, day), body, etag=current.etag, content_type=_TYPE) is not None
    except StorageError as error:
        if error.error_code != "NotImplemented":
            raise
        raise ConfigurationError(
            f"The catalogue needs a store with conditional writes (If-Match), and that of {store.bucket} has none."
        ) from None


def summary(day: date, table: pa.Table, *, written: bool) -> Day:
    """Return what a day holds, in numbers."""
    counted = table.group_by("outcome").aggregate([("id", "count")]).to_pylist()
    return Day(
        day=day,
        rows=table.num_rows,
        outcomes={row["outcome"]: row["id_count"] for row in sorted(counted, key=lambda row: str(row["outcome"]))},
        cost_usd=pc.sum(table["cost_usd"]).as_py() or Decimal(0),
        requests_without_cost=pc.sum(table["requests_without_cost"]).as_py() or 0,
        written=written,
    )


def _with_all_columns(table: pa.Table) -> pa.Table:
    """Return a table of an earlier version with the columns that it has not, in their order."""
    missing = [field for field in SCHEMA if field.name not in table.schema.names]
    for field in missing:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(SCHEMA.names).cast(SCHEMA)
