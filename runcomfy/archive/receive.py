"""Receive a file from its output host: unpack it, check it, read it a second time if it looks broken, and warn."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import IO, NamedTuple, cast
from urllib.parse import urlsplit

from urllib3 import HTTPResponse
from urllib3.exceptions import DecodeError

from runcomfy.archive.temporary_file import ScratchFile, folder
from runcomfy.archive.transfer import TransferStop, receive
from runcomfy.download.stream import Download
from runcomfy.errors import DownloadError, TemporaryFileError, UnexpectedContent
from runcomfy.media.decoding import Decode, decode
from runcomfy.media.kinds import SNIFF_BYTES, MediaKind, by_name, describe, sniff
from runcomfy.media.quality import Judged, judge

__all__ = ["Arrived", "arrive", "decoding", "early_kind", "warnings_of"]

_DECODED_AT_ONCE_BYTES = 16 * 1024
"""What is decoded at once: gzip expands it a thousand times at most."""
_MOST_RATIO = 100
_MOST_MORE_BYTES = 64 * 1024 * 1024
_PACKED = frozenset({"gzip", "zstd"})
_GZIP = b"\x1f\x8b"
_NO_ENCODING = frozenset({"", "identity", "none", "binary", "aws-chunked", "utf-8", "7bit", "8bit"})
_LONGEST_MESSAGE_BYTES = 64 * 1024
_TEXT_FILES = frozenset({".txt", ".obj", ".stl", ".srt", ".vtt", ".ass", ".csv", ".usda", ".ply", ".lrc", ".md"})


class Arrived(NamedTuple):
    """A file on this disk that will be kept."""

    file: ScratchFile
    kind: MediaKind
    judged: Judged
    warnings: tuple[str, ...]


def early_kind(start: bytes, download: Download, url: str) -> MediaKind | None:
    """Return what a file is by its first bytes; `None` if the whole file is needed.

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
    sheet: bool = False,
) -> Iterator[Arrived]:
    """Read a download into `file`, and yield the file to keep, with what was found out about it.

    Args:
        file: An empty file.
        start: What was already read of the download.
        download: The rest of it.
        url: Where it comes from; only its name is used.
        again: Reads it all again, into another file.
        stop: Ends the work when it is set.
        sheet: Whether to make a contact sheet.

    Raises:
        UnexpectedContent: it is no media, or it seems cut off and its host did not say how long it is.
        TemporaryFileError: there is no room for it.
    """
    receive(download, start, file, stop)
    with ExitStack() as files:

        def another() -> ScratchFile:
            return files.enter_context(ScratchFile(folder()))

        kept = first = _judged(file, download, url, another, stop, sheet)
        if _is_doubtful(first, download):
            try:
                second = another()
                kept = _better(first, _judged(second, again(second), url, another, stop, sheet))
            except (DownloadError, UnexpectedContent, TemporaryFileError):
                stop.check()  # the first file is better than none
        yield kept._replace(warnings=_checked_warnings(kept, download))


def _judged(
    file: ScratchFile,
    download: Download,
    url: str,
    another: Callable[[], ScratchFile],
    stop: TransferStop,
    sheet: bool,
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
    return Arrived(file, kind, judge(file.file, file.size_bytes, kind, decoding(stop, sheet)), warnings)


def _is_doubtful(arrived: Arrived, download: Download) -> bool:
    judged = arrived.judged
    unsure = not judged.length_known and (download.length is None or arrived.kind.container == "unknown")
    return bool(judged.missing or judged.damage or unsure)


def _better(first: Arrived, second: Arrived) -> Arrived:
    def rank(arrived: Arrived) -> tuple[bool, bool, bool, int]:
        judged = arrived.judged
        known = arrived.kind.container != "unknown"
        return known, not judged.missing, not judged.damage, arrived.file.size_bytes

    return second if rank(second) > rank(first) else first


def warnings_of(judged: Judged) -> tuple[str, ...]:
    """Return what is wrong with a file that is kept anyway, one sentence each."""
    found: tuple[str, ...] = ()
    if judged.missing:
        found += (f"It is damaged or was cut off where it was made: {judged.missing}.",)
    if judged.damage:
        found += (f"It is damaged: {judged.damage}.",)
    if judged.decoded is not None and judged.quality.verdict in ("suspect", "not_judged"):
        found += judged.quality.reasons
    return found + judged.warnings


def decoding(stop: TransferStop, sheet: bool) -> Decode:
    """Return how every frame of a file is decoded, until `stop` is set; with a contact sheet, if there is to be one."""
    return partial(decode, check=stop.check, sheet=sheet)


def _checked_warnings(arrived: Arrived, download: Download) -> tuple[str, ...]:
    """Return the warnings of a file that is kept; raise for one that is not."""
    judged, warnings = arrived.judged, arrived.warnings
    if download.length is None and judged.missing:
        raise UnexpectedContent(
            f"The file is not whole: {judged.missing}, and its host did not say how long it is. Archive it again."
        )
    if download.length is None and not judged.length_known:
        warnings += ("Neither the file nor its host says how long it is: that it was cut off cannot be ruled out.",)
    return warnings + warnings_of(judged)


def _refuse_what_is_no_media(head: bytes, size: int | None, download: Download, url: str) -> None:
    what = describe(head)
    named = PurePosixPath(urlsplit(url).path).suffix.lower() in _TEXT_FILES
    if what == "plain text" and (named or size is None or size > _LONGEST_MESSAGE_BYTES):
        return
    if what is not None:
        raise UnexpectedContent(
            f"The output host answered {what} (it says: {download.content_type or 'no type'}), "
            "not a video or an image. Archive it again; if the answer stays the same, check the request's result.",
            no_media=True,
        )


class _Unclosed:
    """A file that its reader does not close at the end."""

    def __init__(self, file: ScratchFile) -> None:
        self.read = file.file.read

    def close(self) -> None:
        """Do nothing."""


def _head(file: ScratchFile) -> bytes:
    file.file.seek(0)
    return file.file.read(SNIFF_BYTES)


def _decoded_start(start: bytes, encoding: str) -> bytes:
    """Return the first unpacked bytes, as far as the first packed bytes allow."""
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
    """Decode a whole file; false if it cannot be decoded, or expands unreasonably."""
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
