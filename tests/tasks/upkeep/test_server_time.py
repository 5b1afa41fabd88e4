"""The server's clock is known from any of its answers."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.client.orchestration import PrefectClient

from tasks.upkeep.deployments import server_time


@pytest.mark.parametrize("status", [200, 404])
async def test_the_time_of_a_server_without_that_endpoint_is_known_too(status: int) -> None:
    """Otherwise nothing at all would be known of its runs."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", "Thu, 01 Jan 2026 12:00:00 GMT")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            async with PrefectClient(f"http://127.0.0.1:{server.server_port}/api") as client:
                told = await server_time(client)
        finally:
            server.shutdown()

    assert told == datetime(2026, 1, 1, 12, tzinfo=UTC)
