"""What a poll of a request costs over TLS, by how the connections are managed: `python -m benchmarks.connections`.

A process of its own answers over HTTP/1.1 or HTTP/2, on this machine, each call after `--answer-seconds`. Two loads:
`steady`, many requests in flight, each polled now and then; and `burst`, where all are polled at once, as after a
restart. The peers are httpx as it comes, with more connections, and over HTTP/2.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import multiprocessing
import os
import ssl
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any, cast

import h2.config
import h2.connection
import h2.events
import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rich.console import Console
from rich.table import Table

from runcomfy.api.client import RunComfyClient

__all__ = ["main"]

_BODY = b'{"status": "in_progress", "request_id": "4d2c6f9e-1d0c-4d9a-9a55-0c0ffee0c0de"}'
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + str(len(_BODY)).encode() + b"\r\n\r\n"
) + _BODY
_PAUSE_SECONDS = 10.0

Poll = Callable[[int], Awaitable[object]]


class _Service(asyncio.Protocol):
    """Answers each call after a while, over whichever protocol the client has agreed to."""

    def __init__(self, answer_seconds: float, opened: Any) -> None:
        self._answer_seconds, self._opened = answer_seconds, opened
        self._http2: h2.connection.H2Connection | None = None
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._opened.value += 1
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self._http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            self._http2.initiate_connection()
            self._transport.write(self._http2.data_to_send())

    def data_received(self, data: bytes) -> None:
        if self._http2 is None:
            self._heard += data
            while b"\r\n\r\n" in self._heard:
                _, _, self._heard = self._heard.partition(b"\r\n\r\n")
                self._loop.call_later(self._answer_seconds, self._transport.write, _ANSWER)
            return
        for event in self._http2.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                self._loop.call_later(self._answer_seconds, self._answer, self._http2, event.stream_id)
        self._transport.write(self._http2.data_to_send())

    def _answer(self, http2: h2.connection.H2Connection, stream_id: int) -> None:
        headers = [(":status", "200"), ("content-type", "application/json"), ("content-length", str(len(_BODY)))]
        http2.send_headers(stream_id, headers)
        http2.send_data(stream_id, _BODY, end_stream=True)
        self._transport.write(http2.data_to_send())


def _serve(folder: str, answer_seconds: float, port: Any, opened: Any) -> None:
    async def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
        context.set_alpn_protocols(["h2", "http/1.1"])
        server = await asyncio.get_running_loop().create_server(
            lambda: _Service(answer_seconds, opened), "127.0.0.1", 0, ssl=context, backlog=8192
        )
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(serve())


def _make_certificate(folder: Path) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextlib.contextmanager
def _service(answer_seconds: float) -> Iterator[tuple[str, Any]]:
    """Serve in a process of its own, trusted by this one; its URL, and how many connections were opened to it."""
    spawn = multiprocessing.get_context("spawn")
    port, opened = spawn.Value("i", 0), spawn.Value("i", 0)
    with tempfile.TemporaryDirectory() as folder:
        _make_certificate(Path(folder))
        os.environ["SSL_CERT_FILE"] = f"{folder}/cert.pem"
        process = spawn.Process(target=_serve, args=(folder, answer_seconds, port, opened), daemon=True)
        process.start()
        while not port.value:
            time.sleep(0.05)
        try:
            yield f"https://localhost:{port.value}", opened
        finally:
            process.terminate()
            process.join()


@contextlib.asynccontextmanager
async def _ours(url: str) -> AsyncIterator[Poll]:
    async with RunComfyClient("token-of-tests", base_url=url) as client:
        yield lambda number: client.status(f"request-{number}")


def _httpx(**options: Any) -> Callable[[str], contextlib.AbstractAsyncContextManager[Poll]]:
    @contextlib.asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Poll]:
        async with httpx.AsyncClient(headers={"Authorization": "Bearer token"}, timeout=30, **options) as client:
            yield lambda number: client.get(f"{url}/v1/requests/request-{number}/status")

    return opened


_CONTENDERS = {
    "ours": _ours,
    "httpx, as it comes": _httpx(),
    "httpx, 100 kept for 60 s": _httpx(
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=60)
    ),
    "httpx, HTTP/2": _httpx(http2=True),
}


async def _steady(poll: Poll, in_flight: int, seconds: float) -> list[float]:
    """Poll each request every ten seconds, spread evenly; return how long each poll took."""
    took: list[float] = []

    async def poll_one(number: int) -> None:
        await asyncio.sleep(_PAUSE_SECONDS * number / in_flight)
        until = time.monotonic() + seconds - _PAUSE_SECONDS
        while True:
            began = time.monotonic()
            await poll(number)
            took.append(time.monotonic() - began)
            if began > until:
                return
            await asyncio.sleep(_PAUSE_SECONDS - (time.monotonic() - began))

    await asyncio.gather(*(poll_one(number) for number in range(in_flight)))
    return took


async def _burst(poll: Poll, in_flight: int, timeout_seconds: float) -> tuple[list[float], int]:
    """Poll every request at the same moment; return how long each poll took, and how many failed."""
    took: deque[float] = deque()
    failed = 0
    began = time.monotonic()

    async def poll_one(number: int) -> None:
        nonlocal failed
        try:
            await poll(number)
        except Exception:
            failed += 1
        took.append(time.monotonic() - began)

    tasks = [asyncio.create_task(poll_one(number)) for number in range(in_flight)]
    _, late = await asyncio.wait(tasks, timeout=timeout_seconds)
    failed += len(late)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return list(took), failed


def main() -> None:
    """Measure each way under both loads, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--answer-seconds", type=float, default=0.05)
    parser.add_argument("--burst", type=int, nargs="*", default=[1000, 5000])
    wanted = parser.parse_args()
    with _service(wanted.answer_seconds) as (url, opened):
        table = Table("in flight", "way", "polls", "connections", "CPU ms a poll", "p50 ms", "p99 ms", title="steady")
        for name, open_client in _CONTENDERS.items():
            steady = partial(_steady, in_flight=wanted.in_flight, seconds=wanted.seconds)
            took, count, processor = asyncio.run(_measured(open_client, url, opened, steady))
            cuts = quantiles(took, n=100)
            table.add_row(
                f"{wanted.in_flight:,}", name, f"{len(took):,}", f"{count:,}", f"{1000 * processor / len(took):.2f}",
                f"{1000 * cuts[49]:.0f}", f"{1000 * cuts[98]:.0f}",
            )  # fmt: skip
        Console().print(table)
        table = Table("at once", "way", "seconds", "failed", "connections", "CPU ms a poll", title="burst")
        for at_once in wanted.burst:
            for name, open_client in _CONTENDERS.items():
                load = partial(_burst, in_flight=at_once, timeout_seconds=120.0)
                (took, failed), count, processor = asyncio.run(_measured(open_client, url, opened, load))
                table.add_row(
                    f"{at_once:,}", name, f"{max(took):.1f}", f"{failed:,}", f"{count:,}",
                    f"{1000 * processor / at_once:.2f}",
                )  # fmt: skip
        Console().print(table)


async def _measured(open_client: Any, url: str, opened: Any, load: Callable[[Poll], Awaitable[Any]]) -> Any:
    gc.collect()
    async with open_client(url) as poll:
        before, processor = opened.value, time.process_time()
        measured = await load(poll)
        return measured, opened.value - before, time.process_time() - processor


if __name__ == "__main__":
    main()
