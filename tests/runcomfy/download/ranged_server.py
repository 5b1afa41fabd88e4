"""An output host that answers ranges, breaks where it should, and records the requests."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Asked", "Break", "RangedServer", "ranged_server"]


@dataclass(frozen=True)
class Break:
    """How one connection ends: after so many bytes of the body, by a reset or a clean close."""

    after: int
    reset: bool = False


@dataclass(frozen=True)
class Asked:
    """What a request asked for: the whole file if `start` is `None`."""

    start: int | None
    end: int | None
    if_range: str | None


@dataclass
class RangedServer:
    """Serves one body at every path. Its behaviour can be changed while it runs."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"v1"', "Accept-Ranges": "bytes"})
    breaks: list[Break] = field(default_factory=list)
    """How the connections end, one after the other; later ones do not break."""
    parts: dict[str, str] = field(default_factory=dict)
    """Wrong headers of answers with a part; an empty one is left out."""
    shorter_parts: list[int] = field(default_factory=list)
    """How many of the requested bytes the next answers to ranges send."""
    part_status: list[str] = field(default_factory=list)
    """Status lines of the next answers to ranges; they have no body, unless they begin with 2."""
    silent_parts: bool = False
    """Whether a range is never answered."""
    asked: list[Asked] = field(default_factory=list)
    broken: int = 0
    """How many connections broke."""
    asked_for_part: threading.Event = field(default_factory=threading.Event)
    scheme: str = "http"
    port: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """A signed URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}/out/video.mp4?signature=s3cr3t"

    def serve(self, connection: socket.socket) -> None:
        """Answer requests until one of them breaks, or no more come."""
        while self._answer(connection):
            pass

    def _answer(self, connection: socket.socket) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(65536)
            if not piece:
                return False
            request += piece
        text = request.decode()
        wanted = re.search(r"^Range: bytes=(\d+)-(\d+)\r$", text, re.MULTILINE | re.IGNORECASE)
        version = re.search(r"^If-Range: (.*)\r$", text, re.MULTILINE | re.IGNORECASE)
        part = wanted is not None
        start, end = (int(wanted[1]), min(int(wanted[2]) + 1, len(self.body))) if wanted else (0, len(self.body))
        with self._lock:
            self.asked.append(Asked(start if part else None, end if part else None, version[1] if version else None))
            ends = self.breaks.pop(0) if self.breaks else None
            end = min(end, start + self.shorter_parts.pop(0)) if part and self.shorter_parts else end
            status = self.part_status.pop(0) if part and self.part_status else "206 Part" if part else "200 OK"
        if part:
            self.asked_for_part.set()
        if part and self.silent_parts:
            self._ended.wait()
            return False
        headers = {"Content-Type": "video/mp4", "Content-Length": str(end - start), **self.headers}
        if part:
            headers |= {"Content-Range": f"bytes {start}-{end - 1}/{len(self.body)}", **self.parts}
        if not status.startswith("2"):
            headers, end = {"Content-Length": "0", "Location": self.parts.get("Location", "")}, start
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items() if value)]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        end = end if ends is None else min(end, start + ends.after)
        connection.sendall(memoryview(self.body)[start:end])
        self.broken += ends is not None
        if ends is not None and ends.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return ends is None and "Content-Length" in headers


@contextmanager
def ranged_server(tls: ssl.SSLContext | None = None) -> Iterator[RangedServer]:
    """Run one on a port of the loopback address."""
    server = RangedServer(scheme="https" if tls else "http")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                server.serve(tls.wrap_socket(self.request, server_side=True) if tls else self.request)

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

        def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
            self.close_request(request)  # without the shutdown, which would make a reset a clean end

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.port = listener.server_address[1]
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server._ended.set()
        listener.shutdown()
        thread.join(10)
