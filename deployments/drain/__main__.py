"""Empty a work pool before you stop its workers: `python -m deployments.drain -- systemctl restart prefect-worker`.

It pauses the pool, waits until no run of it is Pending, Running or Cancelling, runs your command, and resumes the pool:
also if the command fails, after a time-out, and on Ctrl-C. Runs scheduled in the meantime wait; none is lost. Without a
command it leaves the pool paused once it is empty, and says how to resume it.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console

from deployments.entry import require_server, run_entry
from runcomfy.cli.output import INTERRUPTED, STOPPED
from runcomfy.cli.streams import as_process
from runcomfy.errors import InvalidInput, WaitError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from deployments.drain.places import DrainedQueues

__all__ = ["app", "main"]

app = App(
    name="python -m deployments.drain",
    help=__doc__,
    help_epilogue="Exit codes: that of your command; 6 if runs were still under way when the time was over (the pool "
    "is resumed, the command was not run); 130 and 143 after Ctrl-C and SIGTERM; 2 and 3 as `prefect-runcomfy`. A run "
    "that waits for a person (Paused, Suspended) is not waited for, nor is a batch all of whose parts are held back by "
    "the pause; runs of upkeep are given a minute. Flows that `deployments.serve` runs have no pool to pause.",
    version_flags=(),
)


@app.default
def drain(
    *command: Annotated[
        str, Parameter(help="After `--`: what to do while the pool is empty.", allow_leading_hyphen=True)
    ],
    pool: Annotated[str, Parameter(env_var="RUNCOMFY_WORK_POOL", help="The work pool.")] = "runcomfy",
    queue: Annotated[
        tuple[str, ...], Parameter(negative="", show_default=False, help="Only this queue of it; may be repeated.")
    ] = (),
    timeout: Annotated[
        float, Parameter(validator=Number(gt=0), help="Minutes after which it gives up, and resumes the pool.")
    ] = 60.0,
    resume: Annotated[
        bool, Parameter(negative="", help="Only resume what is paused, such as after a drain that was killed.")
    ] = False,
) -> int:
    """Pause, wait, run a command, resume."""
    from blocks.prefect_api import checked_api_url

    checked_api_url()
    if resume and command:
        raise InvalidInput("--resume runs no command: leave one of the two out.")
    if command and shutil.which(command[0]) is None:
        raise InvalidInput(f"There is no program {command[0]!r} to run. Nothing was paused.")
    return asyncio.run(_drained(_Drain(command, pool, queue, timeout * 60, resume)))


async def _drained(drain: _Drain) -> int:
    from prefect import get_client

    await require_server()
    async with get_client() as client:
        return await drain.run(client)


class _Drain:
    """One use of the command."""

    def __init__(
        self, command: tuple[str, ...], pool: str, queues: tuple[str, ...], timeout_seconds: float, resume: bool
    ) -> None:
        self._command = command
        self._pool = pool
        self._queues = queues
        self._timeout_seconds = timeout_seconds
        self._only_resume = resume
        self._console = Console(soft_wrap=True, highlight=False)

    async def run(self, client: PrefectClient) -> int:
        """Do it, and return the exit code."""
        from deployments.drain.places import DrainedQueues

        places = await DrainedQueues.read(client, self._pool, self._queues)
        if self._only_resume:
            await places.set_paused(client, False, places.names)
            self._say(f"Resumed: {places.described(places.names)}.")
            return 0
        ours = [name for name in places.names if name not in places.paused_before]
        if before := [name for name in places.names if name in places.paused_before]:
            self._say(f"Paused before, and stays so: {places.described(before)}.")
        return await self._emptied(client, places, ours)

    async def _emptied(self, client: PrefectClient, places: DrainedQueues, ours: list[str]) -> int:
        from deployments.drain.progress import Progress
        from deployments.drain.waiting import Interruption, run_command, until_idle, until_resumed

        interruption = Interruption()
        stays_paused = False
        try:
            await places.set_paused(client, True, ours)
            if ours:
                self._say(f"Paused: {places.described(ours)}. Waiting for what is under way.")
            with Progress(self._console) as progress:
                left = await until_idle(client, places, progress, interruption, self._timeout_seconds)
            if interruption.signal is not None:
                return _ended_by(interruption.signal)
            for run in left:
                reason = "its parts are held back" if run.waits_for_parts else "it is upkeep"
                self._say(f"Not waited for: {run.deployment}, {run.name}, {run.state}: {reason}.")
            if not self._command:
                stays_paused = bool(ours)
                self._say(f"Empty: {places.described(places.names)}.")
                return 0
            self._say(f"Empty. Running: {shlex.join(self._command)}")
            code = await run_command(self._command, interruption)
            if code:
                self._say(f"The command ended with {code}.")
            return code or _ended_by(interruption.signal)
        except WaitError as error:
            undone = " The command was not run." if self._command else ""
            raise WaitError(f"{error.message}{undone} Give it longer: --timeout.") from None
        finally:
            if stays_paused:
                self._say(f"It stays paused until you resume it: {self._resuming(places)}")
            elif ours:
                if await until_resumed(lambda: places.set_paused(client, False, ours), self._say):
                    self._say(f"Resumed: {places.described(ours)}.")
                else:
                    self._say(f"STILL PAUSED: {places.described(ours)}. Resume it: {self._resuming(places)}")

    def _resuming(self, places: DrainedQueues) -> str:
        queues = [word for name in places.queues for word in ("--queue", name)]
        return shlex.join(["python", "-m", "deployments.drain", "--pool", places.pool, *queues, "--resume"])

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def _ended_by(number: signal.Signals | None) -> int:
    return {None: 0, signal.SIGINT: INTERRUPTED}.get(number, STOPPED)


def main(arguments: list[str] | None = None) -> int:
    """Drain, and return the process's exit code, as `prefect-runcomfy` has them."""
    return run_entry(app, arguments, interrupted="Interrupted before anything was paused.")


if __name__ == "__main__":
    sys.exit(as_process(main))
