"""The journal in a bucket: one small object per generation, written only by conditional PUTs.

A PUT with `If-None-Match: *` or `If-Match: <etag>` has one winner on AWS S3 and on the servers that support it; the
completion of a multipart upload has several on some, so no document here is ever uploaded in parts.

A setting chooses the bucket: the media store's, another one, or none.
"""

from __future__ import annotations

import json
import shlex
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.journal.stores import JournalStore, Stored, memory_journal_store
from runcomfy.storage.address import bucket_and_prefix, normalized
from runcomfy.storage.keys import PROBES
from runcomfy.storage.store import Store

__all__ = ["BucketJournalStore", "check_choice", "names_folder", "open_journal_store"]

_TYPE = "application/json"
_MAX_BYTES = 16 * 1024 * 1024
_MARKER = ".conditional-writes.json"
_ADVICE = (
    "Use a server that has them (AWS S3, Cloudflare R2, MinIO, SeaweedFS, Ceph …), or set journal to 'none' and go on "
    "without the promise that a generation is paid for once."
)


class BucketJournalStore:
    """The folder `journal/` below a store's prefix."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.key("journal")
        self.where = store.uri(self._folder)
        self._checked = False
        self._guard = threading.Lock()

    def check(self) -> None:
        """Try out once for each bucket and folder whether conditional writes work.

        Stores fail in three ways: with an error, by ignoring both conditions, or by ignoring one of them. The first
        process for which they work leaves a note, so that the next one needs a single read.

        Raises:
            ConfigurationError: they do not; nothing was paid for.
            StorageError: the bucket cannot be reached, read or written.
        """
        with self._guard:
            if self._checked:
                return
            if not self._noted():
                self._try_out()
                note = {"endpoint": self._store.endpoint_url, "checked_at": datetime.now(UTC).isoformat()}
                self._store.put(self._key(_MARKER), json.dumps(note).encode(), content_type=_TYPE)
            self._checked = True

    def read(self, name: str) -> Stored | None:
        """Return the document."""
        found = self._store.read_version(self._key(name), limit_bytes=_MAX_BYTES)
        return Stored(found.body, found.etag, found.age_seconds) if found else None

    def create(self, name: str, body: bytes) -> str | None:
        """Create the document."""
        return self._write(name, body, None)

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        """Replace the document."""
        return self._write(name, body, tag)

    def names(self, start: str = "") -> Iterator[str]:
        """Yield the names."""
        yield from (name for name, _ in self._listed(start))

    def hidden(self, start: str) -> Iterator[str]:
        """Yield the hidden names."""
        for found in self._store.list(self._key(f".{start}")):
            yield found.key.removeprefix(f"{self._folder}/")

    def modified(self) -> Iterator[tuple[str, datetime]]:
        """Yield the names with their times; one call per thousand."""
        yield from self._listed("")

    def _listed(self, start: str) -> Iterator[tuple[str, datetime]]:
        for found in self._store.list(self._key(start)):
            name = found.key.removeprefix(f"{self._folder}/")
            if not name.startswith("."):
                yield name, found.modified_at

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _write(self, name: str, body: bytes, tag: str | None) -> str | None:
        written = self._store.replace_if(self._key(name), body, etag=tag, content_type=_TYPE)
        if written is not None:
            return written
        # The write may be refused because it was made before, and its answer was lost.
        current = self.read(name)
        return current.tag if current is not None and current.body == body else None

    def _noted(self) -> bool:
        found = self._store.read_version(self._key(_MARKER), limit_bytes=_MAX_BYTES)
        if found is None:
            return False
        try:
            return bool(json.loads(found.body).get("endpoint") == self._store.endpoint_url)
        except (ValueError, AttributeError):
            return False

    def _try_out(self) -> None:
        key = self._store.key(f"{PROBES}{uuid.uuid4().hex}")
        name = key.removeprefix(f"{self._folder}/")
        try:
            first = self.create(name, b"1")
            if first is None or self.create(name, b"2") is not None:
                raise self._unfit("it lets two writers create the same object (If-None-Match)")
            if self.replace(name, b"3", '"00000000000000000000000000000000"') is not None:
                raise self._unfit("it lets a writer replace an object that has changed (If-Match)")
            if self.replace(name, b"4", first) is None:
                raise self._unfit("it does not let a writer replace an object that has not changed (If-Match)")
        except StorageError as error:
            if error.error_code == "NotImplemented" or error.http_status == 501:
                raise self._unfit("it does not know them") from None
            raise
        finally:
            with suppress(StorageError):  # a right that nothing else needs; `reconcile` deletes it if it has the right
                self._store.delete(key)

    def _unfit(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"The journal cannot be kept at {self.where}: the store has no conditional writes that can be relied on; "
            f"{reason}. Nothing was submitted. {_ADVICE}"
        )


def names_folder(choice: str) -> bool:
    """Whether the choice names a folder, where earlier versions could keep a journal."""
    scheme, separator, _ = choice.strip().partition("://")
    return ("/" in choice and not separator) or scheme.lower() == "file"


def check_choice(choice: str) -> str:
    """Return the choice without blanks around it.

    Raises:
        ConfigurationError: there is no such choice.
    """
    choice = normalized(choice.strip())
    if names_folder(choice):
        raise ConfigurationError(
            f"The journal cannot be kept in a folder any more ({choice}): a machine's own clock judged there whether "
            "another one is still submitting, and a wrong clock paid twice. Nothing was submitted. Stop all workers, "
            f"copy it with `aws s3 cp {shlex.quote(choice.removeprefix('file://'))} s3://BUCKET/PREFIX/journal/ "
            "--recursive --exclude '.*'`, and set journal to 'bucket' (docs/journal.md)."
        )
    if choice not in ("bucket", "none"):
        if not choice.startswith("s3://"):
            raise ConfigurationError("The journal is 'bucket', 'none', or s3://bucket/prefix.")
        bucket_and_prefix(choice, "The journal")
    return choice


def open_journal_store(
    choice: str, store: Callable[[], Store], store_at: Callable[[str, str], Store], *, conditional_writes: bool = True
) -> JournalStore:
    """Return the journal store that is chosen; nothing is read or written yet.

    Args:
        choice: `bucket`, `s3://bucket/prefix`, or `none`: this process's memory.
        store: Returns the bucket that the videos go to.
        store_at: Returns another bucket at the same server, by its name and prefix.
        conditional_writes: Whether the server has them.

    Raises:
        ConfigurationError: the journal cannot be kept there.
        StorageError: there are no usable credentials.
    """
    choice = check_choice(choice)
    if choice == "none":
        return memory_journal_store(store().uri(store().prefix))
    if not conditional_writes:
        raise ConfigurationError(
            "The journal in a bucket needs conditional writes, and they are turned off. Use a server that has them, or "
            "set journal to 'none' and go on without its promise."
        )
    if choice == "bucket":
        return BucketJournalStore(store())
    return BucketJournalStore(store_at(*bucket_and_prefix(choice, "The journal")))
