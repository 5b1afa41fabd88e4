"""Bring a file onto this disk, from its host or from the store; another thread can stop it."""

from __future__ import annotations

import hashlib
import threading

from runcomfy.archive.temporary_file import Digest, ScratchFile
from runcomfy.download.stream import Download
from runcomfy.errors import DownloadError
from runcomfy.storage.store import Store
from runcomfy.storage.upload import SupportsRead

__all__ = ["Stopped", "TransferStop", "digest_object", "fetch_object", "receive"]

_READ_BYTES = 1024 * 1024


class Stopped(BaseException):
    """The caller of this transfer was cancelled. Not an `Exception`, because boto3 would retry after one."""


class TransferStop:
    """Whether a transfer has to end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End it."""
        self._event.set()

    def check(self) -> None:
        """Raise `Stopped` if it has to."""
        if self._event.is_set():
            raise Stopped

    def read(self, source: SupportsRead, amount: int) -> bytes:
        """Read; after a stop, raise `Stopped` rather than seeing the file's end or a broken connection."""
        self.check()
        try:
            chunk = source.read(amount)
        except DownloadError:
            self.check()
            raise
        self.check()
        return chunk


def receive(download: Download, start: bytes, file: ScratchFile, stop: TransferStop) -> None:
    """Write a download to its end, after its first bytes, which have already been read."""
    file.write(start)
    while chunk := stop.read(download, _READ_BYTES):
        file.write(chunk)


def fetch_object(store: Store, key: str, file: ScratchFile, stop: TransferStop) -> None:
    """Write an object's bytes to a file."""
    with store.open(key) as body:
        while chunk := stop.read(body, _READ_BYTES):
            file.write(chunk)


def digest_object(store: Store, key: str, stop: TransferStop) -> Digest:
    """Return the digest of an object's bytes, with constant memory."""
    digest, size = hashlib.sha256(), 0
    with store.open(key) as body:
        while chunk := stop.read(body, _READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return Digest(size, digest.hexdigest())
