from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from PIL import Image

from runcomfy.sandbox import Sandbox, SandboxSettings
from tests.corpus.images import png_chunk, with_chunk

TEXT_TO_VIDEO = "wan-ai/wan-2-1/text-to-video"
IMAGE_TO_VIDEO = "wan-ai/wan-2-1/image-to-video"


class Caller:
    """The API as a client sees it: plain httpx with the token."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.http = httpx.Client(
            base_url=sandbox.url, headers={"Authorization": f"Bearer {sandbox.token}"}, timeout=120, trust_env=False
        )
        self.plain = httpx.Client(timeout=120, trust_env=False)

    def submit(self, prompt: str = "a lighthouse", model: str = TEXT_TO_VIDEO, **inputs: Any) -> httpx.Response:
        return self.http.post(f"/v1/models/{model}", json={"prompt": prompt, **inputs})

    def submitted(self, prompt: str = "a lighthouse", model: str = TEXT_TO_VIDEO, **inputs: Any) -> str:
        return str(self.submit(prompt, model, **inputs).raise_for_status().json()["request_id"])

    def status(self, request_id: str) -> httpx.Response:
        return self.http.get(f"/v1/requests/{request_id}/status")

    def result(self, request_id: str, **query: str) -> httpx.Response:
        return self.http.get(f"/v1/requests/{request_id}/result", params=query)

    def cancel(self, request_id: str) -> httpx.Response:
        return self.http.post(f"/v1/requests/{request_id}/cancel")

    def ended(self, request_id: str) -> None:
        self.sandbox.wait_for_end(request_id)

    def finished(self, prompt: str = "a lighthouse", model: str = TEXT_TO_VIDEO, **inputs: Any) -> tuple[str, Any]:
        request_id = self.submitted(prompt, model, **inputs)
        self.ended(request_id)
        return request_id, self.result(request_id).json()

    def video_url(self, prompt: str = "a lighthouse") -> str:
        return str(self.finished(prompt)[1]["output"]["video"])


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(run_seconds=0, tiny_videos=True)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Sandbox:
    running_sandbox.reset()
    return running_sandbox


@pytest.fixture
def caller(sandbox: Sandbox) -> Iterator[Caller]:
    caller = Caller(sandbox)
    with caller.http, caller.plain:
        yield caller


@pytest.fixture
def calling() -> Iterator[Callable[[Sandbox], Caller]]:
    with ExitStack() as opened:

        def call(sandbox: Sandbox) -> Caller:
            caller = Caller(sandbox)
            opened.enter_context(caller.http)
            opened.enter_context(caller.plain)
            return caller

        yield call


@pytest.fixture(scope="session")
def image_host() -> Iterator[str]:
    """A host of images behind signatures: `/picture.png?signature=good` is one, any other signature gets 403."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((160, 100)).convert("RGB").save(file, "PNG")
    bodies = {
        "/picture.png": file.getvalue(),
        "/workflow.png": with_chunk(png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(3_000_000)))),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            good = parse_qs(parts.query).get("signature") == ["good"]
            body = bodies.get(parts.path, b"these are words")
            self.send_response(200 if good else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
