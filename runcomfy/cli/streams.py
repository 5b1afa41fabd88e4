"""Standard output and error as a command finds them: closed, on a full disk, at the end of a pipe, in any encoding."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runcomfy.cli.output import UNEXPECTED

__all__ = ["as_process", "lost_output"]


def as_process(command: Callable[[], int]) -> int:
    """Run a command as this process, and return its exit code.

    What cannot be written to stdout or stderr ends no command: what was paid for is recorded all the same. An answer
    that was lost with stdout is an exit code of 1, unless the command failed otherwise.
    """
    _open_standard_streams()
    try:
        code = command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else UNEXPECTED if end.code else 0
        if isinstance(end.code, str):
            with suppress(OSError):
                print(end.code, file=sys.stderr)
    except OSError:
        if not _lost:
            raise
        code = 0  # the answer could not be written, as is said below
    lost = lost_output()
    if lost is not None and not isinstance(lost, BrokenPipeError):
        with suppress(OSError):
            print(
                f"The answer could not be written to stdout: {lost.strerror or type(lost).__name__}. Make room, or "
                "write it elsewhere, and run the same again: what was paid for is not paid for again.",
                file=sys.stderr,
            )
    try:
        sys.stderr.flush()
    except OSError:
        _to_nowhere(2)
    return code or (UNEXPECTED if lost is not None else 0)


_lost: list[OSError] = []


class _Stdout(io.FileIO):
    """Keeps the error of a write that fails, and writes nothing more: the interpreter would exit with 120."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _lost.append(error)
            _to_nowhere(self.fileno())
            raise


def lost_output() -> OSError | None:
    """Return why what was printed could not be written to stdout; `None` if it was."""
    with suppress(OSError):
        sys.stdout.flush()
    return _lost[0] if _lost else None


def _open_standard_streams() -> None:
    """Open those that are closed on /dev/null; the next socket or file would get their number, and what is printed."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - until the end
    writing = io.BufferedWriter(_Stdout(1, "w", closefd=False))
    # a character that its encoding lacks ends nothing either
    sys.stdout = io.TextIOWrapper(writing, sys.stdout.encoding, "backslashreplace", line_buffering=sys.stdout.isatty())


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
