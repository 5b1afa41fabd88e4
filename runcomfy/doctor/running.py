"""Run checks at once, each within its time; what stands on something broken is not checked, and says why."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runcomfy.doctor.findings import CheckResult, Diagnosis, Mark, broken, not_checked, refused
from runcomfy.errors import RunComfyError

__all__ = ["Check", "in_thread", "run_checks"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Args:
        area: What it belongs to, for a person.
        name: Its name; unlike that of any other check of the same run.
        look: Looks, and says what it found. A `RunComfyError` that comes out of it means broken.
        needs: Names of checks without which this one can say nothing.
        after: Names of checks that have to be over first, however they end.
        seconds: How long it may take.
    """

    area: str
    name: str
    look: Callable[[], Awaitable[Diagnosis]]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    seconds: float = 20.0


async def run_checks(checks: Sequence[Check]) -> list[CheckResult]:
    """Run every check as soon as what it needs is known; return the findings in the order of the checks."""
    verdicts: dict[str, asyncio.Task[Diagnosis]] = {}

    async def run(check: Check) -> Diagnosis:
        await asyncio.sleep(0)  # until every task is there
        for name in check.after:
            await verdicts[name]
        for name in check.needs:
            needed = await verdicts[name]
            if needed.mark is Mark.BROKEN:
                return not_checked(f"because of: {name}")
            if needed.mark is Mark.NOT_CHECKED:
                return needed
        return await _bounded(check)

    async with asyncio.TaskGroup() as group:
        verdicts |= {check.name: group.create_task(run(check)) for check in checks}
    return [CheckResult(check.area, check.name, verdicts[check.name].result()) for check in checks]


async def in_thread(call: Callable[[], _T]) -> _T:
    """Run a blocking call in a thread that nobody waits for at the end, should it hang."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            outcome: tuple[_T | None, BaseException | None] = (call(), None)
        except BaseException as error:
            outcome = (None, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, name="checkup", daemon=True).start()
    return await done


async def _bounded(check: Check) -> Diagnosis:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look()
    except TimeoutError:
        return broken(f"No answer within {check.seconds:.0f} s.", "Look at the network, proxies and firewalls between.")
    except RunComfyError as error:
        return refused(error)
    except Exception as error:  # one check that fails must not hide what the others found
        place = traceback.extract_tb(error.__traceback__)[-1]  # not its text: it may quote a secret
        where = f"{Path(place.filename).name}:{place.lineno}"
        return broken(f"The check itself failed: {type(error).__name__} in {where}.", "Report it, with this line.")
