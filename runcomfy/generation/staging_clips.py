"""Bring a video or a sound to where RunComfy can fetch it, named by its content, as `staging` does an image.

A clip is written to a temporary file and hashed on the way, so that its size costs no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from runcomfy.archive.temporary_file import ScratchFile, folder
from runcomfy.download.hosts import HostPolicy
from runcomfy.download.stream import open_url
from runcomfy.errors import DownloadError, HostNotAllowed, ImageUnavailable, InvalidInput
from runcomfy.media.image_files import path_of, scheme_of
from runcomfy.media.kinds import SNIFF_BYTES, describe, sniff
from runcomfy.media.quality import judge
from runcomfy.redaction import strip_query
from runcomfy.storage.keys import MEDIA, REFRESHED_AFTER
from runcomfy.storage.store import Store
from runcomfy.storage.upload import Body
from runcomfy.values import StagedClip

__all__ = ["MAX_CLIP_BYTES", "stage_clip"]

MAX_CLIP_BYTES = 100_000_000
"""What RunComfy accepts of a video, by its model pages; nothing is documented about sounds."""
_READ_BYTES = 1024 * 1024
Kind = Literal["video", "audio"]
_CALLED = {"video": "video", "audio": "sound"}


def stage_clip(source: str | Path, kind: Kind, store: Store, hosts: HostPolicy) -> StagedClip:
    """Check a clip and put it into the store under `media/<sha256>.<extension>`, unless it is there already. Blocks.

    Args:
        source: A path, `file://`, `https://` or `s3://bucket/key`.
        kind: What it has to be.
        store: Where it goes.
        hosts: Which hosts it may be fetched from.

    Raises:
        InvalidInput: There is no such file, or it is no such clip.
        ImageUnavailable: Its URL could not be read this time.
        StorageError: The store could not be read or written.
        TemporaryFileError: This machine has no room for it.
    """
    with ScratchFile(folder()) as file:
        shown = _spool(source, kind, store, hosts, file)
        head = _head(file)
        container = sniff(head)
        if container is None:
            _refuse(kind, f"It is {describe(head) or 'a file of an unknown kind'}, and no {_CALLED[kind]}.")
        judged = judge(file.file, file.size_bytes, container)
        if judged.missing or judged.damage:
            _refuse(kind, f"It is damaged: {judged.missing or judged.damage}.")
        if kind not in judged.streams:
            found = " and ".join(sorted(judged.streams)) or f"a file of the kind {container.container}"
            _refuse(kind, f"It has no {_CALLED[kind]} in it: it is {found}.")
        size_bytes, sha256 = file.digest
        key = store.key(f"{MEDIA}{sha256}.{container.extension}")
        existing = store.head(key)
        body, uploaded = Body(file.file, 0, size_bytes, file.crc, lambda: None), False
        facts: Mapping[str, Any] = {"content_type": container.content_type, "metadata": {"sha256": sha256}}
        if existing is None:
            uploaded = store.put_file(key, body, **facts, known_absent=True)
        elif datetime.now(UTC) - existing.modified_at >= REFRESHED_AFTER:
            store.replace_file(key, body, **facts)  # the same bytes
    return StagedClip(
        bucket=store.bucket, key=key, sha256=sha256, size_bytes=size_bytes, content_type=container.content_type,
        kind=kind, media=judged.facts, source=shown, uploaded=uploaded,
    )  # fmt: skip


def _spool(source: str | Path, kind: Kind, store: Store, hosts: HostPolicy, file: ScratchFile) -> str:
    """Write the source to a file; return how it may be shown."""
    match scheme_of(source):
        case "s3":
            bucket, _, key = str(source).partition("://")[2].partition("/")
            if not bucket or not key:
                _refuse(kind, "A file in S3 is named s3://bucket/key.")
            if (existing := store.head(key, bucket)) is None:
                _refuse(kind, f"There is no object {source}, or no such bucket. Check the name.")
            _check_size(existing.size_bytes, kind)
            with store.open(key, bucket) as body:
                _copy(body.read, file, kind)
            return str(source)
        case "http" | "https":
            try:
                with open_url(str(source), hosts) as download:
                    _check_size(download.length or 0, kind)
                    _copy(download.read, file, kind)
            except HostNotAllowed:
                _refuse(kind, "It is at a host or a private address that is not allowed. Give it as a file or in S3.")
            except DownloadError as error:
                if error.http_status is None or error.http_status >= 500 or error.http_status in (408, 429):
                    raise ImageUnavailable(f"{error.message} Nothing was paid for.", **error.facts) from None
                _refuse(kind, f"{error.message} It has to be readable without a login.")
            return strip_query(str(source))
    path = path_of(source)
    try:
        with path.open("rb") if path.is_file() else nullcontext() as opened:
            if opened is None:
                _refuse(kind, f"There is no file {path}. Check the path, and the machine that this runs on.")
            _copy(opened.read, file, kind)
    except OSError as error:
        _refuse(kind, f"{path} cannot be read: {error.strerror}.")
    return path.name


def _copy(read: Callable[[int], bytes], file: ScratchFile, kind: Kind) -> None:
    while piece := read(_READ_BYTES):
        file.write(piece)
        _check_size(file.size_bytes, kind)


def _check_size(size_bytes: int, kind: Kind) -> None:
    if size_bytes > MAX_CLIP_BYTES:
        _refuse(kind, f"It has more than {MAX_CLIP_BYTES:,} bytes. Make it smaller.")


def _head(file: ScratchFile) -> bytes:
    file.file.seek(0)
    return file.file.read(SNIFF_BYTES)


def _refuse(kind: Kind, reason: str) -> NoReturn:
    raise InvalidInput(f"The {_CALLED[kind]} cannot be used. {reason} Nothing was paid for.")
