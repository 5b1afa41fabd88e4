"""What came from the output host: unpacked, judged, read a second time where it looks broken, and named."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import IO, NamedTuple, cast
from urllib.parse import urlsplit

from urllib3 import HTTPResponse
from urllib3.exceptions import DecodeError

from runcomfy.archive.temporary_file import ScratchFile, folder
from runcomfy.archive.transfer import TransferStop, receive
from runcomfy.download.stream import Download
from runcomfy.errors import DownloadError, TemporaryFileError, UnexpectedContent
from runcomfy.media.kinds import SNIFF_BYTES, MediaKind, by_name, describe, sniff
from runcomfy.media.quality import Judged, judge

__all__ = ["Arrived", "arrive", "early_kind", "said_of"]

_DECODED_AT_ONCE_BYTES = 16 * 1024
"""What is decoded at once: gzip makes a thousand times as much of it at the most."""
_MOST_RATIO = 100
_MOST_MORE_BYTES = 64 * 1024 * 1024
_PACKED = frozenset({"gzip", "zstd"})
_GZIP = b"\x1f\x8b"
_NO_ENCODING = frozenset({"", "identity", "none", "binary", "aws-chunked", "utf-8", "7bit", "8bit"})
_LONGEST_MESSAGE_BYTES = 64 * 1024
_TEXT_FILES = frozenset({".txt", ".obj", ".stl", ".srt", ".vtt", ".ass", ".csv", ".usda", ".ply", ".lrc", ".md"})


class Arrived(NamedTuple):
    """A file on this disk that is to be kept."""

    file: ScratchFile
    kind: MediaKind
    judged: Judged
    warnings: tuple[str, ...]


def early_kind(start: bytes, download: Download, url: str) -> MediaKind | None:
    """Tell from its first bytes what a file is; `None` where only the whole of it will.

    Raises:
        UnexpectedContent: it is surely not what was paid for.
    """
    if start[:2] == _GZIP or download.encoding not in _NO_ENCODING:
        return sniff(_decoded_start(start, download.encoding)) if start else None
    kind = sniff(start)
    if kind is None:
        _refuse_what_is_no_media(start, download.length, download, url)
    return kind


@contextmanager
def arrive(
    file: ScratchFile,
    start: bytes,
    download: Download,
    url: str,
    again: Callable[[ScratchFile], Download],
    stop: TransferStop,
) -> Iterator[Arrived]:
    """Read a download into `file`, and give the file that is to be kept, with its judgement.

    Args:
        file: An empty file.
        start: What was read of the download already.
        download: The rest of it.
        url: Where it comes from; only its name is looked at.
        again: Reads it all another time, into another file.
        stop: Whether to end.

    Raises:
        UnexpectedContent: it is no media, or it lacks something and its host did not say how long it is.
        TemporaryFileError: there is no room for it.
    """
    receive(download, start, file, stop)
    with ExitStack() as files:

        def another() -> ScratchFile:
            return files.enter_context(ScratchFile(folder()))

        kept = first = _judged(file, download, url, another, stop)
        if _is_doubtful(first, download):
            try:
                second = another()
                kept = _better(first, _judged(second, again(second), url, another, stop))
            except (DownloadError, UnexpectedContent, TemporaryFileError):
                stop.check()  # what came first is better than nothing
        yield kept._replace(warnings=_said(kept, download))


def _judged(
    file: ScratchFile, download: Download, url: str, another: Callable[[], ScratchFile], stop: TransferStop
) -> Arrived:
    warnings: tuple[str, ...] = ()
    head = _head(file)
    encoded = download.encoding not in _NO_ENCODING
    if encoded or head[:2] == _GZIP:
        encoding = download.encoding if encoded else "gzip"
        unpacked = another()
        if (plain := sniff(head)) is not None and plain.container not in _PACKED:
            warnings = (f"Its host said that it is packed ({encoding}); it is not.",)
        elif _unpack(file, unpacked, encoding, stop) and (encoded or sniff(_head(unpacked)) is not None):
            warnings = (f"It came packed ({encoding}) and was unpacked.",)
            file, head = unpacked, _head(unpacked)
        elif encoded:
            warnings = (f"It is packed ({encoding}) in a way that could not be unpacked here: it is kept as it came.",)
    kind = sniff(head)
    if kind is None:
        _refuse_what_is_no_media(head, file.size_bytes, download, url)
        kind = by_name(urlsplit(url).path, download.content_type)
    return Arrived(file, kind, judge(file.file, file.size_bytes, kind), warnings)


def _is_doubtful(arrived: Arrived, download: Download) -> bool:
    judged = arrived.judged
    unsure = not judged.length_known and (download.length is None or arrived.kind.container == "unknown")
    return bool(judged.missing or judged.damage or unsure)


def _better(first: Arrived, second: Arrived) -> Arrived:
    def merit(arrived: Arrived) -> tuple[bool, bool, bool, int]:
        judged = arrived.judged
        known = arrived.kind.container != "unknown"
        return known, not judged.missing, not judged.damage, arrived.file.size_bytes

    return second if merit(second) > merit(first) else first


def said_of(judged: Judged) -> tuple[str, ...]:
    """Return what speaks against a file that is kept all the same, one sentence each."""
    said: tuple[str, ...] = ()
    if judged.missing:
        said += (f"It is damaged or was cut off where it was made: {judged.missing}.",)
    if judged.damage:
        said += (f"It is damaged: {judged.damage}.",)
    return said + judged.warnings


def _said(arrived: Arrived, download: Download) -> tuple[str, ...]:
    """Return the warnings of a file that is kept; raise where it is not."""
    judged, warnings = arrived.judged, arrived.warnings
    if download.length is None and judged.missing:
        raise UnexpectedContent(
            f"The file is not whole: {judged.missing}, and its host did not say how long it is. Archive it again."
        )
    if download.length is None and not judged.length_known:
        warnings += ("Neither the file nor its host says how long it is: that it was cut off cannot be ruled out.",)
    return warnings + said_of(judged)


def _refuse_what_is_no_media(head: bytes, size: int | None, download: Download, url: str) -> None:
    what = describe(head)
    named = PurePosixPath(urlsplit(url).path).suffix.lower() in _TEXT_FILES
    if what == "plain text" and (named or size is None or size > _LONGEST_MESSAGE_BYTES):
        return
    if what is not None:
        raise UnexpectedContent(
            f"The output host answered {what} (it says: {download.content_type or 'no type'}), "
            "not a video or a picture. Archive it again; if it stays so, look at the request's result.",
            no_media=True,
        )


class _Unclosed:
    """A file that whoever reads it does not close at its end."""

    def __init__(self, file: ScratchFile) -> None:
        self.read = file.file.read

    def close(self) -> None:
        """Do nothing."""


def _head(file: ScratchFile) -> bytes:
    file.file.seek(0)
    return file.file.read(SNIFF_BYTES)


def _decoded_start(start: bytes, encoding: str) -> bytes:
    """Return the first bytes of what is packed, as far as that is told from its own first bytes."""
    if encoding not in ("deflate", "gzip", "x-gzip", *_NO_ENCODING) or sniff(start) not in (
        None,
        sniff(_GZIP + b"\x08"),
    ):
        return start
    for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(bits).decompress(start, SNIFF_BYTES)
        except zlib.error:
            continue
    return b""


def _unpack(file: ScratchFile, into: ScratchFile, encoding: str, stop: TransferStop) -> bool:
    """Decode a whole file; false where that cannot be done, or makes unreasonably much of it."""
    file.file.seek(0)
    body = cast(IO[bytes], _Unclosed(file))
    packed = HTTPResponse(body, headers={"Content-Encoding": encoding}, preload_content=False)
    most = _MOST_RATIO * file.size_bytes + _MOST_MORE_BYTES
    try:
        while chunk := packed.read(_DECODED_AT_ONCE_BYTES, decode_content=True):
            stop.check()
            into.write(chunk)
            if into.size_bytes > most:
                return False
    except DecodeError:
        return False
    return into.digest != file.digest
