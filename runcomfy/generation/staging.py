"""Bring an image to where RunComfy can fetch it, named by its content, and sign a URL for it.

The same image always gets the same key, so staging can be repeated, and two that race agree. An image that is already
in S3 is copied like all others: its own key may hold another one by the time that the service fetches it, which would
then be recorded under the content of the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runcomfy.download.hosts import HostPolicy
from runcomfy.download.stream import open_url
from runcomfy.errors import DownloadError, HostNotAllowed, ImageUnavailable
from runcomfy.media.image_files import check_image_size, read_image_file, scheme_of
from runcomfy.media.images import MAX_IMAGE_BYTES, inspect_image, refuse_image
from runcomfy.redaction import strip_query
from runcomfy.storage.keys import IMAGES, REFRESHED_AFTER
from runcomfy.storage.store import Store
from runcomfy.values import StagedImage

__all__ = ["sign_image", "stage_image"]

_ANY_PUBLIC_HOST = HostPolicy(allowed=("*",))
_READ_BYTES = 1024 * 1024
# Each holds one image and its pixels: their number bounds the memory, however many are asked for.
_STAGING = ThreadPoolExecutor(max_workers=4, thread_name_prefix="stage")


async def stage_image(source: str | Path, store: Store, *, hosts: HostPolicy = _ANY_PUBLIC_HOST) -> StagedImage:
    """Check an image and put it into the store under `images/<sha256>.<extension>`, unless it is there already.

    A process stages four at once, so that any number may be asked for: each is held in memory once, with its pixels
    while it is checked.

    Args:
        source: A path, `file://`, `https://` (`http://` only for hosts that `hosts` names exactly) or `s3://bucket/key`.
        store: Where it goes; also has the credentials to read `s3://`.
        hosts: Which hosts an image may be fetched from; any public one by default.

    Raises:
        InvalidInput: There is no such image, or it cannot be used.
        ImageUnavailable: Its URL could not be read this time.
        StorageError: The store could not be read or written.
    """
    return await asyncio.get_running_loop().run_in_executor(_STAGING, _stage, source, store, hosts)


def sign_image(image: StagedImage, store: Store, lifetime: timedelta) -> str:
    """Return a URL with which anyone can read the image for this long; it is a secret, and is never stored."""
    return store.sign(image.key, lifetime, bucket=image.bucket)


def _stage(source: str | Path, store: Store, hosts: HostPolicy) -> StagedImage:
    match scheme_of(source):
        case "s3":
            data, shown = _read_object(str(source), store), str(source)
        case "http" | "https":
            data, shown = _download(str(source), hosts), strip_query(str(source))
        case "file":
            data, shown = read_image_file(source), strip_query(str(source))
        case _:
            data, shown = read_image_file(source), str(source)
    facts = inspect_image(data)
    sha256 = hashlib.sha256(data).hexdigest()
    key = store.key(f"{IMAGES}{sha256}.{facts.extension}")
    return StagedImage(
        bucket=store.bucket,
        key=key,
        sha256=sha256,
        size_bytes=len(data),
        content_type=facts.content_type,
        width=facts.width,
        height=facts.height,
        orientation=facts.orientation,
        source=shown,
        uploaded=_upload(key, data, facts.content_type, store),
    )


def _upload(key: str, data: bytes, content_type: str, store: Store) -> bool:
    existing = store.head(key)
    if existing is None:
        return store.put_new(key, data, content_type=content_type, known_absent=True)
    if datetime.now(UTC) - existing.modified_at >= REFRESHED_AFTER:
        store.put(key, data, content_type=content_type)  # the same bytes
    return False


def _read_object(uri: str, store: Store) -> bytes:
    # Not through urlsplit: `?` and `#` are ordinary characters in a key.
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket or not key:
        refuse_image("An image in S3 is named s3://bucket/key.")
    existing = store.head(key, bucket)
    if existing is None:
        refuse_image(f"There is no object {uri}, or no such bucket. Check the name.")
    check_image_size(existing.size_bytes)
    return store.read(key, bucket, limit_bytes=MAX_IMAGE_BYTES)


def _download(url: str, hosts: HostPolicy) -> bytes:
    try:
        with open_url(url, hosts) as download:
            check_image_size(download.length or 0)
            buffer = io.BytesIO()  # returns its content without another copy
            while buffer.tell() <= MAX_IMAGE_BYTES and (piece := download.read(_READ_BYTES)):
                buffer.write(piece)
    except HostNotAllowed:
        refuse_image("The image is at a host or a private address that is not allowed. Give it as a file or in S3.")
    except DownloadError as error:
        if error.http_status is None or error.http_status >= 500 or error.http_status in (408, 429):
            raise ImageUnavailable(f"{error.message} Nothing was paid for.", **error.facts) from None
        refuse_image(f"{error.message} The image has to be readable without a login.")
    check_image_size(buffer.tell())
    return buffer.getvalue()
