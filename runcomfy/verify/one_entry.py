"""Check what an entry of the journal says of files that are archived."""

from __future__ import annotations

from collections.abc import Iterator

from runcomfy.journal import Entry, EntryState
from runcomfy.storage.keys import aside_key, usual_key
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo
from runcomfy.verify.findings import Finding, Problem
from runcomfy.verify.looking import JournalReader

__all__ = ["check_entry"]

_P = Problem


def check_entry(store: Store, journal: JournalReader, key: str) -> tuple[Finding, ...] | None:
    """Return what is wrong with the files that an entry names; `None` if they are elsewhere. Blocks.

    Raises:
        StorageError: the store could not be read.
    """
    entry = journal.entry(key)
    if entry is None:
        unreadable = Finding(_P.ENTRY_UNREADABLE, f"{journal.where}/{key}.json", "this version cannot read it", key)
        return (unreadable,) if journal.is_unreadable(key) else ()
    if entry.store not in ("", store.uri(store.prefix)):
        return None
    if entry.state is not EntryState.ARCHIVED or entry.archive is None:
        return ()
    return tuple(finding for video in entry.archive.videos for finding in _named(store, entry, video))


def _named(store: Store, entry: Entry, video: ArchivedVideo) -> Iterator[Finding]:
    if video.is_rejected:
        return  # it may be deleted, or expire
    keys = [video.key]
    if video.bucket == store.bucket and video.key.startswith(store.prefix):  # it may be set aside, or let in again
        usual = usual_key(store.prefix, video.key)
        keys.append(usual if usual != video.key else aside_key(store.prefix, video.key))
    for key in keys:
        facts, described = store.head(key, video.bucket), store.head(f"{key}.json", video.bucket)
        if facts or described:
            break
    else:
        yield Finding(
            _P.FILE_MISSING, video.uri, "the journal names it; its provenance is gone too", entry.generation_key
        )
        return
    if described is None:
        yield Finding(
            _P.PROVENANCE_MISSING, store.uri(f"{key}.json", video.bucket), "the journal names it", entry.generation_key
        )
        if facts is not None and facts.size_bytes != video.size_bytes:
            found = f"{facts.size_bytes:,} bytes, not {video.size_bytes:,}"
            yield Finding(_P.SIZE_DIFFERS, store.uri(key, video.bucket), found, entry.generation_key)
    elif facts is None:
        yield Finding(
            _P.FILE_MISSING,
            store.uri(key, video.bucket),
            "its provenance is there, and it is not",
            entry.generation_key,
        )
