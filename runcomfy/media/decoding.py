"""Have every frame of a file decoded by a process of its own, which a hostile file may crash or hang.

Whatever becomes of that process, the file is archived: no answer from it, or one that makes no sense, is a reason why
the file was not judged. It gets the file as its stdin, no environment that could hold secrets, and the folders of what
it imports; so it starts in the same way whatever this process has made of `sys.path`, `__main__` or its signals. It is
in a session of its own: signals to a group reach this process, which ends the other one.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from runcomfy.media.decoder_answer import Decoded, read_answer
from runcomfy.media.isolation import LIMIT_SECONDS

__all__ = ["Decode", "Decoded", "decode"]

Decode = Callable[[BinaryIO, dict[str, Any]], "Decoded"]
"""Decodes a file, as an order says: `by` (`ffmpeg` or `pillow`), and `format` or `pillow`."""

_START = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path.extend(order['paths']); "
    "from runcomfy.media.{} import decoded; from runcomfy.media.isolation import run; run(decoded, order)"
)
_MODULES = {"ffmpeg": "motion_decoding", "pillow": "still_decoding"}
_CHECK_SECONDS = 0.1
_PATIENCE_SECONDS = LIMIT_SECONDS + 60.0
_FAREWELL_SECONDS = 10.0
"""How long a process may live on that has closed its end of the pipe."""
_KEPT_VARIABLES = ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
_KEPT_PREFIXES = ("LD_", "DYLD_")
_MOST_ANSWER_BYTES = 32 * 1024 * 1024
_PIECE_BYTES = 64 * 1024


class _Slots:
    """How many files are decoded at once: one for each processor."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(max(1, os.cpu_count() or 1))

    @contextmanager
    def one(self, check: Callable[[], None]) -> Iterator[None]:
        until, got = time.monotonic() + _PATIENCE_SECONDS, False
        while not got and time.monotonic() < until:
            check()
            got = self._free.acquire(timeout=_CHECK_SECONDS)
        try:
            yield
        finally:
            if got:
                self._free.release()

    def renew(self) -> None:
        """Free all: in a forked process, nobody is left who would."""
        self.__init__()  # type: ignore[misc]


_SLOTS = _Slots()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SLOTS.renew)


def decode(
    file: BinaryIO, order: dict[str, Any], check: Callable[[], None] = lambda: None, *, sheet: bool = False
) -> Decoded:
    """Decode a whole file in a process of its own, and return what it found; blocks, for minutes if need be.

    Args:
        file: A file on disk; its position afterwards is undefined.
        order: How, see `Decode`.
        check: Called while waiting; what it raises ends the process and is passed on.
        sheet: Whether to make a contact sheet of a video.
    """
    try:
        python, number = _python(), file.fileno()
        full = order | {"sheet": sheet, "paths": _paths(), "parent": os.getpid()}
        command = [python, "-I", "-S", "-c", _START.format(_MODULES[order["by"]]), json.dumps(full)]
    except (ImportError, OSError, ValueError) as trouble:
        return Decoded(trouble=f"no process could be started to decode it ({trouble or type(trouble).__name__})")
    with _SLOTS.one(check):
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter, and nothing of the file's is in it
                command, stdin=number, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(),
                start_new_session=True,
            )  # fmt: skip
        except (OSError, RuntimeError, ValueError) as trouble:  # no memory, no processes, or the interpreter ends
            return Decoded(trouble=f"no process could be started to decode it ({type(trouble).__name__})")
        try:
            answer = _waited(process, check)
        finally:
            _ended(process)
    return read_answer(answer, process.returncode) if isinstance(answer, bytes) else answer


def _waited(process: subprocess.Popen[bytes], check: Callable[[], None]) -> bytes | Decoded:
    """Return all that a process prints, or why it cannot be used: neither its length nor its end can be relied on."""
    until, printed = time.monotonic() + _PATIENCE_SECONDS, bytearray()
    check()
    for piece in _pieces(process):
        check()
        printed += piece
        if len(printed) > _MOST_ANSWER_BYTES:
            return Decoded(trouble="the decoder's answer does not end", hostile=True)
        if time.monotonic() > until:
            return Decoded(trouble=f"decoding it did not end within {_PATIENCE_SECONDS:g} s", hostile=True)
    until, pause = min(until, time.monotonic() + _FAREWELL_SECONDS), 0.001
    while not _has_ended(process) and time.monotonic() < until:
        check()
        time.sleep(pause)
        pause = min(_CHECK_SECONDS, 2 * pause)
    return bytes(printed)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; where possible without taking its number away: all that it started is ended by that."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody else has waited for it
        return True


def _pieces(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield what a process prints, at times nothing, until it closes its end of the pipe, or has ended."""
    if os.name == "nt" or process.stdout is None:  # there nothing waits for a pipe but a thread
        answer: bytes | None = None
        while answer is None:
            try:
                answer = process.communicate(timeout=_CHECK_SECONDS)[0]
            except subprocess.TimeoutExpired:
                yield b""
        yield answer
        return
    with selectors.DefaultSelector() as pipe:
        pipe.register(process.stdout, selectors.EVENT_READ)
        while True:
            ended = False
            if pipe.select(_CHECK_SECONDS) or ((ended := _has_ended(process)) and pipe.select(0)):
                piece = os.read(process.stdout.fileno(), _PIECE_BYTES)
                if not piece:
                    return
                yield piece
            elif ended:  # another process may hold the pipe, and was not asked
                return
            else:
                yield b""


def _ended(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if hasattr(os, "killpg") and process.returncode is None:  # not waited for: the number is surely still its own
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    if process.stdout is not None:
        process.stdout.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)


def _python() -> str:
    """Return the interpreter; a program that merely embeds one would not do what it is told."""
    found = [sys.executable or "", str(Path(sys.prefix) / "bin" / "python3")]
    for each in found:
        if not getattr(sys, "frozen", False) and Path(each).name.lower().startswith(("python", "pypy")):
            return each
    raise OSError("this program is no Python interpreter")


def _paths() -> list[str]:
    paths = []
    for name in ("runcomfy", "av", "PIL"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(f"{name} was not found")
        paths.append(str(Path(spec.origin).resolve().parents[1]))
    return list(dict.fromkeys(paths))


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    return kept | {"MALLOC_ARENA_MAX": "2", "PYTHONDONTWRITEBYTECODE": "1"}
