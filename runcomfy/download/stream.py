"""Read a URL as a stream, and trust nothing: not the host, not a redirect, not the end of the body.

A truncated body is an error, never a short file; if a strong ETag proves that the file is still the same, the rest is
first requested over a new connection. The bytes themselves are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import urllib3

from runcomfy.download.hosts import HostPolicy
from runcomfy.download.http import Fetcher, HttpAnswer
from runcomfy.download.resume import CONTENT_RANGE, ByteRange, RemoteFile, RetryBudget, refused
from runcomfy.errors import DownloadError
from runcomfy.redaction import redact_loggers

__all__ = ["Download", "RetryBudget", "open_url"]

_NOT_FOR_CALLERS = frozenset(
    {"accept-encoding", "authorization", "cookie", "if-range", "proxy-authorization", "range"}
)  # fmt: skip
_RETRY_BUDGET = RetryBudget()
_LENGTH = re.compile(r"[0-9]{1,18}")  # Python refuses to convert thousands of digits


class Download:
    """An open answer with the complete file: its headers, and its body."""

    def __init__(self, answer: HttpAnswer, url: str, fetcher: Fetcher, retry_budget: RetryBudget) -> None:
        self.host = answer.host
        self.content_type = answer.header("Content-Type").partition(";")[0].strip().lower()
        length = answer.header("Content-Length")
        chunked = "chunked" in answer.header("Transfer-Encoding").lower()
        self.length: int | None = int(length) if _LENGTH.fullmatch(length) and not chunked else None
        self.encoding = answer.header("Content-Encoding").lower()
        etag = answer.header("ETag")
        strong = len(etag) > 1 and etag[0] == etag[-1] == '"'
        self._file = RemoteFile(url, fetcher, etag if strong else "", self.length, retry_budget, self.encoding)
        self._first = ByteRange(self._file, 0, self.length, answer)

    def read(self, amount: int, /) -> bytes:
        """Return exactly `amount` bytes, fewer only at the end of the body.

        Raises:
            DownloadError: The connection broke, stalled, or ended before the announced length, and was not resumed.
        """
        pieces: list[bytes] = []
        missing = amount
        while missing > 0 and (piece := self._first.read(missing)):
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def unblock(self) -> None:
        """End a read that blocks in another thread, for good: it returns the end of the file, or raises."""
        self._file.fetcher.interrupt()

    def close(self) -> None:
        """Close the connections."""
        self._first.close()
        self._file.fetcher.interrupt()
        self._file.fetcher.close()


def _is_whole(answer: HttpAnswer) -> bool:
    """Whether the body is the complete file: also a 203 from a proxy, or a 206 with all of it."""
    said = CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
    if answer.response.status == 206 and said is not None:
        return int(said[1]) == 0 and said[3] == str(int(said[2]) + 1)
    return answer.response.status in (200, 203)


@contextmanager
def open_url(
    url: str,
    policy: HostPolicy,
    *,
    connect_timeout_seconds: float = 10.0,
    read_timeout_seconds: float = 60.0,
    headers: Mapping[str, str] | None = None,
    retry_budget: RetryBudget = _RETRY_BUDGET,
    packed: bool = False,
) -> Iterator[Download]:
    """Open a URL and close its connections at the end; blocks, so call it in a thread.

    Up to five redirects are followed, each checked like the first URL. Neither tokens nor cookies are ever sent.
    Errors name the host only, because what follows the `?` may be a signature.

    Args:
        url: Where the file is.
        policy: Where it may be, redirects included.
        connect_timeout_seconds: How long each connection may take to be established.
        read_timeout_seconds: How long no data may arrive.
        headers: More headers to send; no login, no range.
        retry_budget: How often a broken connection is replaced.
        packed: Whether to accept a body in an encoding that was not requested; it is passed on as it is.

    Raises:
        HostNotAllowed: The URL, a redirect, or the address behind it is not allowed.
        DownloadError: Anything but the complete file, or a failure on the way.
    """
    timeout = urllib3.Timeout(connect=connect_timeout_seconds, read=read_timeout_seconds)
    sent = {name: value for name, value in (headers or {}).items() if name.lower() not in _NOT_FOR_CALLERS}
    sent = {"Accept": "*/*", "User-Agent": "runcomfy-prefect", **sent, "Accept-Encoding": "identity"}
    redact_loggers()
    fetcher = Fetcher(policy, timeout, sent)
    try:
        answer = fetcher.get(url)
        with closing(Download(answer, url, fetcher, retry_budget)) as download:
            if not _is_whole(answer):
                raise refused(answer)
            if not packed and download.encoding not in ("", "identity"):
                raise DownloadError(
                    f"{answer.host} sent the file in an encoding that was not requested. Try again.", host=answer.host
                )
            yield download
    finally:
        fetcher.close()
