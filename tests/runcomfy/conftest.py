from __future__ import annotations

import contextlib
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.runcomfy.cli.command_line import surrounded, surroundings

__all__ = ["surrounded", "surroundings"]


@pytest.fixture
def store(object_store: ObjectStore) -> Store:
    """A store on a prefix of its own in the bucket `videos`."""
    return Store(
        "videos", f"test-{uuid.uuid4().hex}", session=object_store.session(), endpoint_url=object_store.endpoint_url
    )


@dataclass
class RawServer:
    """A server that sends exactly the bytes it was given for a path, and keeps what it was sent."""

    port: int
    answers: dict[str, bytes] = field(default_factory=dict)
    resets: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    script: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    connections: int = 0
    received: list[bytes] = field(default_factory=list)

    def url(self, path: str, *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def serve(self, listener: socket.socket, ended: threading.Event) -> None:
        while True:
            connection, _ = listener.accept()
            if ended.is_set():
                connection.close()
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection, ended), daemon=True).start()

    def _answer(self, connection: socket.socket, ended: threading.Event) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                head += piece
                if not piece or head.startswith(b"\x16"):  # a TLS handshake has no head
                    break
            self.received.append(head)
            path = head.partition(b" ")[2].partition(b" ")[0].partition(b"?")[0].decode("ascii", "replace")
            if path in self.silent:
                ended.wait(30)
                return
            if path in self.script:
                self._read_body(connection, head)
                method, scripted = self.script[path].pop(0)
                connection.sendall(scripted if head.startswith(method.encode()) else b"HTTP/1.1 599 Unexpected\r\n\r\n")
                return
            connection.sendall(self.answers.get(path, b""))
            if path in self.resets:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @staticmethod
    def _read_body(connection: socket.socket, head: bytes) -> None:
        fields = head.partition(b"\r\n\r\n")
        length = next((line for line in fields[0].lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        if b"expect: 100-continue" in head.lower():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        missing = int(length.partition(b":")[2]) - len(fields[2])
        while missing > 0:
            missing -= len(connection.recv(65536)) or missing


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """A scripted server on a real socket of the loopback address."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(listener.getsockname()[1])
        thread = threading.Thread(target=server.serve, args=(listener, ended), daemon=True)
        thread.start()
        yield server
        ended.set()
        socket.create_connection(("127.0.0.1", server.port)).close()
        thread.join(10)


def answer(body: bytes, status: str = "200 OK", *, length: int | None = -1, headers: str = "") -> bytes:
    """Write an HTTP answer by hand; a length of -1 is the true one, None sends none."""
    if length is not None:
        headers += f"Content-Length: {len(body) if length == -1 else length}\r\n"
    return f"HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n".encode() + body


@pytest.fixture(name="answer")
def answer_fixture() -> object:
    return answer
