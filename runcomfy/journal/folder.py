"""The journal in a folder of this machine, or of a file system that all workers share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from runcomfy.errors import StorageError, StoreUnavailable
from runcomfy.journal.places import Stored, tag_of

__all__ = ["FolderPlace"]

_LOCK_SECONDS = 30


class FolderPlace:
    """One file a document. Writers wait for each other at a lock file, which the kernel frees when one dies.

    Args:
        folder: Made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().resolve()
        self.where = str(self._folder)

    def check(self) -> None:
        """Make the folder, and lock it once.

        Raises:
            StorageError: it cannot be made or written.
        """
        with self._writing():
            pass

    def read(self, name: str) -> Stored | None:
        """Return the document."""
        try:
            with (self._folder / name).open("rb") as file:
                written = os.fstat(file.fileno()).st_mtime
                body = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"The journal's file {self._folder / name} cannot be read: {error.strerror}.") from None
        return Stored(body, tag_of(body), max(0.0, time.time() - written))

    def create(self, name: str, body: bytes) -> str | None:
        """Create the document."""
        with self._writing():
            return None if (self._folder / name).exists() else self._put(name, body)

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        """Replace the document."""
        with self._writing():
            standing = self.read(name)
            return self._put(name, body) if standing is not None and standing.tag == tag else None

    def names(self, start: str = "") -> Iterator[str]:
        """Yield the names."""
        yield from sorted(name for name, _ in self.modified() if name.startswith(start))

    def modified(self) -> Iterator[tuple[str, datetime]]:
        """Yield the names with their times."""
        for path in self._folder.glob("[!.]*.json"):
            yield path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def _put(self, name: str, body: bytes) -> str:
        """Write a whole file beside the present one, and put it in its place."""
        beside = self._folder / f".{name}.new"
        with beside.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._folder / name)
        if hasattr(os, "O_DIRECTORY"):  # without this, a power cut may undo the renaming
            folder = os.open(self._folder, os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return tag_of(body)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Not a lock of the thread that asks: each call takes it anew, and waits for the other threads too.
            with FileLock(self._folder / ".lock", timeout=_LOCK_SECONDS, thread_local=False):
                yield
        except Timeout:
            raise StoreUnavailable(f"The journal in {self._folder} was locked for {_LOCK_SECONDS} s.") from None
        except OSError as error:
            raise StorageError(f"The journal cannot be written in {self._folder}: {error.strerror}.") from None
