"""The rows of what has changed: of entries first, then of the files that no entry names."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.compute as pc  # type: ignore[import-untyped]

from runcomfy.archive.provenance import Provenance
from runcomfy.catalogue.changes import SETTLED_SECONDS
from runcomfy.catalogue.columns import SCHEMA
from runcomfy.catalogue.files import read_documents
from runcomfy.catalogue.partitions import generations_requests
from runcomfy.catalogue.rows import REQUEST, created_at, day_of, row_of_entry, row_of_files
from runcomfy.catalogue.values import Row
from runcomfy.journal import Entry, Journal
from runcomfy.storage.store import Store

__all__ = ["Gathering"]

_AT_ONCE = 1000


class Gathering:
    """Reads what has changed, and keeps the rows of it, small.

    Args:
        store: Where the archive is; generations that are archived elsewhere have no row.
        journal: The journal; `None` if there is none that outlives a process.
        prompts: Whether prompts are written as they are.
        requests: The requests that have a row of their own since earlier updates, each with its day.
    """

    def __init__(self, store: Store, journal: Journal | None, *, prompts: bool, requests: Mapping[str, date]) -> None:
        self._store, self._journal, self._prompts = store, journal, prompts
        self._here = store.uri(store.prefix)
        self._tables: list[pa.Table] = []
        self._rows: list[Row] = []
        self._requests: dict[str, list[str]] = {}
        """Of each generation that was read, its requests."""
        self._owned: set[str] | None = None
        """The requests of all generations that have a row, once they were asked for."""
        self._gone: defaultdict[date, set[str]] = defaultdict(set)
        self.requests = dict(requests)
        """The requests that have a row of their own now, each with its day."""
        self.named: set[str] = set()
        """The provenance files that a generation names as its own; they need not be read."""
        self.unsettled: set[str] = set()
        """Entries that were read so soon after they were written that they may have changed in the same second."""
        self.unread_entries: list[str] = []
        self.unread_files: list[str] = []

    async def add_entries(self, keys: Sequence[str]) -> None:
        """Read entries, and make a row of each."""
        if self._journal is None or not keys:
            return
        async for found in self._journal.read_all(keys, unreadable=self.unread_entries.append):
            entry = found.entry
            if found.age_seconds < SETTLED_SECONDS:
                self.unsettled.add(entry.generation_key)
            if not self._is_here(entry):
                continue
            self._requests[entry.generation_key] = entry.request_ids
            self._add(row_of_entry(entry, prompts=self._prompts))
            for video in entry.archive.videos if entry.archive else ():
                self.named.add(video.provenance_key)
            for request_id in entry.request_ids:
                if request_id in self.requests:
                    self._forget(request_id, self.requests[request_id])

    async def add_files(self, keys: Sequence[str], files: Mapping[str, datetime]) -> None:
        """Read provenance files, and make a row of each request that no generation of the journal has.

        Args:
            keys: Those that are read.
            files: All that there are.
        """
        keys = sorted(keys)  # files of one request are adjacent
        for start in range(0, len(keys), _AT_ONCE):
            read = await read_documents(
                self._store, keys[start : start + _AT_ONCE], unreadable=self.unread_files.append
            )
            requests: defaultdict[str, dict[str, Provenance]] = defaultdict(dict)
            for key, document in (await self._unowned(read)).items():
                requests[document.request_id][key] = document
            for request_id, own in requests.items():
                if all(document.output_index for document in own.values()):  # its first file was known before
                    others = [key for key in files if request_id in key and key not in own]
                    own |= await read_documents(self._store, others, unreadable=lambda _: None)
                by_uri = {self._store.uri(key): document for key, document in own.items()}
                row = row_of_files(by_uri, prompts=self._prompts)
                self.requests[request_id] = day_of(row)
                self._add(row)

    def gone(self) -> dict[date, set[str]]:
        """Return by day the rows of requests that a generation has, and that are not to be counted twice."""
        return dict(self._gone)

    def _forget(self, request_id: str, day: date) -> None:
        self._gone[day].add(f"{REQUEST}{request_id}")
        self.requests.pop(request_id, None)

    def by_day(self) -> dict[date, pa.Table]:
        """Return the rows of each day; of rows with one id the last."""
        self._pack()
        table = pa.concat_tables(self._tables) if self._tables else SCHEMA.empty_table()
        last = {identifier: number for number, identifier in enumerate(table["id"].to_pylist())}
        table = table.take(pa.array(last.values(), pa.int64()))
        days = pc.cast(table["created_at"], pa.timestamp("us")).cast(pa.date32(), safe=False)
        return {day: table.filter(pc.equal(days, pa.scalar(day))) for day in sorted(set(days.to_pylist()))}

    async def read_again(self, rows: pa.Table) -> pa.Table:
        """Return rows as the current entries make them."""
        keys = [key for key in rows["id"].to_pylist() if not key.startswith(REQUEST)]
        others = rows.filter(pc.starts_with(rows["id"], REQUEST))
        if self._journal is None or not keys:
            return rows
        fresh = [
            row_of_entry(found.entry, prompts=self._prompts)
            async for found in self._journal.read_all(keys, unreadable=lambda _: None)
        ]
        return pa.concat_tables([others, pa.Table.from_pylist(fresh, SCHEMA)])

    async def _unowned(self, documents: Mapping[str, Provenance]) -> dict[str, Provenance]:
        """Return the documents whose request belongs to no generation: not to the one that they name, nor to another.

        A file that was archived by its request's id alone, without the journal, names none; or it names a model that
        was never asked.
        """
        if self._journal is not None:
            unknown = {document.generation_key or "" for document in documents.values()} - {""} - self._requests.keys()
            async for found in self._journal.read_all(sorted(unknown), unreadable=lambda _: None):
                if self._is_here(found.entry):
                    self._requests[found.entry.generation_key] = found.entry.request_ids
        unclaimed = {
            key: document
            for key, document in documents.items()
            if document.request_id not in self._requests.get(document.generation_key or "", ())
        }
        if unclaimed and self._owned is None:
            self._owned = await asyncio.to_thread(generations_requests, self._store)
        owned = (self._owned or set()).union(*self._requests.values())
        unowned = {}
        for key, document in unclaimed.items():
            if document.request_id in owned:
                self._forget(document.request_id, day_of({"created_at": created_at(document)}))
            else:
                unowned[key] = document
        return unowned

    def _is_here(self, entry: Entry) -> bool:
        return entry.store in ("", self._here)

    def _add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= _AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        if self._rows:
            self._tables.append(pa.Table.from_pylist(self._rows, SCHEMA))
            self._rows.clear()
