"""Read single entries of the journal, and pieces of objects, from many threads."""

from __future__ import annotations

from collections.abc import Iterator

from cachetools import LRUCache
from pydantic import ValidationError

from runcomfy.journal import Entry, JournalStore
from runcomfy.storage.s3 import storage_errors
from runcomfy.storage.store import Store

__all__ = ["JournalReader", "read_range"]

_MOST_UNREADABLE = 10_000


class JournalReader:
    """The journal as it is on the store, without the retries of those who write it. Thread-safe; all methods block.

    Args:
        store: Where its documents are.
    """

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self.where = store.where
        self._unreadable: LRUCache[str, bool] = LRUCache(_MOST_UNREADABLE)

    def keys(self) -> Iterator[str]:
        """Yield the key of every generation, as the store lists them."""
        return (name.removesuffix(".json") for name in self._store.names())

    def entry(self, key: str) -> Entry | None:
        """Return an entry; `None` if there is none that can be read.

        Raises:
            StorageError: the store failed.
        """
        stored = self._store.read(f"{key}.json")
        if stored is None:
            return None
        try:
            return Entry.model_validate_json(stored.body)
        except ValidationError:
            self._unreadable[key] = True
            return None

    def is_unreadable(self, key: str) -> bool:
        """Whether an entry was found lately that cannot be read."""
        return key in self._unreadable


def read_range(store: Store, key: str, last: int) -> bytes:
    """Return the last bytes of an object: as many as `-last`.

    Raises:
        StorageError: the store refused.
    """
    with storage_errors("read", store.bucket, key):
        answer = store.client.get_object(Bucket=store.bucket, Key=key, Range=f"bytes={last}")
        with answer["Body"] as body:
            return bytes(body.read())[last:]
