"""Temporary files: without a name, so that a kill leaves nothing, and begun only where the disk has room for them.

The archives of a process share one disk. What each of them will need is known from the announced length; one that does
not fit yet waits for those that will give room back. Who has begun never waits for room, so there is no deadlock.
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
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast

from zlib_ng.zlib_ng import crc32

from runcomfy.errors import ConfigurationError, TemporaryFileError

__all__ = ["Digest", "Room", "ScratchFile", "check_folder", "folder"]

_LEFT_FREE_BYTES = 16 * 1024 * 1024
"""What is left on the disk for others, and for what a file has more than was announced: a box, a poster."""
_LOOK_SECONDS = 0.1
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Digest(NamedTuple):
    """What tells a file from all others."""

    size_bytes: int
    sha256: str


def folder() -> str:
    """Return where temporary files are made: `TMPDIR` where that is set, and else what Python finds.

    Python's own search passes over a `TMPDIR` that cannot be used, for a folder that may be much smaller.

    Raises:
        TemporaryFileError: no folder can be written to.
    """
    try:
        return os.environ.get("TMPDIR") or tempfile.gettempdir()
    except OSError as trouble:
        raise _unusable("any of the usual places", trouble) from None


def check_folder() -> None:
    """Make sure, before anything is paid for, that a temporary file can be made here.

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
    """A temporary file that is written once, and hashed as it grows; gone with the last handle of it."""

    def __init__(self, where: str, expected_bytes: int | None = None) -> None:
        """Make one in a folder; `expected_bytes` is only for what an error says.

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
        """The file as it is now."""
        return Digest(self.size_bytes, self._sha.hexdigest())

    def with_more(self, more: bytes) -> Digest:
        """Return what the file would be with some bytes more."""
        sha = self._sha.copy()
        sha.update(more)
        return Digest(self.size_bytes + len(more), sha.hexdigest())

    def write(self, data: bytes) -> None:
        """Put bytes at the file's end.

        Raises:
            TemporaryFileError: the disk is full, or broken.
        """
        left = memoryview(data)
        try:
            self.file.seek(self.size_bytes)
            while left:
                left = left[self.file.write(left) :]
        except OSError as trouble:
            raise _failed(self._where, trouble, self._expected or self.size_bytes + len(data)) from None
        self._sha.update(data)
        self.crc = crc32(data, self.crc)
        self.size_bytes += len(data)


class Room:
    """Whose file may be begun; one for a process. Thread-safe."""

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
            expected_bytes: How large it will be; `None` where nobody knows, and then it is begun at once.
            check: Called while waiting; what it raises ends that.
            alone: Whether to wait until there is no other one.

        Raises:
            TemporaryFileError: it does not fit though no other file will give room back, or it cannot be made.
        """
        where, need = folder(), expected_bytes or 0
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while not (self._waiting[0] is turn and self._fits(where, need, alone)):
                    check()
                    self._changed.wait(_LOOK_SECONDS)
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
        """Whether there are several files now."""
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
