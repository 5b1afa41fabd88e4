"""An HTTP/1.1 reverse proxy that names every call, and lets a hook decide what becomes of it.

The crash suite puts one in front of the service and one in front of the store. A call is shown to the hook twice:
`before` it is forwarded, when all of the request has arrived, and `after` the upstream has answered, when nothing of
the answer has been relayed yet. The Host header passes unchanged, because signatures cover it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.crash.wire import Answer, Drop, Point, Wire

__all__ = ["Proxy", "proxies"]

_HOST = "127.0.0.1"
_LONGEST_HEAD = 1 << 18
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Proxy:
    """One listener in front of one upstream. A connection belongs to the wire that is set when it is opened.

    Args:
        upstream: The URL of the server behind it.
        name: Names a call by its method, its target and its headers.
    """

    def __init__(self, upstream: str, name: Callable[[str, str, Mapping[str, str]], str]) -> None:
        parts = urlsplit(upstream)
        self._upstream, self._name = (str(parts.hostname), int(parts.port or 80)), name
        self.wire = Wire()
        self.host = ""
        self._open, self._idle = 0, threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}"

    def settle(self) -> None:
        """Wait until everything that was sent here so far has been handled, also if its sender is gone.

        Connections are accepted in the order in which they were made: once a new one is answered, all others are open.
        """
        with socket.create_connection(self._address) as last:
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
        self._idle.wait()

    async def listen(self) -> asyncio.Server:
        """Start to listen on a free port."""
        server = await asyncio.start_server(self._serve, _HOST, 0, limit=_LONGEST_HEAD, backlog=512)
        self._address = server.sockets[0].getsockname()
        self.host = f"{_HOST}:{self._address[1]}"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection."""
        self._open += 1
        self._idle.clear()
        try:
            outcome = await self._answer(self.wire, reader, writer)
            if isinstance(outcome, bytes):
                writer.write(outcome)
                await writer.drain()
            elif outcome.reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone, or the upstream
        finally:
            writer.close()
            self._open -= 1
            if self._open == 0:
                self._idle.set()

    async def _answer(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | Drop:
        head = await reader.readuntil(b"\r\n\r\n")
        headers = _headers(head)
        if "expect" in headers:
            writer.write(_CONTINUE)
        body = await _read_body(reader, headers)
        method, target = head.split(b" ", 2)[:2]
        name = self._name(method.decode(), target.decode(), headers)
        occurrence = wire.number(name)
        ordered = wire.show(Point(name, occurrence, "before"))
        if ordered is None:
            answer = await self._forward(head, body)
            ordered = wire.show(Point(name, occurrence, "after"))
            if ordered is None:
                return _readdressed(answer, "{}:{}".format(*self._upstream), self.host)
        return ordered.to_bytes() if isinstance(ordered, Answer) else ordered

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        """Send the request on over a connection of its own, and return every byte that comes back."""
        lines = [line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith((b"connection:", b"expect:"))]
        reader, writer = await asyncio.open_connection(*self._upstream, limit=1 << 20)
        try:
            writer.write(b"\r\n".join([*lines, b"Connection: close", b"", body]))
            return await reader.read(-1)
        finally:
            writer.close()


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in lines if name}


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """Read a request's body as it was sent, chunks included."""
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        return await reader.readexactly(int(headers.get("content-length", "0")))
    pieces: list[bytes] = []
    while not pieces or int(pieces[-2].partition(b";")[0], 16):
        pieces.append(await reader.readuntil(b"\r\n"))
        pieces.append(await reader.readexactly(int(pieces[-1].partition(b";")[0], 16) + 2))
    return b"".join(pieces)


def _readdressed(answer: bytes, upstream: str, own: str) -> bytes:
    """Make JSON that names the upstream name the proxy instead, so that files are downloaded through it as well."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"application/json" not in head or upstream.encode() not in body:
        return answer
    body = body.replace(upstream.encode(), own.encode())
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


@contextmanager
def proxies(*made: Proxy) -> Iterator[None]:
    """Run proxies in a thread of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxies", daemon=True)
    thread.start()

    async def listen() -> list[asyncio.Server]:
        return [await proxy.listen() for proxy in made]

    servers = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield
    finally:
        for server in servers:
            loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
