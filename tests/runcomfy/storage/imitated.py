"""Stores that want or refuse what ours does not: a proxy before the real S3 server, with behaviours.

A behaviour gets the request, and the function that sends it on; so it can refuse, change the request before, or the
answer after. A changed request is signed again. `imitated_store` starts one.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store

__all__ = ["Answer", "Behaviour", "ImitatedStore", "Request", "imitated_store", "refused"]


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    target: str
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def bucket(self) -> str:
        """The bucket, in path style."""
        return self.target.partition("?")[0].split("/")[1]

    @property
    def key(self) -> str:
        """The object's key; empty for what concerns the bucket."""
        return unquote(self.target.partition("?")[0].removeprefix(f"/{self.bucket}").lstrip("/"))

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's parameters."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def writes(self) -> bool:
        """Whether it creates an object, or begins an upload."""
        return (self.method == "PUT" and "uploadId" not in self.query) or "uploads" in self.query

    def without(self, start: str) -> Request:
        """Return it without the headers whose names begin with this."""
        return replace(self, headers={name: text for name, text in self.headers.items() if not name.startswith(start)})


@dataclass(frozen=True)
class Answer:
    """What the client gets."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return a header's value; empty if there is none."""
        return next((text for key, text in self.headers if key.lower() == name.lower()), "")

    def with_headers(self, *headers: tuple[str, str]) -> Answer:
        """Return it with these headers in place of those of the same names; an empty one is left out."""
        names = {name.lower() for name, _ in headers}
        kept = [(name, text) for name, text in self.headers if name.lower() not in names]
        return replace(self, headers=(*kept, *(header for header in headers if header[1])))


Behaviour = Callable[[Request, Callable[[Request], Answer]], Answer]


def refused(status: int, code: str, message: str = "It is refused.", *headers: tuple[str, str]) -> Answer:
    """Return a refusal as S3 writes it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, (("Content-Type", "application/xml"), *headers), body.encode())


@dataclass
class ImitatedStore:
    """A running proxy."""

    port: int
    real: ObjectStore
    behaviour: Behaviour
    requests: list[Request] = field(default_factory=list)

    @property
    def endpoint_url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def store(self, bucket: str, prefix: str, **options: Any) -> Store:
        """Return a store there."""
        return Store(bucket, prefix, session=self.real.session(), endpoint_url=self.endpoint_url, **options)

    def answer(self, request: Request) -> Answer:
        """Answer as the behaviour says."""
        self.requests.append(request)

        def send_on(changed: Request) -> Answer:
            return self._send(changed if changed == request else self._signed(changed))

        return self.behaviour(request, send_on)

    def _send(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.real.endpoint_url).netloc, timeout=30)
        with contextlib.closing(connection):
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, text in request.headers.items():
                if name not in ("expect", "connection", "transfer-encoding"):
                    connection.putheader(name, text)
            connection.endheaders(request.body)
            got = connection.getresponse()
            return Answer(got.status, tuple(got.getheaders()), got.read())

    def _signed(self, request: Request) -> Request:
        sent = request.without("authorization").without("x-amz-date")
        signed = AWSRequest(request.method, f"http://{sent.headers['host']}{sent.target}", sent.headers, sent.body)
        S3SigV4Auth(Credentials(self.real.access_key, self.real.secret_key), "s3", "us-east-1").add_auth(signed)
        return replace(sent, headers={name.lower(): text for name, text in signed.headers.items()})


@contextlib.contextmanager
def imitated_store(real: ObjectStore, behaviour: Behaviour) -> Iterator[ImitatedStore]:
    """Start a proxy with a behaviour before the real server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def send_response(self, code: int, message: str | None = None) -> None:
            self.send_response_only(code, message)  # without a Date and a Server of its own

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): text for name, text in self.headers.items()}
            answer = imitated.answer(Request(self.command, self.path, headers, body))
            self.send_response(answer.status)
            length = answer.header("content-length") if self.command == "HEAD" else str(len(answer.body))
            if answer.status != 204:
                self.send_header("Content-Length", length or "0")
            for name, text in answer.headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that has gone

    with Server(("127.0.0.1", 0), Handler) as server:
        imitated = ImitatedStore(server.server_port, real, behaviour)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield imitated
        finally:
            server.shutdown()
