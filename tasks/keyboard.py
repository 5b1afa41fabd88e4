"""Notice that a person pressed Ctrl-C: a SIGINT, where a platform that stops a process sends SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from prefect.context import FlowRunContext

__all__ = ["ctrl_c_pressed", "noticing_ctrl_c"]


class _Keyboard:
    """The process's SIGINT, while at least one task wants to know of it."""

    def __init__(self) -> None:
        self.pressed = False
        self._listening = 0
        self._before: Any = None

    def listen(self) -> None:
        if self._listening == 0:
            self.pressed = False
            self._before = signal.signal(signal.SIGINT, self._note)
        self._listening += 1

    def rest(self) -> None:
        self._listening -= 1
        if self._listening == 0 and signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        self._before(number, frame)  # what it did before, it does now


_keyboard = _Keyboard()


def ctrl_c_pressed() -> bool:
    """Whether it was, in a run that a person started in a terminal."""
    return _keyboard.pressed


@contextmanager
def noticing_ctrl_c() -> Iterator[None]:
    """Notice it while the body runs.

    Runs of a deployment are left out: Ctrl-C in the terminal of `serve` or of a worker reaches them too, and stops the
    server, not the generations.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    in_terminal = run is not None and run.deployment_id is None
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_terminal or not in_main_thread or not callable(signal.getsignal(signal.SIGINT)):
        yield
        return
    _keyboard.listen()
    try:
        yield
    finally:
        _keyboard.rest()
