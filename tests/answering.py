"""A small HTTP server for one test: what it answers is a function of what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

__all__ = ["Reply", "answering"]


class Reply(NamedTuple):
    """An answer."""

    body: bytes
    status: int = 200
    content_type: str = "application/octet-stream"


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler, bytes], Reply]) -> Iterator[str]:
    """Serve on a port of this machine; the address, without a slash at its end.

    Args:
        answer: Returns the answer to a request, by its handler (path, headers) and its body.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
