"""Wait until a paused pool has no active runs, and then run the user's command."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import PrefectHTTPStatusError

from deployments.drain.places import ActiveRun, DrainedQueues
from deployments.drain.progress import Progress, summary
from runcomfy.errors import WaitError

__all__ = ["Interruption", "Quiet", "run_command", "until_idle", "until_resumed"]

_POLL_SECONDS = 2.0
_QUIET_SECONDS = 6.0  # what a worker had fetched before the pause is Pending well before that
_UPKEEP_SECONDS = 60.0
_RESUME_SECONDS = 300.0
_UNREACHABLE = (httpx.TransportError, httpx.HTTPStatusError, PrefectHTTPStatusError)


class Interruption:
    """SIGINT and SIGTERM: they end the waiting, and what has to be put right afterwards still is.

    Made in a running event loop, whose signal handlers it sets.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The first signal that came."""
        self._told = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._note, number)

    def _note(self, number: signal.Signals) -> None:
        self.signal = self.signal or number
        self._told.set()
        # a terminal sends Ctrl-C to the command as well
        if self._process is not None and not (number == signal.SIGINT and sys.stdin.isatty()):
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def sleep(self, seconds: float) -> None:
        """Sleep, but only until a signal comes."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), seconds)

    async def finished(self, process: asyncio.subprocess.Process) -> int:
        """Return the exit code of a process, to which signals are passed on in the meantime."""
        self._process = process
        try:
            return await process.wait()
        finally:
            self._process = None


class Quiet:
    """Judges whether a paused pool is empty, from the active runs at each poll.

    Upkeep runs are given a minute after the others; runs that wait only for shards that the pause holds back are not
    waited for. The pool must stay empty for six seconds: what a worker had fetched before the pause is Pending by then.
    """

    def __init__(self) -> None:
        self._orders_ended: float | None = None
        self._since: float | None = None

    def seen(self, active: Sequence[ActiveRun], at: float) -> bool:
        """Return whether the pool counts as empty.

        Args:
            active: The active runs.
            at: When that was seen, by a monotonic clock, in seconds.
        """
        if any(not run.upkeep and not run.waits_for_parts for run in active):
            self._orders_ended = self._since = None
            return False
        if self._orders_ended is None:
            self._orders_ended = at
        if any(run.upkeep for run in active) and at - self._orders_ended < _UPKEEP_SECONDS:
            self._since = None
            return False
        if self._since is None:
            self._since = at
        return at - self._since >= _QUIET_SECONDS

    def unknown(self) -> None:
        """Start over, since the server did not answer."""
        self._orders_ended = self._since = None


async def until_idle(
    client: PrefectClient, places: DrainedQueues, progress: Progress, interruption: Interruption, timeout_seconds: float
) -> list[ActiveRun]:
    """Wait until no run is left to wait for, and return the runs that are still active.

    A server that does not answer is asked again. It also ends when it is interrupted.

    Args:
        client: Speaks to the server.
        places: What was paused.
        progress: Is shown what is waited for.
        interruption: Ends the waiting.
        timeout_seconds: How long at most.

    Raises:
        WaitError: that time is over.
    """
    until, quiet, active = time.monotonic() + timeout_seconds, Quiet(), list[ActiveRun]()
    while interruption.signal is None:
        try:
            active = await places.active(client)
        except _UNREACHABLE as error:
            progress.show(active, f"the server does not answer ({type(error).__name__}), and is asked again")
            quiet.unknown()
        else:
            progress.show(active)
            if quiet.seen(active, time.monotonic()):
                return active
        if time.monotonic() >= until:
            raise WaitError(f"After {timeout_seconds / 60:g} minutes: {summary(active)}.")
        await interruption.sleep(_POLL_SECONDS)
    return active


async def run_command(command: Sequence[str], interruption: Interruption) -> int:
    """Run a command to its end, and return its exit code as a shell does: 128 and the signal that ended it."""
    process = await asyncio.create_subprocess_exec(*command)
    code = await interruption.finished(process)
    return code if code >= 0 else 128 - code


async def until_resumed(resume: Callable[[], Awaitable[None]], say: Callable[[str], None]) -> bool:
    """Resume, and retry while the server does not answer: the command may have restarted it.

    Args:
        resume: Makes one attempt.
        say: Informs a person, once.

    Returns:
        Whether it was resumed within five minutes.
    """
    until, said = time.monotonic() + _RESUME_SECONDS, False
    while True:
        try:
            await resume()
        except _UNREACHABLE as error:
            if time.monotonic() >= until:
                return False
            if not said:
                say(f"The server does not answer ({type(error).__name__}); asking again for five minutes.")
                said = True
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return True
