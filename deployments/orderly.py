"""Graceful shutdown: the processes of flow runs end by themselves before the process that started them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runcomfy.errors import ConfigurationError
from runcomfy.interruption.shutdown import DEFAULT_GRACE_SECONDS, grace_seconds

__all__ = ["end_in_order", "in_order"]

_REPORTING_SECONDS = 2.0  # what started a process reports a run that ended without a state as crashed
_ENDING_SECONDS = 10.0  # beyond the grace period: reporting its state, and ending an interpreter
_POLL_SECONDS = 0.2
_QUIET_POLLS = 2  # the system may leave a child out of its list once, while others end
_REPORTING_AT_MOST_SECONDS = 15.0


async def in_order(serving: Coroutine[Any, Any, None]) -> None:
    """Run what serves flows with Prefect's `Runner`; SIGTERM ends its flow runs gracefully, and then it.

    `Runner` sets a handler of its own when it starts (`handle_sigterm`, Prefect 3.9), which kills the processes
    of its runs, or marks the runs as cancelled, as if a person had done so. So this one is set after it. A second
    signal ends everything at once. If the system does not list a process's children (no /proc), Prefect's handler
    stays.

    Args:
        serving: What starts the runner, in the main thread.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(serving)
    before = signal.getsignal(signal.SIGTERM)
    signalled = asyncio.Event()

    async def take_over() -> None:
        while signal.getsignal(signal.SIGTERM) == before:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(_POLL_SECONDS)
        loop.add_signal_handler(signal.SIGTERM, lambda: task.cancel() if signalled.is_set() else signalled.set())
        await signalled.wait()
        await end_in_order(lambda: _children() or set())
        task.cancel()

    taking_over = asyncio.create_task(take_over()) if _children() is not None else None
    try:
        await task
    except asyncio.CancelledError:
        if not signalled.is_set():
            raise
    finally:
        if taking_over is not None:
            taking_over.cancel()


async def end_in_order(processes: Callable[[], set[int]], *, starting: Callable[[], bool] = lambda: False) -> int:
    """Signal the processes of flow runs to end, each once, those started later too; kill those that do not.

    Args:
        processes: Returns the ids of what may be left of them, and of other processes.
        starting: Whether there will be more.

    Returns:
        How many were killed, ten seconds after the longest grace period of those that were left.
    """

    def alive() -> set[int]:
        return set(filter(_runs_a_flow, processes()))

    signalled: set[int] = set()
    began, quiet = time.monotonic(), 0
    while quiet < _QUIET_POLLS:
        left = alive()
        if time.monotonic() - began >= _patience_seconds(left):
            break
        for pid in left - signalled:
            _send(pid, signal.SIGTERM)
        signalled |= left
        quiet = 0 if left or starting() else quiet + 1
        await asyncio.sleep(_POLL_SECONDS)
    for pid in left:
        _send(pid, signal.SIGKILL)
    killed = time.monotonic()
    while left and (alive() or starting()) and time.monotonic() - killed < _REPORTING_AT_MOST_SECONDS:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)
    await asyncio.sleep(_REPORTING_SECONDS)
    return len(left)


def _children() -> set[int] | None:
    """Return the process ids of our children, `None` if the system does not list them."""
    lists: list[str] = []
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has just ended
            lists.append(file.read_text())
    return {int(pid) for text in lists for pid in text.split()} if lists else None


def _runs_a_flow(pid: int) -> bool:
    """Whether a process is there and runs a flow: another one may have its number by now."""
    return "PREFECT__FLOW_RUN_ID" in _environment(pid) if _environment(os.getpid()) else pid > 0


def _environment(pid: int) -> dict[str, str]:
    """Return what a process was started with; nothing, where it has ended or the system does not say."""
    try:
        lines = os.fsdecode(Path(f"/proc/{pid}/environ").read_bytes()).split("\0")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _send(pid: int, number: signal.Signals) -> None:
    """Signal a process, if it is there; kill those that it started too, where it leads their group."""
    with suppress(OSError):
        if number == signal.SIGKILL and os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _patience_seconds(processes: Collection[int] = ()) -> float:
    """Return how long runs may take to end: the grace period for which they hold a signal back, and ten seconds.

    What has not ended by then is killed, as a platform does: it must not run on beside the run's next attempt.

    Args:
        processes: Those of the runs, which may have a longer grace period each.
    """
    return max(map(_grace_seconds, [os.environ, *map(_environment, processes)])) + _ENDING_SECONDS


def _grace_seconds(environment: Mapping[str, str]) -> float:
    try:
        return grace_seconds(environment)
    except ConfigurationError:
        return DEFAULT_GRACE_SECONDS  # the runs themselves say what is wrong with it
