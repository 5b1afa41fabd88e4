"""Notice a Ctrl-C, and finish work although the task that awaits it is cancelled."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import anyio

__all__ = ["ctrl_c_pressed", "noticing_ctrl_c", "to_its_end"]

_T = TypeVar("_T")


class _Keyboard:
    """The process's SIGINT, while at least one task listens."""

    def __init__(self) -> None:
        self.pressed = False
        self._listening = 0
        self._before: Any = None

    def listen(self) -> None:
        if self._listening == 0:
            self.pressed = False
            self._before = signal.signal(signal.SIGINT, self._on_sigint)
        self._listening += 1

    def stop_listening(self) -> None:
        self._listening -= 1
        if self._listening == 0 and signal.getsignal(signal.SIGINT) == self._on_sigint:
            signal.signal(signal.SIGINT, self._before)

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        self._before(number, frame)  # keep doing what the process did before


_keyboard = _Keyboard()


def ctrl_c_pressed() -> bool:
    """Whether a person pressed it (SIGINT) while a task listened; a platform that stops a process sends SIGTERM."""
    return _keyboard.pressed


@contextmanager
def noticing_ctrl_c(means_generations: bool) -> Iterator[None]:
    """Notice a Ctrl-C while the body runs, in the main thread.

    Args:
        means_generations: Whether a Ctrl-C is meant for what the body does; otherwise nothing is noticed.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not means_generations or not in_main_thread or not callable(signal.getsignal(signal.SIGINT)):
        yield
        return
    _keyboard.listen()
    try:
        yield
    finally:
        _keyboard.stop_listening()


async def to_its_end(work: Coroutine[Any, Any, _T]) -> tuple[asyncio.Task[_T], asyncio.CancelledError | None]:
    """Finish the work; return its task, and the cancellation that came in the meantime, for the caller to raise.

    Only an event loop that shuts down can cancel the work itself.
    """
    task = asyncio.ensure_future(work)
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # Prefect's time-outs cancel every further await; anyio's shield prevents that.
            with anyio.CancelScope(shield=interrupted is not None):
                await asyncio.wait({task})
        except asyncio.CancelledError as cancelled:
            interrupted = cancelled
    return task, interrupted
