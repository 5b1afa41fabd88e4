"""The stream between an output host and the store: hashed and judged as it goes by, stoppable from another thread."""

from __future__ import annotations

import hashlib
import threading
from typing import NamedTuple

from runcomfy.download import Download
from runcomfy.errors import DownloadError
from runcomfy.media import MediaChecker, MediaFacts
from runcomfy.store import Store

__all__ = ["CheckedSource", "File", "Stopped", "digest_object", "stop_if"]

_READ_BYTES = 1024 * 1024


class Stopped(Exception):
    """The caller of this transfer was cancelled."""


def stop_if(stopping: threading.Event) -> None:
    """Raise `Stopped` once the event is set."""
    if stopping.is_set():
        raise Stopped


class File(NamedTuple):
    """What tells a file from all others."""

    size_bytes: int
    sha256: str


class CheckedSource:
    """Reads a download from its first byte to its last; at the end `media`, `came` and `file` are known.

    The last `read` raises `UnexpectedContent` instead of returning the end if the file is not whole: whoever uploads
    what it reads gets that error before the object is visible. Reads take little at a time, so that a stop is noticed.
    """

    def __init__(self, download: Download, stopping: threading.Event) -> None:
        self._start = self._added = b""
        self._download = download
        self._checker: MediaChecker | None = None
        self._box, self._adds = b"", False
        self._stopping = stopping
        self._hash = hashlib.sha256()
        self._size = 0
        self.media: MediaFacts | None = None
        """What is in the file; `None` until it was read to its end."""
        self.came = File(0, "")
        """The file as it came, without the box; known once `media` is."""
        self.marked: File | None = None
        """The file with the box, if it can take one, whether that is added or not; known once `media` is."""

    @property
    def file(self) -> File:
        """What was read so far."""
        return File(self._size, self._hash.hexdigest())

    def peek(self, amount: int) -> bytes:
        """Return the first bytes of the file, which will be read again."""
        self._start = self._fetch(amount)
        return self._start

    def check(self, checker: MediaChecker, *, box: bytes = b"", add: bool = False) -> None:
        """Say, before the first `read`, who judges the file.

        Args:
            checker: Who judges it.
            box: What can be added at its end, if it can take one.
            add: Whether it is.
        """
        self._checker, self._box, self._adds = checker, box, add

    def read(self, amount: int, /) -> bytes:
        """Return at most `amount` bytes, none at the end."""
        if self._checker is None:
            raise AssertionError("nothing is read that is not judged")
        if self.media is None:
            if chunk := self._next(amount):
                self._checker.feed(chunk)
                return self._counted(chunk)
            self.media = self._checker.finish()
            self.came = self.file
            if self._checker.takes_another_box:
                whole = self._hash.copy()
                whole.update(self._box)
                self.marked = File(self._size + len(self._box), whole.hexdigest())
                self._added = self._box if self._adds else b""
        chunk, self._added = self._added[:amount], self._added[amount:]
        return self._counted(chunk)

    def _next(self, amount: int) -> bytes:
        if not self._start:
            return self._fetch(min(amount, _READ_BYTES))
        chunk, self._start = self._start[:amount], self._start[amount:]
        return chunk

    def _counted(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        self._hash.update(chunk)
        return chunk

    def _fetch(self, amount: int) -> bytes:
        """Read from the network. A stop can look like the file's end or like a break, so it is asked for after both."""
        stop_if(self._stopping)
        try:
            chunk = self._download.read(amount)
        except DownloadError:
            stop_if(self._stopping)
            raise
        stop_if(self._stopping)
        return chunk

    def drain(self) -> None:
        """Read to the end, for the digest and the judgement."""
        while self.read(_READ_BYTES):
            pass


def digest_object(store: Store, key: str, stopping: threading.Event) -> str:
    """Return the SHA-256 of an object's bytes, in hexadecimal, at constant memory."""
    digest = hashlib.sha256()
    with store.open(key) as body:
        while chunk := body.read(_READ_BYTES):
            stop_if(stopping)
            digest.update(chunk)
    return digest.hexdigest()
