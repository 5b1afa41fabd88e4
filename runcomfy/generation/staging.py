"""Bring an image to where RunComfy can fetch it, named by its content, and sign a URL for it.

The same image always gets the same key, so staging can be repeated, and two that race agree. An image that is already
in S3 is copied like all others: its own key may hold another one by the time that the service fetches it, which would
then be recorded under the content of the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runcomfy.download.hosts import HostPolicy
from runcomfy.errors import ConfigurationError
from runcomfy.generation.image_urls import ANY_PUBLIC_HOST, download_image
from runcomfy.media.image_files import check_image_size, path_of, read_image_file, scheme_of
from runcomfy.media.images import MAX_IMAGE_BYTES, refuse_image, usable_image
from runcomfy.redaction import strip_query
from runcomfy.storage.address import check_bucket
from runcomfy.storage.keys import IMAGES, REFRESHED_AFTER
from runcomfy.storage.store import Store
from runcomfy.values import StagedFile, StagedImage

__all__ = ["METADATA", "sign", "stage_image"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIVEN_SHA256, _GIVEN_TYPE = "runcomfy-image-sha256", "runcomfy-image-type"
"""Metadata of an object that was converted: the file that was given. A manifest to run again names the object, and its
generation has to keep its key."""
METADATA = frozenset({_GIVEN_SHA256, _GIVEN_TYPE})
"""The names in the metadata of staged images that were converted."""

# Each holds one image and its pixels: their number bounds the memory, however many are asked for.
_STAGING = ThreadPoolExecutor(max_workers=4, thread_name_prefix="stage")


async def stage_image(source: str | Path, store: Store, *, hosts: HostPolicy = ANY_PUBLIC_HOST) -> StagedImage:
    """Check an image and put it into the store under `images/<sha256>.<extension>`, unless it is there already.

    An AVIF or HEIC is stored as a JPEG (as a PNG, if it is transparent somewhere), under the hash of the file that was
    given: other versions of the libraries convert it into other bytes, and its generation must not be paid for again.

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


def sign(file: StagedFile, store: Store, lifetime: timedelta) -> str:
    """Return a URL with which anyone can read a staged file for this long; it is a secret, and is never stored."""
    return store.sign(file.key, lifetime, bucket=file.bucket)


def _stage(source: str | Path, store: Store, hosts: HostPolicy) -> StagedImage:
    given: Mapping[str, str] = {}
    match scheme_of(source):
        case "s3":
            (data, given), shown = _read_object(str(source), store), str(source)
        case "http" | "https":
            data, shown = download_image(str(source), hosts), strip_query(str(source))
        case _:  # its name only: where it was says much about a machine, and nothing to others
            data, shown = read_image_file(source), path_of(source).name
    image = usable_image(data)
    facts = image.facts
    sha256 = hashlib.sha256(data).hexdigest()
    if facts.converted_from is not None:
        given = {_GIVEN_SHA256: sha256, _GIVEN_TYPE: facts.converted_from}
    sha256 = given.get(_GIVEN_SHA256, sha256)
    key = store.key(f"{IMAGES}{sha256}.{facts.extension}")
    uploaded, size_bytes = _upload(key, image.data, facts.content_type, given, store)
    return StagedImage(
        bucket=store.bucket,
        key=key,
        sha256=sha256,
        size_bytes=size_bytes,
        content_type=facts.content_type,
        width=facts.width,
        height=facts.height,
        orientation=facts.orientation,
        converted_from=given.get(_GIVEN_TYPE),
        source=shown,
        uploaded=uploaded,
    )


def _upload(key: str, data: bytes, content_type: str, metadata: Mapping[str, str], store: Store) -> tuple[bool, int]:
    """Store an image unless it is there; return whether that was done, and the size of what is there now."""
    existing = store.head(key)
    if existing is None:
        return store.put_new(key, data, content_type=content_type, metadata=metadata, known_absent=True), len(data)
    if datetime.now(UTC) - existing.modified_at < REFRESHED_AFTER:
        return False, existing.size_bytes
    store.put(key, data, content_type=content_type, metadata=metadata)  # the same bytes, or the same image
    return False, len(data)


def _read_object(uri: str, store: Store) -> tuple[bytes, Mapping[str, str]]:
    # Not through urlsplit: `?` and `#` are ordinary characters in a key.
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket or not key:
        refuse_image("An image in S3 is named s3://bucket/key. Write its bucket and its key.")
    try:
        check_bucket(bucket, at_aws=False)
    except ConfigurationError as error:
        refuse_image(f"The image {uri[:300]!s} cannot be read: {error.message}")
    existing = store.head(key, bucket)
    if existing is None:
        refuse_image(f"There is no object {uri}, or no such bucket. Check the name.")
    check_image_size(existing.size_bytes)
    known = {name: existing.metadata[name] for name in (_GIVEN_SHA256, _GIVEN_TYPE) if name in existing.metadata}
    is_ours = len(known) == 2 and _SHA256.fullmatch(known[_GIVEN_SHA256]) is not None
    if is_ours:  # anyone may write metadata; this key is written by staging only
        is_ours = bucket == store.bucket and key in [
            store.key(f"{IMAGES}{known[_GIVEN_SHA256]}.{extension}") for extension in ("jpg", "png")
        ]
    return store.read(key, bucket, limit_bytes=MAX_IMAGE_BYTES), known if is_ours else {}
