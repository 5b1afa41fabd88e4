"""What is given as an image's URL, and what becomes of it: an example is one line.

What has an `answer` is at a server of this machine, as if that were on the allow-list; anything else is refused by its
text, and no connection is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runcomfy.download.hosts import HostPolicy
from runcomfy.generation.image_urls import download_image
from runcomfy.generation.staging import stage_image
from runcomfy.media.images import inspect_image
from tests.corpus.images import encoded
from tests.runcomfy.manifest.making import NOT_ASKED

__all__ = ["EXAMPLES", "Url", "serving", "tried"]

PNG = encoded("PNG")
_LONGEST_NAME = 60
PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@dataclass(frozen=True)
class Url:
    """A URL, and the words of its refusal, or none; with an answer, `url` is only the path."""

    url: str
    words: str = ""
    answer: tuple[int, dict[str, str], bytes] | None = None
    as_source: bool = False
    """Whether it is given as an image, as people do; otherwise the URL alone is read, as a redirect's is."""

    @property
    def name(self) -> str:
        """What it is called in the table."""
        shown = ascii(self.url if len(self.url) < _LONGEST_NAME else f"{self.url[:_LONGEST_NAME]}...")[1:-1]
        return f"image {shown}" if self.as_source else shown


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
    *(Url(f"https://{host}/a.png", "private address") for host in (  # in every spelling that a resolver understands
        "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "0x7f000001", "017700000001", "0", "127.0.0.1.", "[::]",
        "[::127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::1%25eth0]", "[fe80::1%eth0]",
        "localhost", "LOCALHOST.", "a.localhost", "printer", "nas.local", "metadata.google.internal", "168.63.129.16",
        "100.100.100.200", "198.18.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "a.default.svc.cluster.local")),
    *(Url(f"https:{rest}", "host or port that cannot be") for rest in (
        "///a.png", "//", "//?a", "//#a", "//.", "//..", "//.images.example/", "//images..example/a.png",
        f"//{'a' * 64}.example/a.png", f"//{'a.' * 130}example/a.png", "//1.2.3.4.5/a.png", "//256.256.256.256/a.png",
        "//[::1/a.png", "//[v1.fe80::a]/a.png", "//images.example:99999/a.png", "//images.example:-1/a.png",
        "//images.example:abc/a.png", "//ima ges.example/a.png", "//127.0.0.1%00.example/a.png", "/images.example/a.png",
        "images.example/a.png", "\\\\images.example\\a.png", "//im\0ages.example/a.png", "//a\u202eb.example/a.png",
        "//\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/a.png")),
    *(Url(url, "Use such a URL") for url in (
        "ftp://images.example/a.png", "data:image/png;base64,iVBORw0KGgo=", "file:///etc/passwd", "gs://b/a.png",
        "abfss://c@a.dfs.core.windows.net/a.png", "javascript:alert(1)", "blob:https://images.example/1", "about:blank",
        "//images.example/a.png", "images.example/a.png", "htps://images.example/a.png", "")),
    *(Url(f"https://{user}@images.example/a.png", "a user name or a password in it") for user in (
        "user", "user:secret", ":secret", "127.0.0.1")),
    # as the name of an image, which may be a path as well
    *(Url(source, words, as_source=True) for source, words in (
        ("", "No image is named"), (" \n", "No image is named"), (" https://images.example/a.png", "blanks, quotes or"),
        ('"https://images.example/a.png"', "blanks, quotes or"), ("<s3://images/a.png>", "blanks, quotes or"),
        ("//images.example/a.png", "write https:// in front"), ("https//images.example/a.png", "write https:// in front"),
        ("www.images.example/a.png", "write https:// in front"), ("data:image/png;base64,iVBORw0KGgo=", "Decode it"),
        ("gs://b/a.png", "cannot be read from gs:"), ("s3a://images/a.png", "Hadoop's name"), ("ftp://h/a.png", "from ftp:"),
        ("arn:aws:s3:::images/a.png", "named by an ARN"), ("file://host/share/a.png", "on this machine"),
        ("s3://", "is named s3://bucket/key"), ("s3:/images/a.png", "is named s3://bucket/key"),
        ("s3://images", "is named s3://bucket/key"), ("s3:///a.png", "is named s3://bucket/key"),
        ("s3://im ages/a.png", "has a blank"), ("s3://arn:aws:s3:::images/a.png", "is an ARN"),
        ("s3://images:443/a.png", "no bucket or key has such a name"), ("s3://images/\ud800.png", "no key can have"),
        ("missing.png", "There is no file missing.png"), ("\0.png", "There is no file"), ("\ud800.png", "There is no file"),
        ("a" * 300 + ".png", "File name too long"), ("~nobody-at-all/a.png", "no such user"), (".", "is a folder"))),
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
    if example.as_source:
        asyncio.run(stage_image(example.url, NOT_ASKED))
    elif example.answer is None:
        download_image(example.url)
    else:
        inspect_image(download_image(address + example.url, HostPolicy(("127.0.0.1",))))
