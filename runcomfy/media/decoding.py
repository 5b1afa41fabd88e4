"""Have every frame of a file decoded by a process of its own, which a hostile file may crash or hang.

Whatever becomes of that process, the file is archived: no answer from it is a reason why the file was not judged. The
process gets the file as its stdin, no environment that could hold secrets, and the folders of what it imports; so it
starts in the same way whatever this process has made of `sys.path`, `__main__` or its signals. It is in a session of
its own: signals to a group reach this process, which ends the other one.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from runcomfy.media.isolation import LIMIT_SECONDS, TOO_SLOW

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
_KEPT_VARIABLES = ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
_KEPT_PREFIXES = ("LD_", "DYLD_")
_MOST_ANSWER_BYTES = 32 * 1024 * 1024
_SLOW_SIGNALS = frozenset(
    -number for name in ("SIGXCPU",) if (number := int(getattr(signal, name, 0)))
)  # fmt: skip


class Decoded(NamedTuple):
    """What decoding a whole file found, or why it found nothing."""

    facts: dict[str, Any] | None = None
    """As `motion_decoding` and `still_decoding` have them."""
    trouble: str | None = None
    """Why there are none, as the end of a sentence."""
    hostile: bool = False
    """Whether the file seems to have crashed or hung the decoder, so that it must not be decoded in this process."""
    sheet: bytes | None = None
    """The contact sheet, if one was ordered: a JPEG."""


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
    if answer is None:
        return Decoded(trouble=f"decoding it did not end within {_PATIENCE_SECONDS:g} s", hostile=True)
    return _read(answer, process.returncode)


def _waited(process: subprocess.Popen[bytes], check: Callable[[], None]) -> bytes | None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        check()
        try:
            return process.communicate(timeout=_CHECK_SECONDS)[0]
        except subprocess.TimeoutExpired:
            continue
    return None


def _ended(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        process.kill()
    if process.stdout is not None:
        process.stdout.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)


def _read(answer: bytes, status: int | None) -> Decoded:
    try:
        facts: dict[str, Any] = json.loads(answer if len(answer) <= _MOST_ANSWER_BYTES else b"")
        sheet = facts.pop("sheet", None)
        return Decoded(facts, facts.get("stopped"), sheet=base64.b64decode(sheet) if sheet else None)
    except (AttributeError, TypeError, ValueError):
        pass
    if status in (None, 0) or status == 1:
        return Decoded(trouble="the decoder gave no answer")
    if status == TOO_SLOW or status in _SLOW_SIGNALS:
        return Decoded(trouble="decoding it took longer than a file of its size may take", hostile=True)
    if status < 0:
        with suppress(ValueError):
            return Decoded(trouble=f"the decoder crashed on it ({signal.Signals(-status).name})", hostile=True)
    return Decoded(trouble=f"the decoder ended with status {status}", hostile=True)


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
