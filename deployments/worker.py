"""A process worker that shuts its flow runs down gracefully: `python -m deployments.worker --pool runcomfy`.

It is `prefect worker start`, with all its options, but for SIGTERM and Ctrl-C: Prefect's own process worker kills the
processes of its runs at once (SIGKILL, measured with 3.8.8 and 3.9.1), in the middle of a paid call too, and leaves the
runs "Running". This one takes no further run, passes SIGTERM on to the processes, which wait for the answers of what is
being paid for, and ends when they have ended and reported their states. It kills those that have not ended ten seconds
after the longest grace period of theirs. A second signal ends it as Prefect would.
"""

from __future__ import annotations

import asyncio
import runpy
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio.abc import TaskStatus
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from deployments.entry import require_server
from deployments.orderly import end_in_order
from runcomfy.cli.failure import print_error
from runcomfy.cli.output import exit_code
from runcomfy.errors import ConfigurationError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

__all__ = ["OrderlyProcessWorker", "main"]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it replaces Prefect's own in this process on purpose

    class OrderlyProcessWorker(ProcessWorker):
        """Prefect's process worker; `prefect worker start` in this process starts this one instead."""

        type = "process"

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._processes: set[int] = set()
            self._under_way = 0
            self._stopping: asyncio.Task[None] | None = None

        async def start(
            self, run_once: bool = False, with_healthcheck: bool = False, printer: Callable[..., None] = print
        ) -> None:
            """Start it, and take the two signals over, an ignored SIGINT too; as `ProcessWorker.start`."""
            ending = partial(self._stop, asyncio.current_task(), printer)
            for number in (signal.SIGTERM, signal.SIGINT):
                with suppress(NotImplementedError):  # Windows
                    asyncio.get_running_loop().add_signal_handler(number, ending)
            await super().start(run_once, with_healthcheck, printer)

        async def get_and_submit_flow_runs(self) -> list[FlowRun]:
            """Take what is due, unless it is being stopped; as `ProcessWorker.get_and_submit_flow_runs`."""
            return [] if self._stopping else await super().get_and_submit_flow_runs()

        async def run(
            self,
            flow_run: FlowRun,
            configuration: ProcessJobConfiguration,
            task_status: TaskStatus[int] | None = None,
        ) -> ProcessWorkerResult:
            """Run a flow run's process, and keep its process id in the meantime; as `ProcessWorker.run`.

            Raises:
                RuntimeError: the worker is being stopped; Prefect marks the run as crashed.
            """
            if self._stopping:
                raise RuntimeError("The worker was stopped before it started the run.")
            noting = _Noting(task_status, self._processes.add)
            self._under_way += 1
            try:
                return await super().run(flow_run, configuration, noting)
            finally:
                self._under_way -= 1
                self._processes.discard(noting.pid)

        def _stop(self, main_task: asyncio.Task[Any] | None, printer: Callable[..., None]) -> None:
            if self._stopping:
                _cancel(main_task)
                return
            self._stopping = asyncio.create_task(self._let_runs_end(main_task, printer))
            printer(f"Told to stop; waiting for the processes of {self._under_way} flow runs to end.")

        async def _let_runs_end(self, main_task: asyncio.Task[Any] | None, printer: Callable[..., None]) -> None:
            try:
                if self._under_way and (
                    killed := await end_in_order(self._processes.copy, starting=lambda: self._under_way > 0)
                ):
                    printer(f"{killed} processes did not end within the grace period, and were killed.")
            finally:
                _cancel(main_task)


class _Noting:
    """Passes a process id on to Prefect, and notes it."""

    def __init__(self, status: TaskStatus[int] | None, note: Callable[[int], None]) -> None:
        self._status = status
        self._note = note
        self.pid = 0

    def started(self, pid: int = 0) -> None:
        """Receive the id of a process that was started."""
        self.pid = pid
        self._note(pid)
        if self._status is not None:
            self._status.started(pid)


def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()


def main(arguments: list[str] | None = None) -> None:
    """Run `prefect worker start` with these arguments, or those of the process.

    Raises:
        SystemExit: as that ends; with 3 if the Prefect server does not answer now.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if "--help" not in words:
        try:
            asyncio.run(require_server())
        except ConfigurationError as error:
            print_error(error, as_json=False)
            sys.exit(exit_code(error))
    sys.argv = ["prefect", "worker", "start", *words]
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
