"""What the engine logs, in plain lines on stderr: stdout is the command's answer."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from runcomfy.redaction import redact

__all__ = ["log_progress", "logging_to_stderr"]

_LOGGER = logging.getLogger("runcomfy")


class _Stderr(logging.Handler):
    """Writes to the current `sys.stderr`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{redact(self.format(record))}\n")
        except Exception:
            self.handleError(record)


class _Plain(logging.Formatter):
    """The time, and the level of a warning or an error."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        return f"{self.formatTime(record, '%H:%M:%S')}  {level}{record.message}"


@contextmanager
def logging_to_stderr(*, verbose: bool) -> Iterator[None]:
    """Log warnings, and with `verbose` everything, while the body runs."""
    handler, before = _Stderr(), (_LOGGER.level, _LOGGER.propagate)
    handler.setFormatter(_Plain())
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.DEBUG if verbose else logging.WARNING)
    _LOGGER.propagate = False
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(before[0])
        _LOGGER.propagate = before[1]


def log_progress() -> None:
    """Log from here on what goes on, too: for a command that takes long."""
    if _LOGGER.level > logging.INFO:
        _LOGGER.setLevel(logging.INFO)
