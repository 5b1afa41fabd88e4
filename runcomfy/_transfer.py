"""The stream between an output host and the store: hashed and judged as it goes by, stoppable from another thread."""

from __future__ import annotations

import hashlib
import threading

from runcomfy.download import Download
from runcomfy.errors import DownloadError
from runcomfy.media import MediaChecker, MediaFacts
from runcomfy.store import Store

__all__ = ["CheckedSource", "Stopped", "digest_object", "stop_if"]

_READ_BYTES = 1024 * 1024


class Stopped(Exception):
    """The caller of this transfer was cancelled."""


def stop_if(stopping: threading.Event) -> None:
    """Raise `Stopped` once the event is set."""
    if stopping.is_set():
        raise Stopped


class CheckedSource:
    """Reads a download from its first byte to its last; at the end `media` and `sha256` are known.

    The last `read` raises `UnexpectedContent` instead of returning the end if the file is not whole: whoever uploads
    what it reads gets that error before the object is visible. Reads take little at a time, so that a stop is noticed.
    """

    def __init__(self, download: Download, stopping: threading.Event) -> None:
        self._start = b""
        self._download = download
        self._checker: MediaChecker | None = None
        self._stopping = stopping
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        """How much was read so far."""
        self.media: MediaFacts | None = None
        """What is in the file; `None` until it was read to its end."""

    @property
    def sha256(self) -> str:
        """The digest of what was read so far, in hexadecimal."""
        return self._hash.hexdigest()

    def peek(self, amount: int) -> bytes:
        """Return the first bytes of the file, which will be read again."""
        self._start = self._fetch(amount)
        return self._start

    def check(self, checker: MediaChecker) -> None:
        """Say who judges the file; before the first `read`."""
        self._checker = checker

    def read(self, amount: int, /) -> bytes:
        """Return at most `amount` bytes, none at the end."""
        if self.media is not None:
            return b""
        if self._checker is None:
            raise AssertionError("nothing is read that is not judged")
        if self._start:
            chunk, self._start = self._start[:amount], self._start[amount:]
        else:
            chunk = self._fetch(min(amount, _READ_BYTES))
        if chunk:
            self.size_bytes += len(chunk)
            self._hash.update(chunk)
            self._checker.feed(chunk)
        else:
            self.media = self._checker.finish()
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
