"""The sandbox over HTTP: routes, the token, the ledger, and the faults that hit an answer as a whole."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from runcomfy.errors import ConfigurationError
from runcomfy.sandbox.answers import error_answer, fault_answer
from runcomfy.sandbox.api import Api, Refusal
from runcomfy.sandbox.fault_registry import DueFault, FaultOrder, directives_of, text_of
from runcomfy.sandbox.files import OutputFile, hang_up, send
from runcomfy.sandbox.job_queue import Job

__all__ = ["build_app"]

_log = logging.getLogger("runcomfy.sandbox")

_DIRECTIVES = "X-Sandbox-Directives"
"""A header with directives, for models whose inputs have no text."""
_NOBODY = 499  # goes nowhere but into the log: the connection is gone
_WHOLE = ("answer", "connection", "delay")


def build_app(api: Api) -> web.Application:
    """Return the application that serves one sandbox."""
    return _Server(api).app()


class _HoldOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    queue: bool | None = None
    runs: bool | None = None


class _Server:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._connections: WeakSet[asyncio.Transport] = WeakSet()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._log_call], client_max_size=1 << 22)
        app.add_routes(
            [
                web.get("/prod/v2/balance", self._balance),
                web.get("/v1/models", self._models),
                web.get("/v1/models/categories", self._categories),
                web.get("/v1/models/{model_id:.+}", self._model),
                web.post("/v1/models/{model_id:.+}", self._submit),
                web.get("/v1/requests/{request_id}/status", self._status),
                web.get("/v1/requests/{request_id}/result", self._result),
                web.post("/v1/requests/{request_id}/cancel", self._cancel),
                web.get(r"/outputs/{request_id}/{kind:video|image|audio}-{number:[1-9]}.{ext:[a-z0-9]+}", self._output),
                web.get("/sandbox/books", self._ledger),
                web.post("/sandbox/faults", self._add_fault),
                web.delete("/sandbox/faults", self._clear_faults),
                web.post("/sandbox/hold", self._hold),
                web.post("/sandbox/reset", self._reset),
            ]
        )
        return app

    # The documented calls

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        self._api.counters.submissions_received += 1
        directives = request.headers.get(_DIRECTIVES, "")
        try:
            inputs = await request.json()
        except ValueError:
            inputs = None
        try:
            _, own = directives_of(text_of(inputs, directives))
        except ConfigurationError:
            own = []  # the call itself says what is wrong, unless a fault comes first

        def work() -> tuple[int, Any]:
            payload, job = self._api.submit(request.match_info["model_id"], inputs, own, directives)
            return 200, self._api.dress("submit", payload, job, own)

        return await self._call(request, "submit", own, work)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        self._api.count_poll()
        return await self._about_request(request, "status", 200, self._api.status)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        self._api.count_poll()
        include_cost = request.query.get("include_cost", "").lower() in ("true", "1")
        return await self._about_request(
            request, "result", 200, lambda job: self._api.result(job, include_cost=include_cost)
        )

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        return await self._about_request(request, "cancel", 202, self._api.cancel)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return await self._call(request, "catalogue", (), lambda: (200, self._api.models(request.query)))

    async def _categories(self, request: web.Request) -> web.StreamResponse:
        return await self._call(request, "catalogue", (), lambda: (200, self._api.categories()))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        model_id = request.match_info["model_id"]
        return await self._call(request, "catalogue", (), lambda: (200, self._api.model(model_id)))

    async def _balance(self, request: web.Request) -> web.StreamResponse:
        return await self._call(request, "balance", (), lambda: (200, self._api.balance()))

    async def _about_request(
        self, request: web.Request, endpoint: str, http_status: int, answer: Callable[[Job], Any]
    ) -> web.StreamResponse:
        request_id = request.match_info["request_id"]
        known = self._api.queue.jobs.get(request_id)
        own = known.faults if known else ()

        def work() -> tuple[int, Any]:
            job = self._api.find(request_id)
            return http_status, self._api.dress(endpoint, answer(job), job, own)

        return await self._call(request, endpoint, own, work)

    async def _call(
        self, request: web.Request, endpoint: str, own: Sequence[DueFault], work: Callable[[], tuple[int, Any]]
    ) -> web.StreamResponse:
        """Let the token in, let a fault strike before or after the work, answer with JSON."""
        sent = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(sent, f"Bearer {self._api.settings.token}".encode()):
            return error_answer(401, 400004, "The token is missing or wrong.")
        due = self._draw(endpoint, own, *_WHOLE)
        if due is not None and not due.parameters["after"]:
            if due.fault.kind != "delay":
                return self._strike(request, due)
            await asyncio.sleep(due.parameters["seconds"])
            due = None
        try:
            http_status, payload = work()
        except Refusal as refusal:
            return error_answer(refusal.http_status, refusal.error_code, refusal.message)
        if due is not None and due.fault.kind != "delay":
            return self._strike(request, due)
        if due is not None:
            await asyncio.sleep(due.parameters["seconds"])
        return web.json_response(payload, status=http_status)

    # The files

    async def _output(self, request: web.Request) -> web.StreamResponse:
        counters = self._api.counters
        counters.downloads += 1
        counters.tokens_leaked += "Authorization" in request.headers
        job = self._api.queue.jobs.get(request.match_info["request_id"])
        if job is None or job.state != "succeeded" or job.recipe is None:
            return web.Response(status=404, text="There is no such file.")
        due = self._draw("output", job.faults, *_WHOLE, "file")
        if due is not None and due.fault.kind == "delay":
            await asyncio.sleep(due.parameters["seconds"])
        elif due is not None and due.fault.kind != "file":
            return self._strike(request, due)
        if job.recipe.makes == "video" and request.match_info["kind"] == "image":
            path = await self._api.renderer.poster(job.recipe)
        else:
            path = await self._api.renderer.output(job.recipe, int(request.match_info["number"]))
        wanted = job.options.output_bytes
        file = OutputFile.of(path, self._api.settings.output_bytes if wanted is None else wanted)
        fault = (due.fault.effect["how"], due.parameters) if due is not None and due.fault.kind == "file" else None

        def count(sent_bytes: int) -> None:
            counters.bytes_served += sent_bytes

        return await send(request, file, count, fault)

    # Controls

    async def _ledger(self, request: web.Request) -> web.Response:
        return web.json_response(self._api.books().model_dump(mode="json"), dumps=partial(json.dumps, indent=2))

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            self._api.order(FaultOrder(**await request.json()))
        except (ConfigurationError, TypeError, ValueError) as error:
            return error_answer(400, 400000, str(error))
        return web.Response(status=204)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._api.fault_registry.due.clear()
        return web.Response(status=204)

    async def _hold(self, request: web.Request) -> web.Response:
        try:
            wanted = _HoldOrder(**await request.json())
        except (TypeError, ValueError):
            return error_answer(400, 400000, 'Expected {"queue": true or false, "runs": true or false}.')
        self._api.queue.hold(queue=wanted.queue, runs=wanted.runs)
        return web.Response(status=204)

    async def _reset(self, request: web.Request) -> web.Response:
        self._api.reset()
        return web.Response(status=204)

    # Faults that hit an answer as a whole

    def _draw(self, endpoint: str, own: Sequence[DueFault], *kinds: str) -> DueFault | None:
        due = next(self._api.fault_registry.draw(endpoint, own, lambda fault: fault.kind in kinds), None)
        self._api.counters.faults_struck += due is not None
        return due

    def _strike(self, request: web.Request, due: DueFault) -> web.Response:
        if due.fault.kind == "connection":
            hang_up(request, reset=due.fault.effect["how"] == "reset")
            return web.Response(status=_NOBODY)
        return fault_answer(due, self._api.url, request.path)

    @web.middleware
    async def _log_call(self, request: web.Request, handler: Any) -> web.StreamResponse:
        began = time.perf_counter()
        if request.transport is not None and request.transport not in self._connections:
            self._connections.add(request.transport)
            self._api.counters.connections += 1
        http_status = 500
        try:
            answer: web.StreamResponse = await handler(request)
            http_status = answer.status
        except web.HTTPException as error:
            http_status = error.status
            raise
        except ConnectionError:  # the caller went away; there is no one to answer
            answer, http_status = web.Response(), _NOBODY
        finally:
            took_ms = (time.perf_counter() - began) * 1000
            _log.info("%s %s %d %.0f ms", request.method, request.rel_url.raw_path, http_status, took_ms)
        return answer
