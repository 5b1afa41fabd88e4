"""Show a report on this machine: a loopback server that signs a link when it is clicked, and not before.

Its paths begin with a secret, so that no other page in the same browser, and no other user of the machine, finds them;
and it leads to the files of its own page only.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from runcomfy.errors import RunComfyError
from runcomfy.report.links import MediaLinks, key_in
from runcomfy.storage.store import Store

__all__ = ["ReportServer"]

_LIFETIME = timedelta(hours=1)


class ReportServer:
    """Serves one page on 127.0.0.1, and leads from it to the files of the bucket.

    Args:
        store: The bucket, with the credentials of the person who views the page.
        port: Where it listens; 0 is any free port.
    """

    def __init__(self, store: Store, port: int = 0) -> None:
        self._store = store
        self._secret = secrets.token_urlsafe(16)
        self._linked: set[str] = set()
        self._html = b""
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return where the page is."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._secret}/"

    @property
    def links(self) -> MediaLinks:
        """Return links that this server leads on: each is signed afresh, for an hour, when it is followed.

        Raises:
            ConfigurationError, StorageError: nothing can be signed.
        """
        self._store.find_region()
        signed = urlsplit(self._store.sign(self._store.key("reports/"), _LIFETIME))

        def to(uri: str) -> str | None:
            key = key_in(self._store, uri)
            if key is None:
                return None
            self._linked.add(key)
            return f"media/{quote(key)}"

        return MediaLinks(
            to,
            source=f"'self' {signed.scheme}://{signed.netloc}",
            about=f"The files come from the bucket {self._store.bucket}, by links that are signed when they are "
            "clicked, by the command that shows this page.",
            otherwise="If they do not play, check whether that command still runs, and what it says.",
        )

    def serve(self, html: bytes) -> None:
        """Serve a page until `close` is called, or this is interrupted."""
        self._html = html
        self._server.serve_forever()

    def close(self) -> None:
        """Stop serving; from another thread."""
        self._server.shutdown()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self, send_body=True)

            def do_HEAD(self) -> None:
                answer(self, send_body=False)

            def log_message(self, *_: object) -> None:
                """Say nothing: what is asked for is in the page."""

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler, *, send_body: bool) -> None:
        start, _, path = unquote(urlsplit(request.path).path).removeprefix("/").partition("/")
        if not secrets.compare_digest(start.encode(), self._secret.encode()):
            _send(request, HTTPStatus.NOT_FOUND, {}, b"")
        elif not path:
            _send(request, HTTPStatus.OK, {"Content-Type": "text/html; charset=utf-8"}, self._html, send_body=send_body)
        elif (key := path.removeprefix("media/")) != path and key in self._linked:
            try:
                _send(request, HTTPStatus.FOUND, {"Location": self._store.sign(key, _LIFETIME)}, b"")
            except RunComfyError as error:
                said = str(error).encode()
                _send(request, HTTPStatus.BAD_GATEWAY, {"Content-Type": "text/plain; charset=utf-8"}, said)
        else:
            _send(request, HTTPStatus.NOT_FOUND, {}, b"")


def _send(
    request: BaseHTTPRequestHandler, status: HTTPStatus, headers: dict[str, str], body: bytes, *, send_body: bool = True
) -> None:
    request.send_response(status)
    for name, value in (headers | {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if send_body:
        request.wfile.write(body)
