"""Find what was set aside: the provenances below `quarantine/` tell it, so neither journal nor archive is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from runcomfy.archive.copies import read_provenance
from runcomfy.archive.provenance import Provenance
from runcomfy.errors import ArchiveConflict, StorageError
from runcomfy.storage.keys import QUARANTINE, usual_key
from runcomfy.storage.store import Store
from runcomfy.values import Quality, Review

__all__ = ["Item", "read_item", "set_aside"]

_READING_AT_ONCE = 8
_NEAR = 8


@dataclass(frozen=True)
class Item:
    """One file that was set aside."""

    store: Store
    key: str
    """The full key of the file, below `quarantine/`; or its usual one, once it was accepted and moved."""
    provenance: Provenance
    has_file: bool = True
    """Whether its file is still there."""
    tag: str = ""
    """The version of the provenance that was read."""

    @property
    def uri(self) -> str:
        """The file as `s3://bucket/key`."""
        return self.store.uri(self.key)

    @property
    def usual_uri(self) -> str:
        """Where it comes to when it is accepted."""
        return self.store.uri(usual_key(self.store.prefix, self.key))

    @property
    def quality(self) -> Quality:
        """What it was judged to be."""
        return self.provenance.quality or Quality(verdict="not_judged")

    @property
    def review(self) -> Review | None:
        """What a person decided; `None` before that."""
        return self.provenance.review

    @property
    def state(self) -> str:
        """Where its review is.

        `waiting`; `accepting`: it was accepted, and is not moved yet: accept it again; `accepted`, and moved;
        `rejected`.
        """
        if self.review is None:
            return "waiting"
        if self.review.decision == "accepted":
            return "accepting" if self.key != usual_key(self.store.prefix, self.key) else "accepted"
        return "rejected"


def set_aside(store: Store, start: str = "") -> Iterator[Item]:
    """Yield every file that was set aside, in order of their keys; costs a call for each and for each thousand. Blocks.

    What cannot be read as a provenance is skipped: people may keep files of their own there.

    Args:
        store: The archive.
        start: What the names of the files begin with, below `quarantine/`.

    Raises:
        StorageError: the store could not be listed or read.
    """
    with ThreadPoolExecutor(_READING_AT_ONCE, thread_name_prefix="review") as threads:
        ahead = deque[Future[Item | None]]()
        near = deque[str](maxlen=_NEAR)
        for listed in store.list(store.key(f"{QUARANTINE}{start}")):
            near.append(listed.key)
            if not listed.key.endswith(".json"):
                continue
            key = listed.key.removesuffix(".json")
            # a listing is in order, so a file is mostly right before what is beside it; otherwise it is asked for
            ahead.append(threads.submit(read_item, store, key, has_file=True if key in near else None))
            if len(ahead) > 4 * _READING_AT_ONCE and (found := ahead.popleft().result()) is not None:
                yield found
        while ahead:
            if (found := ahead.popleft().result()) is not None:
                yield found


def read_item(store: Store, key: str, *, has_file: bool | None = None) -> Item | None:
    """Return the file that was set aside at a key; `None` if there is none. Blocks.

    Args:
        store: The archive.
        key: The full key of the file.
        has_file: Whether it is there, if that is known.

    Raises:
        StorageError: the store could not be read.
    """
    try:
        found = read_provenance(store, key)
    except ArchiveConflict:
        return None
    except StorageError as error:  # too large for one, packed in another way, or in a class that is not read at once
        is_answered = error.http_status is not None and error.error_code != "InvalidObjectState"
        if error.retryable or is_answered:
            raise
        return None
    if found is None:
        return None
    there = store.head(key) is not None if has_file is None else has_file
    return Item(store, key, found[0], there, found[1])
