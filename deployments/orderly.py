"""Graceful shutdown: the processes of flow runs end by themselves before the process that started them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from runcomfy.interruption.shutdown import DEFAULT_GRACE_SECONDS, GRACE_VARIABLE

__all__ = ["REPORTING_SECONDS", "in_order", "kill", "patience_seconds", "terminate"]

REPORTING_SECONDS = 2.0
"""So long what started a process takes to report a run that ended without a state as crashed."""
_ENDING_SECONDS = 10.0  # beyond the grace period: reporting its state, and ending an interpreter
_POLL_SECONDS = 0.2


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
        await _ended(patience_seconds())
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


async def _ended(seconds: float) -> None:
    """Signal our children to end, each once, and those started later too; kill those that are left in the end."""
    signalled: set[int] = set()
    deadline = time.monotonic() + seconds
    while (children := _children()) and time.monotonic() < deadline:
        for pid in children - signalled:
            terminate(pid)
        signalled |= children
        await asyncio.sleep(_POLL_SECONDS)
    for pid in children or ():
        kill(pid)
    await asyncio.sleep(REPORTING_SECONDS)


def _children() -> set[int] | None:
    """Return the process ids of our children that run flows, `None` if the system does not list them."""
    try:
        lists = [file.read_text() for file in Path("/proc/self/task").glob("*/children")]
    except OSError:
        return None
    return {int(pid) for text in lists for pid in text.split() if _runs_a_flow(pid)} if lists else None


def _runs_a_flow(pid: str) -> bool:
    try:
        return b"PREFECT__FLOW_RUN_ID=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has just ended
        return False


def terminate(pid: int) -> None:
    """Send SIGTERM to a process, unless it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def kill(pid: int) -> None:
    """Kill a process, and those that it started if it leads their group, unless it is gone."""
    with suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def patience_seconds() -> float:
    """Return how long runs may take to end: the grace period for which they hold a signal back, and ten seconds.

    What has not ended by then is killed, as a platform does: it must not run on beside the run's next attempt.
    """
    try:
        grace = float(os.environ.get(GRACE_VARIABLE) or DEFAULT_GRACE_SECONDS)
    except ValueError:
        grace = DEFAULT_GRACE_SECONDS  # the runs themselves say what is wrong with it
    return max(0.0, grace) + _ENDING_SECONDS
