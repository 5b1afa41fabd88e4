"""Run a sandbox: inside an event loop, or in a thread of its own for tests."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runcomfy.errors import ConfigurationError
from runcomfy.extras import needed
from runcomfy.sandbox.ledger import RequestLedger
from runcomfy.sandbox.settings import SandboxSettings

if TYPE_CHECKING:
    from types import TracebackType

    from runcomfy.sandbox.api import Api

__all__ = ["Sandbox", "serving"]

_T = TypeVar("_T")
_HOST = "127.0.0.1"


@asynccontextmanager
async def serving(settings: SandboxSettings) -> AsyncIterator[Api]:
    """Serve a sandbox on this event loop until the context ends.

    Raises:
        OSError: The port is taken.
        ConfigurationError: A fault of the settings is unknown, or the extra `sandbox` is not installed.
    """
    with needed("sandbox", "The sandbox"):
        from aiohttp import web  # imported late: a command line's help does not wait for a web server

        from runcomfy.sandbox.api import Api
        from runcomfy.sandbox.server import build_app

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, settings.port))
        kept = nullcontext(settings.directory) if settings.directory else tempfile.TemporaryDirectory(prefix="sandbox-")
        with kept as directory:
            api = Api(settings, Path(directory), f"http://{_HOST}:{listener.getsockname()[1]}")
            runner = web.AppRunner(build_app(api), access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            try:
                await web.SockSite(runner, listener, backlog=1024).start()
                yield api
            finally:
                await runner.cleanup()
                api.close()


class Sandbox:
    """A sandbox in a thread of its own, on a free port; a context manager, and safe to use from any thread.

    Args:
        settings: How it is set up; without any, `SandboxSettings()`.
    """

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self._ready: concurrent.futures.Future[Api] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def __enter__(self) -> Sandbox:
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """The base URL, of the balance call too; RuntimeError if the sandbox was not entered."""
        if not self._ready.done():
            raise RuntimeError("The sandbox is not running; use it as `with Sandbox() as sandbox:`.")
        return self._ready.result().url

    @property
    def host(self) -> str:
        """Host and port, as an allow-list of output hosts takes them."""
        return self.url.removeprefix("http://")

    @property
    def token(self) -> str:
        """The token that is let in."""
        return self.settings.token

    def inject(
        self,
        fault: str,
        *,
        endpoint: str | None = None,
        times: int | None = None,
        rate: float | None = None,
        request_id: str | None = None,
        **parameters: Any,
    ) -> None:
        """Put a fault in force: for the next `times` calls or that share of them, once if neither is said.

        Faults of scope `request` (see `runcomfy.sandbox.faults`) strike requests that are accepted from now on; with
        `request_id`, a fault strikes that request only.

        Raises:
            ConfigurationError: There is no such fault, it cannot strike there, or a parameter does not fit.
        """
        from runcomfy.sandbox.fault_registry import FaultOrder

        named = {"fault": fault, "endpoint": endpoint, "times": times, "rate": rate, "request_id": request_id}
        order = FaultOrder(**named | parameters)
        self._ask(lambda api: api.order(order))

    def clear_faults(self) -> None:
        """Let no more faults strike, but those that belong to accepted requests."""
        self._ask(lambda api: api.fault_registry.due.clear())

    def hold(self, *, queue: bool = True, runs: bool = False) -> None:
        """Let no queued request start (`queue`), or no running request end (`runs`), until `release`."""
        self._ask(lambda api: api.queue.hold(queue=queue, runs=runs))

    def release(self) -> None:
        """Let everything that is held go on."""
        self._ask(lambda api: api.queue.hold(queue=False, runs=False))

    def wait_for_end(self, request_id: str, timeout_seconds: float = 60.0) -> None:
        """Block until a request succeeded, failed or was cancelled, without a call that the ledger would count.

        Raises:
            ConfigurationError: The sandbox does not know the request.
            TimeoutError: It did not end in time; it may be held, stuck, or slow.
        """

        async def ended() -> None:
            job = self._ready.result().queue.jobs.get(request_id)
            if job is None:
                raise ConfigurationError(f"There is no request {request_id!r} to wait for.")
            await asyncio.wait_for(job.ended.wait(), timeout_seconds)

        asyncio.run_coroutine_threadsafe(ended(), self._loop).result()

    def books(self) -> RequestLedger:
        """Return what was asked, done and charged so far."""
        return self._ask(lambda api: api.books())

    def reset(self) -> None:
        """Forget all requests, counts and faults; the balance is the opening balance again."""
        self._ask(lambda api: api.reset())

    def _ask(self, work: Callable[[Api], _T]) -> _T:
        async def on_loop() -> _T:
            return work(self._ready.result())

        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self.settings) as api:
            self._ready.set_result(api)
            await self._stop.wait()
