"""Delay a SIGTERM while submissions are being answered, so that it is known what is paid for when the process ends.

A platform that stops a process sends SIGTERM, and SIGKILL some 30 seconds later. If a submission's answer is not
awaited, it is unknown whether it is billed; so the signal is passed on only when every submission in flight is answered
and recorded, or the grace period is over. No new submission starts in the meantime. What is not answered in time is
recorded as uncertain by the code that waited for it, while its event loop still runs.

A handler may raise, and its exception has to end the event loop. asyncio only logs what is raised in a callback, such
as one that closes a connection (`asyncio.events.Handle._run`); so the signal is sent again every 20 milliseconds, until
no callback is running.

Python handles signals in the main thread. If submissions are made in other threads only, the signal's handler has to be
wrapped beforehand, by `Shutdown.wrap_handler` (Prefect's is).
"""

from __future__ import annotations

import _thread
import asyncio
import os
import queue
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import Any, Self, TypeVar

from runcomfy.errors import ConfigurationError

__all__ = ["DEFAULT_GRACE_SECONDS", "GRACE_VARIABLE", "Hold", "Shutdown", "Unanswered", "grace_seconds", "shutdown"]

DEFAULT_GRACE_SECONDS = 25.0
"""Docker Swarm and Kubernetes kill 30 seconds after SIGTERM by default (docs.docker.com, kubernetes.io)."""

GRACE_VARIABLE = "RUNCOMFY_SHUTDOWN_GRACE_SECONDS"

_RECORDING_SHARE = 0.2  # of the grace period, to record what was not answered
_RECORDING_SECONDS = 5.0  # at most

_RESEND_SECONDS = 0.02
_LATE_SECONDS = 1.0  # by then the last signal sent is handled
_INSIST_SECONDS = 3.0  # a callback that runs for so long is interrupted anyway

_T = TypeVar("_T")
_Handler = Callable[[int, FrameType | None], Any]


class Unanswered(Exception):
    """The grace period was over before the call was answered."""


class _DelayingHandler:
    """A signal handler that requests a shutdown, and passes the signal on when nothing delays it any more."""

    def __init__(self, shutdown: Shutdown, handler: _Handler | int) -> None:
        self.shutdown = shutdown
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if self.shutdown._is_delayed():
            return None
        if callable(self.handler):
            return self.handler(number, frame) if self.shutdown._passes_on(frame) else None
        signal.signal(number, self.handler)
        return signal.raise_signal(number)


class Shutdown:
    """How a process handles a SIGTERM; one for each process.

    Args:
        grace_seconds: How long the signal is delayed at most; by default the value of the variable
            `RUNCOMFY_SHUTDOWN_GRACE_SECONDS` at that time, and 25 without it.
    """

    def __init__(self, grace_seconds: float | None = None) -> None:
        self._grace_seconds = grace_seconds
        self._restore: Callable[[], None] | None = None
        self._seconds = DEFAULT_GRACE_SECONDS
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Forget everything: a forked child has one thread, may inherit a locked lock, and was not stopped."""
        self._holds: frozenset[Hold] = frozenset()
        self._leaving: set[Hold] = set()
        self._changed = threading.Condition()
        # a signal handler may call its `put`
        self._requests: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._watcher: threading.Thread | None = None
        self._over = False
        self._resending = self._insisting = self._passed_on = False
        self.requested = False
        """Whether this process has been asked to stop."""

    def wrap_handler(self, handler: _Handler) -> _Handler:
        """Wrap a handler of SIGTERM, so that it runs when nothing delays the signal any more."""
        return handler if isinstance(handler, _DelayingHandler) else _DelayingHandler(self, handler)

    def hold(self) -> Hold:
        """Return a hold, which delays the signal once it is begun; make it in the event loop that submits."""
        return Hold(self)

    def _is_delayed(self) -> bool:
        """Called by the signal's handler, at any point of the main thread: it must not take a lock."""
        first, self.requested = not self.requested, True
        if first and self._holds:
            self._requests.put(time.monotonic())
        elif first:
            self._over = True
        return not self._over

    def _passes_on(self, frame: FrameType | None) -> bool:
        """Called likewise, once nothing delays the signal; if it is not passed on, the watcher sends it again."""
        if self._passed_on:
            return not self._resending  # the watcher may have sent it once more than needed
        if not self._insisting and _in_callback(frame):
            if not self._resending:
                if self._watcher is None:  # nothing was submitted yet
                    try:
                        _thread.start_new_thread(self._watch, ())  # `Thread.start` takes a lock
                    except RuntimeError:  # there can be no more threads
                        self._passed_on = True
                        return True
                self._resending = True
                self._requests.put(None)
            return False
        self._passed_on = True
        return True

    def _begin(self, hold: Hold) -> None:
        self._seconds = grace_seconds(os.environ) if self._grace_seconds is None else self._grace_seconds
        if threading.current_thread() is threading.main_thread():
            self._install()
        with self._changed:
            if self._watcher is None or not self._watcher.is_alive():  # threads do not survive a fork
                self._watcher = threading.Thread(target=self._watch, name="runcomfy-shutdown", daemon=True)
                self._watcher.start()
            self._holds = self._holds | {hold}
        hold.check()  # after adding it: either the handler saw it, or this sees what the handler did

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
            if not self._over:  # after adding it, as above
                await hold._over.wait()
        finally:
            self._leaving.discard(hold)

    def _install(self) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        if handler is None or handler is signal.SIG_IGN or isinstance(handler, _DelayingHandler):
            return
        ours = _DelayingHandler(self, handler)

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
        self._resending = True
        insisting = time.monotonic() + _INSIST_SECONDS
        while not self._passed_on:
            self._insisting = time.monotonic() >= insisting
            # to the main thread, to wake it up; the kernel may deliver a signal to the process to another thread
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            time.sleep(_RESEND_SECONDS)
        time.sleep(_LATE_SECONDS)
        self._resending = False

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

    If it ends with an error because this process is being stopped, that error is raised when no submission is in flight
    any more: the code around it may cancel all the others, as a coroutine that ends does with `asyncio.gather`.
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
        """Delay the signal from now on; idempotent.

        Raises:
            asyncio.CancelledError: this process is being stopped, so nothing new may be submitted.
            ConfigurationError: the variable of the grace period is not a number of seconds.
        """
        self._shutdown._begin(self)

    def end(self) -> None:
        """Stop delaying it."""
        self._shutdown._end(self)

    def check(self) -> None:
        """Raise `asyncio.CancelledError` if this process is being stopped."""
        if self._shutdown.requested:
            raise asyncio.CancelledError("this process is being stopped, and nothing was sent")

    async def answer(self, call: Awaitable[_T]) -> _T:
        """Await the paid call.

        Raises:
            Unanswered: the grace period is over.
        """
        return await _first(call, self._expired, Unanswered())

    async def pause(self, sleep: Awaitable[Any]) -> None:
        """Await a pause between two attempts.

        Raises:
            asyncio.CancelledError: this process is being stopped.
        """
        await _first(sleep, self._requested, asyncio.CancelledError("this process is being stopped"))

    def _wake(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:  # its loop is closed, so it cannot be waiting
            self.end()


async def _first(work: Awaitable[_T], event: asyncio.Event, error: BaseException) -> _T:
    """Return the result of the work, or cancel it and raise the error if the event comes first."""
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


def grace_seconds(environment: Mapping[str, str]) -> float:
    """Return the grace period that an environment sets, or the default.

    Raises:
        ConfigurationError: it is not a number of seconds.
    """
    value = environment.get(GRACE_VARIABLE) or str(DEFAULT_GRACE_SECONDS)
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 86_400:
        raise ConfigurationError(f"{GRACE_VARIABLE} must be a number of seconds, such as 25, not {value!r}.")
    return seconds


shutdown = Shutdown()
"""The one of this process."""
