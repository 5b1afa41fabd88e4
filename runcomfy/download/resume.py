"""Read a remote file as if nothing broke: over a new connection where one did.

The rest is asked for with `Range` and `If-Range`, so that it is of one and the same file. What does not say so,
by its status, its ETag and the place that it starts at, is another file, and an error.
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
"""What is read at once. What a read had got when the connection broke is lost, and read again."""

_CAREFUL_BYTES = 64 * 1024
"""What is read at once for a while after a connection broke; if as much came, breaking again is a new break."""
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.IGNORECASE)


@dataclass(frozen=True)
class RetryBudget:
    """How long a broken connection is put up with: so many new ones in a row that bring nothing."""

    resumes: int = 3
    first_pause_seconds: float = 0.2
    """The pause before the first new connection; each further one is four times as long."""

    def pause_seconds(self, failed: int) -> float:
        """Return the pause after this many new connections that brought nothing."""
        return float(self.first_pause_seconds * 4**failed)


@dataclass(frozen=True)
class RemoteFile:
    """One version of a file at a URL, and how it is asked for."""

    url: str = field(repr=False)
    fetcher: Fetcher
    etag: str
    """Its strong ETag; empty where it has none, and then no part of it can be asked for."""
    length: int | None
    patience: RetryBudget
    encoding: str = ""

    @property
    def has_parts(self) -> bool:
        """Whether a part can be asked for so that it is surely of this version."""
        return bool(self.etag and self.length)

    def ask(self, start: int, end: int) -> HttpAnswer:
        """Ask for the bytes from `start` up to `end`; what is answered has still to be looked at."""
        headers: Mapping[str, str] = {"Range": f"bytes={start}-{end - 1}", "If-Range": self.etag}
        return self.fetcher.get(self.url, headers)

    def check(self, answer: HttpAnswer, start: int, end: int) -> None:
        """Make sure that an answer is that part of this version; a part that ends early is one."""
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
    """Reads the bytes of a file from `start` up to `end`; where the end is not known, as far as they come."""

    def __init__(self, file: RemoteFile, start: int, end: int | None, answer: HttpAnswer | None = None) -> None:
        """Start with the body of an answer, or ask for one at the first read."""
        self.end = end
        """May be brought forward while it is read."""
        self._file = file
        self._at = start
        self._answer = answer
        self._failed = 0
        self._since_break = _READ_BYTES

    def read(self, most: int) -> bytes:
        """Return the next bytes, a MiB at most; empty at the end.

        Raises:
            DownloadError: The connection broke, stalled, or ended too early, and no new one helped.
        """
        while self.end is None or self._at < self.end:
            if self._answer is None:
                self._answer = self._asked()
            most = min(most, _READ_BYTES if self._since_break >= _READ_BYTES else _CAREFUL_BYTES)
            if self.end is not None:
                most = min(most, self.end - self._at)
            response, host = self._answer
            try:
                piece = transported(partial(response.read, most, decode_content=False), host)
            except DownloadError as error:
                trouble = error
            else:
                if piece or self.end is None:
                    self._came(len(piece))
                    return piece
                length = self.end if self._file.length is None else self._file.length
                trouble = DownloadError(
                    f"The file from {host} was cut after {self._at:,} of {length:,} bytes. Try again.", host=host
                )
            self.close()
            self._answer = self._asked(trouble)
        self.close()
        return b""

    def close(self) -> None:
        """Close the connection, unless it was read to its end and may serve again."""
        if self._answer is not None:
            self._answer.response.close()
            self._answer = None

    def _came(self, size: int) -> None:
        self._at += size
        self._since_break += size
        if self._since_break >= _CAREFUL_BYTES:
            self._failed = 0

    def _asked(self, trouble: DownloadError | None = None) -> HttpAnswer:
        """Ask for the rest, after a pause where something broke; raise what broke if that is all that comes."""
        while True:
            if trouble is not None:
                self._pause(trouble)
            end = self.end or 0
            try:
                answer = self._file.ask(self._at, end)
            except DownloadError as error:
                trouble = error
                continue
            try:
                if not _passing(answer.response.status):
                    self._file.check(answer, self._at, end)
                    return answer
                trouble = refused(answer)
            except BaseException:
                answer.response.close()
                raise
            answer.response.close()

    def _pause(self, trouble: DownloadError) -> None:
        patience, file = self._file.patience, self._file
        if not file.has_parts or self._failed >= patience.resumes:
            raise trouble
        if file.fetcher.interrupted.wait(patience.pause_seconds(self._failed)):
            raise trouble
        self._failed += 1
        self._since_break = 0


def refused(answer: HttpAnswer) -> DownloadError:
    """Return the error that an answer without the file means."""
    status = answer.response.status
    advice = " Try again." if _passing(status) else ""
    if status in (401, 403, 404, 410):
        advice = " The URL may have expired: fetch the result again."
    return DownloadError(
        f"{answer.host} answered {status} instead of the file.{advice}", http_status=status, host=answer.host
    )


def _passing(status: int) -> bool:
    return status >= 500 or status in (408, 429)
