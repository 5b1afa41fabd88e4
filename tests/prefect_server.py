"""A Prefect server for tests, set up to survive what its SQLite cannot do concurrently.

Where several flow runs begin together, two things happen (seen with Prefect 3.8 in its own log of transactions):

- A transaction that has read cannot write any more once another has written: "database is locked", at once. The server
  says 503 without `Retry-After`, and Prefect's client asks again after 2, 4, 8, 16 and 32 seconds.
- One that waits for the lock keeps the server's event loop waiting too, now and then, and with it the one that has the
  lock: everything stops until the wait is over, after a minute.

So a lock is waited for two seconds at most, and a 503 asks to retry soon. Servers on PostgreSQL need neither.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_ports

__all__ = [
    "MANY_RETRIES",
    "create_app",
    "delete_runs",
    "drop_events_of_other_servers",
    "patient_prefect_server",
    "patient_server",
]

ROOT = Path(__file__).parents[1]
Message = MutableMapping[str, Any]


MANY_RETRIES = {"PREFECT_CLIENT_MAX_RETRIES": "40"}
"""What all processes that use such a server need: each of its 503 asks for a retry half a second later."""


def patient_server(port: int) -> list[str]:
    """Return the module and its arguments that serve the application below on a port of this machine.

    When it is stopped, it does not wait for clients that listen for events: tests have ended by then.
    """
    return [
        "uvicorn", "--app-dir", str(ROOT), "--factory", f"{__name__}:{create_app.__name__}",
        "--log-level", "error", "--lifespan", "on", "--timeout-graceful-shutdown", "2",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip


@contextmanager
def patient_prefect_server() -> Iterator[str]:
    """Run Prefect's test harness with the application below, and yield the URL of its API."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, get_current_settings
    from prefect.testing.utilities import prefect_test_harness

    def start(server: SubprocessASGIServer) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *patient_server(server.port)]
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        as_the_harness = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        return subprocess.Popen(command, env=os.environ | as_the_harness | settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SubprocessASGIServer, "_run_uvicorn_command", start)
        patch.setattr(SubprocessASGIServer, "find_available_port", lambda _: free_ports()[0])
        with prefect_test_harness(server_startup_timeout=300):
            yield str(PREFECT_API_URL.value())
            _send_events()


def _send_events(seconds: float = 30) -> None:
    """Wait until Prefect has sent its events, as the harness does, but not indefinitely."""
    from prefect.events.worker import EventsWorker

    workers = list(EventsWorker._instances.items())
    EventsWorker.drain_all(timeout=seconds)
    for key, worker in workers:
        _drop(key, worker)


def drop_events_of_other_servers() -> None:
    """Let events go to the server in use.

    A process has one sender of events, whatever server that was made for (`EventsWorker.instance`, Prefect 3.9). After
    a test with a server of its own, what others emit would be lost, and be retried for hours at the end.
    """
    if (module := sys.modules.get("prefect.events.worker")) is None:
        return
    from prefect.settings import PREFECT_API_URL

    for key, worker in list(module.EventsWorker._instances.items()):
        used = getattr(getattr(worker, "_client", None), "_api_url", None)
        if used is not None and used != PREFECT_API_URL.value():
            worker._stop(at_exit=True)
            _drop(key, worker)


def _drop(key: int, worker: Any) -> None:
    worker._instances.pop(key, None)
    if (
        worker._loop is not None and worker._done_event is not None
    ):  # otherwise the end of the process waits for it, too
        worker._loop.call_soon_threadsafe(worker._done_event.set)


async def delete_runs() -> None:
    """Delete every flow run that has not completed: tests share a server, and leftovers of one disturb others."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    types = FlowRunFilterStateType(any_=[each for each in StateType if each is not StateType.COMPLETED])
    wanted = FlowRunFilter(state=FlowRunFilterState(type=types))
    async with get_client() as client:
        while runs := await client.read_flow_runs(flow_run_filter=wanted):  # a page of them
            for run in runs:
                await client.delete_flow_run(run.id)


def create_app() -> Any:
    """Make the application that uvicorn serves."""
    from prefect.server.api.server import create_app as create_prefect_app
    from prefect.server.database.configurations import AioSqliteConfiguration

    set_up = AioSqliteConfiguration.setup_sqlite

    def set_up_with_less_patience(self: AioSqliteConfiguration, connection: Any, record: Any) -> None:
        set_up(self, connection, record)
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 2000")
        cursor.execute("PRAGMA synchronous = OFF")  # no transaction waits for a disk while it has the lock
        cursor.close()

    AioSqliteConfiguration.setup_sqlite = set_up_with_less_patience  # type: ignore[method-assign]
    prefect_app = create_prefect_app()
    gc.collect()
    gc.freeze()  # what is there stays: the collector need not go through it again and again

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        async def say_when(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 503:
                message["headers"] = [*message["headers"], (b"retry-after", b"0.5")]
            await send(message)

        await prefect_app(scope, receive, say_when)

    return app
