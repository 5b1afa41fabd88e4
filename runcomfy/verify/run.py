"""Go through a bucket, and then through its journal: a bounded number of objects at a time, whatever there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from runcomfy.journal import JournalStore
from runcomfy.storage.store import Store
from runcomfy.verify.findings import Verification
from runcomfy.verify.listing import Group, groups
from runcomfy.verify.looking import JournalReader
from runcomfy.verify.one_entry import check_entry
from runcomfy.verify.one_file import Checked, check_file

__all__ = ["verify"]

_AT_ONCE = 8
_AHEAD = 64

_T = TypeVar("_T")
_R = TypeVar("_R")


def verify(
    store: Store,
    journal: JournalStore | None,
    *,
    quick: bool = False,
    progress: Callable[[Verification], None] = lambda _: None,
) -> Verification:
    """Check every archived file of a store, and every entry of its journal. Blocks; nothing is written.

    Args:
        store: The bucket and prefix.
        journal: The journal of what is archived there; `None` if none outlives a process.
        quick: Whether files are left unread: then only sizes, metadata, provenance, journal and marks are compared.
        progress: Called after each thousand files or entries.

    Raises:
        StorageError: the store or the journal could not be read.
    """
    found = Verification(store.uri(store.prefix), quick)
    reader = JournalReader(journal) if journal is not None else None

    def file(group: Group) -> Checked:
        return check_file(store, reader, group, quick=quick)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify") as threads:
        for checked in _in_order(threads, file, groups(store, store.list(store.prefix))):
            found.files += checked.is_ours
            found.others += not checked.is_ours
            found.read_bytes += checked.read_bytes
            found.signatures += checked.signature is True
            found.unchecked_signatures += checked.signature is False
            for finding in checked.findings:
                found.add(finding)
            if found.files % 1000 == 0 and checked.is_ours:
                progress(found)
        if reader is None:
            return found
        for findings in _in_order(threads, lambda key: check_entry(store, reader, key), reader.keys()):
            found.entries += 1
            found.elsewhere += findings is None
            for finding in findings or ():
                found.add(finding)
            if found.entries % 1000 == 0:
                progress(found)
    return found


def _in_order(threads: ThreadPoolExecutor, work: Callable[[_T], _R], given: Iterable[_T]) -> Iterator[_R]:
    """Yield the results in order; at most so many are begun and not yet used."""
    begun: deque[Future[_R]] = deque()
    try:
        for each in given:
            begun.append(threads.submit(work, each))
            if len(begun) >= _AHEAD:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
