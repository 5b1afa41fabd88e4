"""Temporary files: unnamed, so that a killed process leaves none, and begun only if the disk has room for them.

The transfers of a process share one disk. How much each will need is known from the announced length; one that does not
fit yet waits until others free their room. One that has begun never waits for room, so there is no deadlock.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, NamedTuple, cast

from zlib_ng.zlib_ng import crc32

from runcomfy.errors import ConfigurationError, TemporaryFileError

__all__ = ["Digest", "Room", "ScratchFile", "check_folder", "folder"]

_LEFT_FREE_BYTES = 16 * 1024 * 1024
"""What is left free on the disk for others, and for what is added to a file: a box, a poster."""
_RECHECK_SECONDS = 0.1
_READ_BYTES = 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Digest(NamedTuple):
    """What identifies a file's content."""

    size_bytes: int
    sha256: str


def folder() -> str:
    """Return where temporary files are made: `TMPDIR` if it is set, else the folder that Python finds.

    Python's own search skips a `TMPDIR` that cannot be used, in favour of a folder that may be much smaller.

    Raises:
        TemporaryFileError: no folder can be written to.
    """
    try:
        return os.environ.get("TMPDIR") or tempfile.gettempdir()
    except OSError as trouble:
        raise _unusable("any of the usual places", trouble) from None


def check_folder() -> None:
    """Check, before anything is paid for, that a temporary file can be made here.

    Raises:
        ConfigurationError: it cannot.
    """
    try:
        ScratchFile(folder()).file.close()
    except TemporaryFileError as trouble:
        raise ConfigurationError(
            f"A video that was made could not be brought into the bucket from this machine. {trouble.message} "
            "Nothing was paid for.", folder=trouble.folder,
        ) from None  # fmt: skip


class ScratchFile:
    """A temporary file that is written once, and hashed as it grows; deleted when its last handle is closed."""

    def __init__(self, where: str, expected_bytes: int | None = None) -> None:
        """Make one in a folder; `expected_bytes` is only for the text of an error.

        Raises:
            TemporaryFileError: there is no such folder, or it cannot be written to.
        """
        self._where, self._expected = where, expected_bytes
        self._sha, self.crc, self.size_bytes = hashlib.sha256(), 0, 0
        try:
            self.file = cast(BinaryIO, tempfile.TemporaryFile(dir=where, buffering=0))  # noqa: SIM115 - closed below
        except OSError as trouble:
            raise _failed(where, trouble, expected_bytes) from None

    def __enter__(self) -> ScratchFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def digest(self) -> Digest:
        """The file's present content."""
        return Digest(self.size_bytes, self._sha.hexdigest())

    def with_more(self, more: bytes) -> Digest:
        """Return what the digest would be with more bytes appended."""
        sha = self._sha.copy()
        sha.update(more)
        return Digest(self.size_bytes + len(more), sha.hexdigest())

    def write(self, data: bytes) -> None:
        """Append bytes, all or none.

        Raises:
            TemporaryFileError: the disk is full, or broken.
        """
        left = memoryview(data)
        try:
            self.file.seek(self.size_bytes)
            while left:
                left = left[self.file.write(left) :]
        except OSError as trouble:
            with suppress(OSError):
                self.file.truncate(self.size_bytes)
            raise _failed(self._where, trouble, self._expected or self.size_bytes + len(data)) from None
        self._sha.update(data)
        self.crc = crc32(data, self.crc)
        self.size_bytes += len(data)

    def measure(self) -> None:
        """Read the file again, which something else has written: size, digest and checksum are those of now.

        Raises:
            TemporaryFileError: the disk is broken.
        """
        self._sha, self.crc, self.size_bytes = hashlib.sha256(), 0, 0
        try:
            self.file.seek(0)
            while piece := self.file.read(_READ_BYTES):
                self._sha.update(piece)
                self.crc = crc32(piece, self.crc)
                self.size_bytes += len(piece)
        except OSError as trouble:
            raise _failed(self._where, trouble, self._expected) from None


class Room:
    """Decides which file may be begun; one for a process. Thread-safe."""

    def __init__(self, free_bytes: Callable[[str], int] = lambda where: shutil.disk_usage(where).free) -> None:
        self._free_bytes = free_bytes
        self._changed = threading.Condition()
        self._written: dict[ScratchFile, int] = {}
        self._waiting: deque[object] = deque()

    @contextmanager
    def file(
        self, expected_bytes: int | None, *, check: Callable[[], None], alone: bool = False
    ) -> Iterator[ScratchFile]:
        """Make a temporary file once there is room for it, first come, first served.

        Args:
            expected_bytes: How large it will be; `None` is unknown, and it is begun at once.
            check: Called while waiting; what it raises ends the waiting.
            alone: Whether to wait until there is no other one.

        Raises:
            TemporaryFileError: it does not fit though no other file will free room, or it cannot be made.
        """
        where, need = folder(), expected_bytes or 0
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while not (self._waiting[0] is turn and self._fits(where, need, alone)):
                    check()
                    self._changed.wait(_RECHECK_SECONDS)
                file = ScratchFile(where, expected_bytes)
                self._written[file] = need
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            with file:
                yield file
        finally:
            with self._changed:
                del self._written[file]
                self._changed.notify_all()

    def is_shared(self) -> bool:
        """Whether there is more than one file now."""
        return len(self._written) > 1

    def _fits(self, where: str, need: int, alone: bool) -> bool:
        if alone:
            return not self._written
        if not need:
            return True
        try:
            free = self._free_bytes(where)
        except OSError as trouble:
            raise _failed(where, trouble, need) from None
        promised = sum(max(0, most - file.size_bytes) for file, most in self._written.items())
        if need + promised + _LEFT_FREE_BYTES <= free:
            return True
        if not self._written:
            raise _full(where, need, free)
        return False


def _failed(where: str, trouble: OSError, need: int | None) -> TemporaryFileError:
    if trouble.errno in _FULL:
        try:
            free = shutil.disk_usage(where).free
        except OSError:
            free = 0
        return _full(where, need, free)
    return _unusable(where, trouble)


def _full(where: str, need: int | None, free: int) -> TemporaryFileError:
    size = f"{need + _LEFT_FREE_BYTES:,} bytes" if need else "more"
    return TemporaryFileError(
        f"The disk under {where} has {free:,} bytes free, and a file needs {size} for a moment before it is stored. "
        "Make room there, or set TMPDIR to a folder on a larger disk, and archive it again: nothing is lost.",
        folder=where, needed_bytes=need, is_full=True,
    )  # fmt: skip


def _unusable(where: str, trouble: OSError) -> TemporaryFileError:
    return TemporaryFileError(
        f"No temporary file can be written in {where} ({trouble.strerror or type(trouble).__name__}). Set TMPDIR to a "
        "folder that exists and can be written to, and archive it again: nothing is lost.",
        folder=where,
    )  # fmt: skip
