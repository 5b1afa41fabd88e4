"""Read a URL as a stream, and take nothing for granted: not the host, not the redirect, not the end of the body.

A body that was cut is an error here, never a short file; where the server can prove that the file is still
the same, by a strong ETag, the rest is fetched over a new connection first. What the bytes are is not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import urllib3

from runcomfy._fetching import Answer, Fetcher
from runcomfy._ranges import CHUNK_BYTES, Lanes, Patience, RemoteFile, Span, refused
from runcomfy.errors import DownloadError
from runcomfy.hosts import HostPolicy
from runcomfy.redaction import redact_loggers

__all__ = ["Download", "Patience", "open_url"]

_NOT_FOR_CALLERS = frozenset(
    {"accept-encoding", "authorization", "cookie", "if-range", "proxy-authorization", "range"}
)  # fmt: skip
_JUDGED_BYTES = 8 * 1024 * 1024
"""How much of a file has to come before it is said how fast one connection is."""
_WORTH_SPLITTING_BYTES = 32 * 1024 * 1024
_FAST_BYTES_PER_SECOND = 30e6
_PATIENCE = Patience()


class Download:
    """An open answer with status 200: what it says of itself, and its body.

    A large file that comes slowly over one connection is read over four: long ways give each connection its share.
    """

    def __init__(self, answer: Answer, url: str, fetcher: Fetcher, patience: Patience) -> None:
        self.host = answer.host
        self.content_type = answer.header("Content-Type").partition(";")[0].strip().lower()
        length = answer.header("Content-Length")
        chunked = "chunked" in answer.header("Transfer-Encoding").lower()
        self.length: int | None = int(length) if length.isascii() and length.isdigit() and not chunked else None
        etag = answer.header("ETag")
        strong = len(etag) > 1 and etag[0] == etag[-1] == '"'
        self._file = RemoteFile(url, fetcher, etag if strong else "", self.length, patience)
        self._splits = self._file.has_parts and answer.header("Accept-Ranges").lower() == "bytes"
        self._first = Span(self._file, 0, self.length, answer)
        self._lanes: Lanes | None = None
        self._received = 0
        self._judged_bytes = 0
        self._judged_seconds = 0.0

    def read(self, amount: int, /) -> bytes:
        """Return exactly `amount` bytes, fewer only at the end of the body.

        Raises:
            DownloadError: The connection broke, stalled, or ended before the announced length, and could not be mended.
        """
        pieces: list[bytes] = []
        missing = amount
        while missing > 0 and (piece := self._next(missing)):
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def unblock(self) -> None:
        """End a read that blocks in another thread, for good: it returns the end of the file, or raises."""
        self._file.fetcher.interrupt()

    def close(self) -> None:
        """Close the connections."""
        self._first.close()
        if self._lanes is not None:
            self._lanes.close()
        self._file.fetcher.interrupt()
        self._file.fetcher.close()

    def _next(self, most: int) -> bytes:
        began = time.monotonic()
        piece = self._first.read(most)
        if not piece and self._lanes is not None:
            return self._lanes.read(most)
        self._received += len(piece)
        self._judged_bytes += len(piece)
        self._judged_seconds += time.monotonic() - began
        if self._splits and self._judged_bytes >= _JUDGED_BYTES:
            self._judge()
        return piece

    def _judge(self) -> None:
        """Give all but the next chunk of a slow file's rest to several connections."""
        left = (self.length or 0) - self._received
        slow = self._judged_bytes < _FAST_BYTES_PER_SECOND * self._judged_seconds
        if slow and left >= _WORTH_SPLITTING_BYTES and self._lanes is None:
            self._first.end = self._received + CHUNK_BYTES
            self._lanes = Lanes(self._file, self._first.end)
        self._judged_bytes, self._judged_seconds = 0, 0.0


@contextmanager
def open_url(
    url: str,
    policy: HostPolicy,
    *,
    connect_timeout_seconds: float = 10.0,
    read_timeout_seconds: float = 60.0,
    headers: Mapping[str, str] | None = None,
    patience: Patience = _PATIENCE,
) -> Iterator[Download]:
    """Open a URL and close its connections at the end; blocks, so call it in a thread.

    Up to five redirects are followed, each checked like the first URL. Neither tokens nor cookies are ever sent.
    Errors name the host only, because what follows the `?` may be a signature.

    Args:
        url: Where the file is.
        policy: Where it may be, redirects included.
        connect_timeout_seconds: How long each connection may take to stand.
        read_timeout_seconds: How long nothing may come.
        headers: What else is sent; no login, no range.
        patience: How often a broken connection is replaced.

    Raises:
        HostNotAllowed: The URL, a redirect, or the address behind it is not allowed.
        DownloadError: Anything but a 200, or trouble on the way.
    """
    timeout = urllib3.Timeout(connect=connect_timeout_seconds, read=read_timeout_seconds)
    sent = {name: value for name, value in (headers or {}).items() if name.lower() not in _NOT_FOR_CALLERS}
    sent = {"Accept": "*/*", "User-Agent": "runcomfy-prefect", **sent, "Accept-Encoding": "identity"}
    redact_loggers()
    fetcher = Fetcher(policy, timeout, sent)
    try:
        answer = fetcher.get(url)
        with closing(Download(answer, url, fetcher, patience)) as download:
            if answer.response.status != 200:
                raise refused(answer)
            if answer.header("Content-Encoding").lower() not in ("", "identity"):
                raise DownloadError(
                    f"{answer.host} sent the file in an encoding that nobody asked for. Try again.", host=answer.host
                )
            yield download
    finally:
        fetcher.close()
