"""Hold a SIGTERM back while submissions are being answered, so that what is paid for is known when the process ends.

A platform that stops a process sends SIGTERM, and SIGKILL some 30 seconds later. An answer that is not awaited leaves a
submission of which nobody knows whether it is billed; so the signal is passed on only when every submission that is
under way is answered and recorded, or the grace is over. No new submission starts in the meantime. What is not
answered in time is recorded as uncertain by the code that waited for it, while its event loop still runs.

A handler that raises is called where its exception ends the event loop. asyncio logs what is raised into a callback,
such as the one that closes a connection, and goes on as if nothing had been (`asyncio.events.Handle._run`); so the
signal is sent again every 20 milliseconds, until no callback is running.

Signals are the main thread's. Where submissions are made in other threads only, nobody stands in front of the signal's
handler unless `Shutdown.in_front_of` was told of that handler before (Prefect's is).
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Self, TypeVar

from runcomfy.errors import ConfigurationError

__all__ = ["DEFAULT_GRACE_SECONDS", "GRACE_VARIABLE", "Hold", "Shutdown", "Unanswered", "shutdown"]

DEFAULT_GRACE_SECONDS = 25.0
"""Docker Swarm and Kubernetes kill 30 seconds after SIGTERM by default (docs.docker.com, kubernetes.io)."""

GRACE_VARIABLE = "RUNCOMFY_SHUTDOWN_GRACE_SECONDS"

_RECORDING_SHARE = 0.2  # of the grace, and at most so long, to record what was not answered
_RECORDING_SECONDS = 5.0

_TRY_SECONDS = 0.02
_LATE_SECONDS = 1.0  # what was sent last is taken by then
_INSIST_SECONDS = 3.0  # what runs so long in one callback is interrupted, come of it what may

_T = TypeVar("_T")
_Handler = Callable[[int, FrameType | None], Any]


class Unanswered(Exception):
    """The grace was over before the call was answered."""


class _InFront:
    """A signal handler that asks for a shutdown, and passes the signal on when nothing holds it back any more."""

    def __init__(self, shutdown: Shutdown, handler: _Handler | int) -> None:
        self.shutdown = shutdown
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if self.shutdown._is_held_back():
            return None
        if callable(self.handler):
            return self.handler(number, frame) if self.shutdown._passes_on(frame) else None
        signal.signal(number, self.handler)
        return signal.raise_signal(number)


class Shutdown:
    """What a process does about a SIGTERM; one for each process.

    Args:
        grace_seconds: How long the signal is held back at most; by default, what the variable
            `RUNCOMFY_SHUTDOWN_GRACE_SECONDS` says at that time, and 25 without it.
    """

    def __init__(self, grace_seconds: float | None = None) -> None:
        self._grace_seconds = grace_seconds
        self._restore: Callable[[], None] | None = None
        self._seconds = DEFAULT_GRACE_SECONDS
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """Hold nothing. A child has no thread but one, a lock that another held is for ever, and nobody stopped it."""
        self._holds: frozenset[Hold] = frozenset()
        self._leaving: set[Hold] = set()
        self._changed = threading.Condition()
        # its `put` may be called by a signal handler
        self._requests: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._watcher: threading.Thread | None = None
        self._over = False
        self._trying = self._insisting = self._passed_on = False
        self.requested = False
        """Whether this process was told to stop."""

    def in_front_of(self, handler: _Handler) -> _Handler:
        """Return a handler of SIGTERM that does what this one does, after what holds it back."""
        return handler if isinstance(handler, _InFront) else _InFront(self, handler)

    def hold(self) -> Hold:
        """Return what holds the signal back, once it is begun; to be made in the event loop that submits."""
        return Hold(self)

    def _is_held_back(self) -> bool:
        """Called by the signal's handler, between any two steps of the main thread: it takes no lock."""
        first, self.requested = not self.requested, True
        if first and self._holds:
            self._requests.put(time.monotonic())
        elif first:
            self._over = True
        return not self._over

    def _passes_on(self, frame: FrameType | None) -> bool:
        """Called like the above, when nothing holds it back any more; where it does not, the watcher sends it again."""
        if self._passed_on:
            return not self._trying  # the watcher may have sent it once too often
        if not self._insisting and self._watcher is not None and _in_callback(frame):
            if not self._trying:
                self._trying = True
                self._requests.put(None)
            return False
        self._passed_on = True
        return True

    def _begin(self, hold: Hold) -> None:
        self._seconds = _grace_seconds() if self._grace_seconds is None else self._grace_seconds
        if threading.current_thread() is threading.main_thread():
            self._stand_in_front()
        with self._changed:
            if self._watcher is None or not self._watcher.is_alive():  # threads do not survive a fork
                self._watcher = threading.Thread(target=self._watch, name="runcomfy-shutdown", daemon=True)
                self._watcher.start()
            self._holds = self._holds | {hold}
        hold.check()  # after it is in the set: either the handler saw it there, or this sees what the handler did

    def _end(self, hold: Hold) -> None:
        with self._changed:
            self._holds = self._holds - {hold}
            self._changed.notify_all()
            idle = not self._holds and not self.requested
        if idle and self._restore is not None and threading.current_thread() is threading.main_thread():
            self._restore()

    async def _all_ended(self, hold: Hold) -> None:
        self._leaving.add(hold)
        try:
            if not self._over:  # after it is in the set, as above
                await hold._over.wait()
        finally:
            self._leaving.discard(hold)

    def _stand_in_front(self) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        if handler is None or handler is signal.SIG_IGN or isinstance(handler, _InFront):
            return
        ours = _InFront(self, handler)

        def restore() -> None:
            self._restore = None
            if signal.getsignal(signal.SIGTERM) is ours:
                signal.signal(signal.SIGTERM, handler)

        signal.signal(signal.SIGTERM, ours)
        self._restore = restore

    def _watch(self) -> None:
        requested = self._requests.get()
        if requested is not None:
            self._wait_for_answers(requested + self._seconds)
        self._trying = True
        insisting = time.monotonic() + _INSIST_SECONDS
        while not self._passed_on:
            self._insisting = time.monotonic() >= insisting
            # to the main thread, which it wakes up; sent to the process, the kernel may choose another one
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            time.sleep(_TRY_SECONDS)
        time.sleep(_LATE_SECONDS)
        self._trying = False

    def _wait_for_answers(self, until: float) -> None:
        recording = min(_RECORDING_SECONDS, _RECORDING_SHARE * self._seconds)
        for hold in self._holds:
            hold._wake(hold._requested)
        self._wait_for_holds(until - recording)
        for hold in self._holds:
            hold._wake(hold._expired)
        self._wait_for_holds(until)
        self._over = True
        for hold in tuple(self._leaving):
            hold._wake(hold._over)

    def _wait_for_holds(self, until: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._holds, max(0.0, until - time.monotonic()))


class Hold:
    """One submission, from before its intent is written until its outcome is recorded; a context manager.

    Where it ends with an error because this process is being stopped, that error comes out when no submission is under
    way any more: what stands around it may take all the others down, such as `asyncio.gather` in a coroutine that ends.
    """

    def __init__(self, shutdown: Shutdown) -> None:
        self._shutdown = shutdown
        self._loop = asyncio.get_running_loop()
        self._requested = asyncio.Event()
        self._expired = asyncio.Event()
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        self.end()
        if kind is not None and self._shutdown.requested:
            await self._shutdown._all_ended(self)

    def begin(self) -> None:
        """Hold the signal back from now on; again, it changes nothing.

        Raises:
            asyncio.CancelledError: this process is being stopped, so that nothing new is to be submitted.
            ConfigurationError: the variable of the grace is no number of seconds.
        """
        self._shutdown._begin(self)

    def end(self) -> None:
        """Hold it back no longer."""
        self._shutdown._end(self)

    def check(self) -> None:
        """Raise `asyncio.CancelledError` if this process is being stopped."""
        if self._shutdown.requested:
            raise asyncio.CancelledError("this process is being stopped, and nothing was sent")

    async def answer(self, call: Awaitable[_T]) -> _T:
        """Await the paid call.

        Raises:
            Unanswered: the grace is over.
        """
        return await _first(call, self._expired, Unanswered())

    async def pause(self, sleep: Awaitable[Any]) -> None:
        """Await a pause between two attempts; `asyncio.CancelledError` as soon as this process is being stopped."""
        await _first(sleep, self._requested, asyncio.CancelledError("this process is being stopped"))

    def _wake(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:  # its loop is closed: it cannot be waiting
            self.end()


async def _first(work: Awaitable[_T], event: asyncio.Event, error: BaseException) -> _T:
    """Return what the work gives, or raise the error if the event comes first; the work is then cancelled."""
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise error
    finally:
        doing.cancel()
        waiting.cancel()


def _in_callback(frame: FrameType | None) -> bool:
    """Whether code runs in a callback of an event loop; an `asyncio` task's step is one too."""
    while frame is not None:
        if frame.f_code is asyncio.events.Handle._run.__code__:
            return True
        frame = frame.f_back
    return False


def _grace_seconds() -> float:
    said = os.environ.get(GRACE_VARIABLE) or str(DEFAULT_GRACE_SECONDS)
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 86_400:
        raise ConfigurationError(f"{GRACE_VARIABLE} is to be a number of seconds, such as 25, not {said!r}.")
    return seconds


shutdown = Shutdown()
"""This process's."""
