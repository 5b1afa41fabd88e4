"""What is given as an image's URL, and what becomes of it: an example is one line.

What has an `answer` is at a server of this machine, as if that were on the allow-list; anything else is refused by its
text, and no connection is opened.
"""

from __future__ import annotations

import contextlib
import gzip
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runcomfy.download.hosts import HostPolicy
from runcomfy.generation.image_urls import download_image
from runcomfy.media.images import inspect_image
from tests.corpus.images import encoded

__all__ = ["EXAMPLES", "Url", "serving", "tried"]

PNG = encoded("PNG")
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@dataclass(frozen=True)
class Url:
    """A URL, and the words of its refusal, or none; with an answer, `url` is only the path."""

    url: str
    words: str = ""
    answer: tuple[int, dict[str, str], bytes] | None = None


def at(path: str, status: int, words: str = "", body: bytes = b"no", **headers: str) -> Url:
    return Url(path, words, (status, {name.replace("_", "-"): value for name, value in headers.items()}, body))


EXAMPLES = [
    # by their text
    *(Url(f"http://{host}/a.png", "private address") for host in (
        "127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::1]", "[fd00::1]", "0.0.0.0", "100.64.0.1",
        "[::ffff:127.0.0.1]")),
    Url("https://127.0.0.1:9/a.png", "private address"),
    Url("https://[fe80::1]/a.png", "private address"),
    Url("http://images.example/a.png", "https"),
    Url("https:///a.png", "host"),
    Url("https://user:secret@images.example/a.png", "a user name or a password in it"),
    # answered
    at("/good.png", 200, body=PNG),
    at("/no-type.png", 200, body=PNG, Content_Type=""),
    at("/said-to-be-text.png", 200, body=PNG, Content_Type="text/plain"),
    at("/packed.png", 200, body=gzip.compress(PNG), Content_Encoding="gzip"),
    at("/page.png", 200, "an HTML page", body=PAGE, Content_Type="text/html"),
    at("/json.png", 200, "JSON", body=b'{"error": "expired"}', Content_Type="application/json"),
    at("/s3.png", 200, "a storage service answered (AccessDenied)", body=b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
    at("/empty.png", 200, "empty", body=b""),
    *(at(f"/{status}.png", status, words) for status, words in (
        (401, "login"), (403, "403"), (404, "404"), (410, "410"), (429, "429"), (500, "500"), (503, "503"))),
    at("/elsewhere.png", 302, "10.0.0.1 is not on the allow-list", Location="http://10.0.0.1/a.png"),
    at("/round.png", 302, "redirect", Location="/round.png"),
]  # fmt: skip


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve the answers of the examples; yields the server's address."""
    known = {example.url: example.answer for example in EXAMPLES if example.answer is not None}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = known[self.path]
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def tried(example: Url, address: str) -> None:
    """Read the image, or raise what is said about its URL."""
    if example.answer is None:
        download_image(example.url)
    else:
        inspect_image(download_image(address + example.url, HostPolicy(("127.0.0.1",))))
