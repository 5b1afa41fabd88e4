"""Run checks concurrently, each with a time limit; what depends on something broken is not checked, and says why."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runcomfy.doctor.findings import CheckResult, Diagnosis, Mark, broken, not_checked, refused
from runcomfy.errors import RunComfyError

__all__ = ["Check", "in_thread", "run_checks"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Check:
    """One thing to check.

    Args:
        area: What it belongs to, for a person.
        name: Its name, unique within a run.
        run: Checks, and returns what it found. A `RunComfyError` that it raises means broken.
        needs: Names of checks that this one depends on: it is not run if one of them is broken.
        after: Names of checks that have to end first, whatever they find.
        seconds: Its time limit.
    """

    area: str
    name: str
    run: Callable[[], Awaitable[Diagnosis]]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    seconds: float = 20.0


async def run_checks(checks: Sequence[Check]) -> list[CheckResult]:
    """Run every check as soon as those before it have ended; return the results in the order of the checks."""
    tasks: dict[str, asyncio.Task[Diagnosis]] = {}

    async def run(check: Check) -> Diagnosis:
        for name in check.after:
            await tasks[name]
        for name in check.needs:
            needed = await tasks[name]
            if needed.mark is Mark.BROKEN:
                return not_checked(f"because of: {name}")
            if needed.mark is Mark.NOT_CHECKED:
                return needed
        return await _bounded(check)

    async with asyncio.TaskGroup() as group:
        tasks |= {check.name: group.create_task(run(check)) for check in checks}
    return [CheckResult(check.area, check.name, tasks[check.name].result()) for check in checks]


async def in_thread(call: Callable[[], _T]) -> _T:
    """Run a blocking call in a daemon thread: unlike those of a pool, it delays no exit, should it hang."""
    done = Future[_T]()
    done.set_running_or_notify_cancel()  # from here on a cancellation leaves it alone

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, name="doctor", daemon=True).start()
    return await asyncio.wrap_future(done)


async def _bounded(check: Check) -> Diagnosis:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.run()
    except TimeoutError:
        return broken(f"No answer within {check.seconds:.0f} s.", "Check the network, and any proxy or firewall.")
    except RunComfyError as error:
        return refused(error)
    except Exception as error:  # one check that fails must not hide what the others found
        place = traceback.extract_tb(error.__traceback__)[-1]  # not its text: it may quote a secret
        where = f"{Path(place.filename).name}:{place.lineno}"
        return broken(f"The check itself failed: {type(error).__name__} in {where}.", "Report it, with this line.")
