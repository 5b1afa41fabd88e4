"""Read a remote file over connections that may break: a new one resumes where the last one broke.

The rest is requested with `Range` and `If-Range`, so that it is of the same file. An answer whose status, ETag or start
does not confirm that is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from runcomfy.download.http import Fetcher, HttpAnswer, transported
from runcomfy.errors import DownloadError

__all__ = ["CONTENT_RANGE", "ByteRange", "RemoteFile", "RetryBudget", "refused"]

_READ_BYTES = 1024 * 1024
"""How much one read asks for. What a read had received when the connection broke is lost, and read again."""

_CAREFUL_BYTES = 64 * 1024
"""The same for a while after a break; once this much has arrived, the next break counts as the first."""
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)


@dataclass(frozen=True)
class RetryBudget:
    """How many new connections in a row may bring nothing before a break is an error."""

    resumes: int = 3
    first_pause_seconds: float = 0.2
    """The pause before the first new connection; each further one is four times as long."""

    def pause_seconds(self, failed: int) -> float:
        """Return the pause after this many such connections."""
        return float(self.first_pause_seconds * 4**failed)


@dataclass(frozen=True)
class RemoteFile:
    """One version of a file at a URL, and how to request it."""

    url: str = field(repr=False)
    fetcher: Fetcher
    etag: str
    """Its strong ETag; empty if it has none, and then no part of it can be requested."""
    length: int | None
    retry_budget: RetryBudget
    encoding: str = ""

    @property
    def has_parts(self) -> bool:
        """Whether a part can be requested that is surely of this version."""
        return bool(self.etag and self.length)

    def ask(self, start: int, end: int) -> HttpAnswer:
        """Request the bytes from `start` up to `end`; the answer has still to be checked."""
        headers: Mapping[str, str] = {"Range": f"bytes={start}-{end - 1}", "If-Range": self.etag}
        return self.fetcher.get(self.url, headers)

    def check(self, answer: HttpAnswer, start: int, end: int) -> None:
        """Check that an answer is that part of this version; it may end early."""
        status = answer.response.status
        if status not in (200, 206, 412, 416):
            raise refused(answer)
        said = CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
        if (
            status != 206
            or said is None
            or not int(said[1]) == start <= int(said[2]) < end
            or said[3] not in ("*", str(self.length))
            or answer.header("ETag") != self.etag
            or answer.header("Content-Encoding").lower() not in ("", "identity", self.encoding)
        ):
            raise DownloadError(
                f"The file from {answer.host} changed while it was read, or its server lost the place. Try again.",
                host=answer.host,
            )


class ByteRange:
    """Reads the bytes of a file from `start` up to `end`, or up to the end of the body if that is unknown."""

    def __init__(self, file: RemoteFile, start: int, end: int | None, answer: HttpAnswer | None = None) -> None:
        """Start with the body of an answer, or request one at the first read."""
        self.end = end
        """May be lowered while it is read."""
        self._file = file
        self._at = start
        self._answer = answer
        self._failed = 0
        self._since_break = _READ_BYTES

    def read(self, most: int) -> bytes:
        """Return the next bytes, a MiB at most; empty at the end.

        Raises:
            DownloadError: The connection broke, stalled, or ended too early, and no new connection helped.
        """
        while self.end is None or self._at < self.end:
            if self._answer is None:
                self._answer = self._resumed()
            most = min(most, _READ_BYTES if self._since_break >= _READ_BYTES else _CAREFUL_BYTES)
            if self.end is not None:
                most = min(most, self.end - self._at)
            response, host = self._answer
            try:
                piece = transported(partial(response.read, most, decode_content=False), host)
            except DownloadError as error:
                failure = error
            else:
                if piece or self.end is None:
                    self._received(len(piece))
                    return piece
                length = self.end if self._file.length is None else self._file.length
                failure = DownloadError(
                    f"The file from {host} was cut after {self._at:,} of {length:,} bytes. Try again.", host=host
                )
            self.close()
            self._answer = self._resumed(failure)
        self.close()
        return b""

    def close(self) -> None:
        """Close the connection, unless it was read to its end and can be reused."""
        if self._answer is not None:
            self._answer.response.close()
            self._answer = None

    def _received(self, size: int) -> None:
        self._at += size
        self._since_break += size
        if self._since_break >= _CAREFUL_BYTES:
            self._failed = 0

    def _resumed(self, failure: DownloadError | None = None) -> HttpAnswer:
        """Request the rest, after a pause if something failed; raise the failure when the retry budget is spent."""
        while True:
            if failure is not None:
                self._pause(failure)
            end = self.end or 0
            try:
                answer = self._file.ask(self._at, end)
            except DownloadError as error:
                failure = error
                continue
            try:
                if not _is_transient(answer.response.status):
                    self._file.check(answer, self._at, end)
                    return answer
                failure = refused(answer)
            except BaseException:
                answer.response.close()
                raise
            answer.response.close()

    def _pause(self, failure: DownloadError) -> None:
        budget, file = self._file.retry_budget, self._file
        if not file.has_parts or self._failed >= budget.resumes:
            raise failure
        if file.fetcher.interrupted.wait(budget.pause_seconds(self._failed)):
            raise failure
        self._failed += 1
        self._since_break = 0


def refused(answer: HttpAnswer) -> DownloadError:
    """Return the error for an answer without the file."""
    status = answer.response.status
    advice = " Try again." if _is_transient(status) else ""
    if status in (401, 403, 404, 410):
        advice = " The URL may have expired: fetch the result again."
    return DownloadError(
        f"{answer.host} answered {status} instead of the file.{advice}", http_status=status, host=answer.host
    )


def _is_transient(status: int) -> bool:
    return status >= 500 or status in (408, 429)
