"""Garbage collection: uploads and tries that a killed process left unfinished, and images staged long ago."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.storage.keys import IMAGES, MEDIA, PROBES, QUARANTINE, REFRESHED_AFTER, KeyTemplate
from runcomfy.storage.store import Store, Upload

__all__ = ["STAGED_FILE", "Collected", "collect_garbage", "delete_probes"]

logger = logging.getLogger(__name__)

_DEFAULT_TEMPLATE = KeyTemplate()
STAGED_FILE = re.compile(rf"(?:{IMAGES}|{MEDIA})[0-9a-f]{{64}}\.[a-z0-9]+")
"""The name of a staged file, below the store's prefix."""


@dataclass(frozen=True)
class Collected:
    """What was removed, by its keys."""

    uploads: list[str]
    images: list[str]


def collect_garbage(
    store: Store, *, uploads_older_than: timedelta, images_older_than: timedelta | None = None,
    keep: Collection[str] = (), template: KeyTemplate = _DEFAULT_TEMPLATE,
) -> Collected:  # fmt: skip
    """Abort old unfinished uploads of ours, and delete old staged images and objects of tries. Blocks.

    The bucket may hold other people's files, so only names that we give are touched: images that are named by their
    SHA-256, uploads to keys of a template, and what a try-out of the bucket left. Rights on a prefix
    only do not allow to list uploads (s3:ListBucketMultipartUploads is a right on the bucket): then none is aborted,
    and a rule of the bucket has to do it.

    Args:
        store: The bucket and prefix.
        uploads_older_than: An upload takes minutes: one that is older was left by a process that died.
        images_older_than: Two days at least; `None` keeps them all. An image that is staged again is renewed, so an
            old one is not about to be submitted.
        keep: Keys of images that open generations need, however old.
        template: How archived files are named.

    Raises:
        ConfigurationError: images would be deleted that may be in use.
        StorageError: the store refused.
    """
    now = datetime.now(UTC)
    delete_probes(store, older_than=uploads_older_than)
    uploads = []
    for upload in _unfinished(store):
        name = upload.key.removeprefix(store.prefix)
        file = name.removeprefix(QUARANTINE)
        ours = name.startswith(PROBES) or template.matches(file) or _DEFAULT_TEMPLATE.matches(file)
        if ours and now - upload.begun_at >= uploads_older_than:
            try:
                store.abort_upload(upload)
            except StorageError as error:
                if error.error_code != "NoSuchUpload":  # another process did, or it was completed
                    raise
                continue
            uploads.append(upload.key)
    if images_older_than is None:
        return Collected(uploads, [])
    if images_older_than < 2 * REFRESHED_AFTER:
        raise ConfigurationError("Staged images are kept for two days at least: younger ones may be in use.")
    images = []
    for image in (*store.list(store.key(IMAGES)), *store.list(store.key(MEDIA))):
        if not STAGED_FILE.fullmatch(image.key.removeprefix(store.prefix)) or image.key in keep:
            continue
        if now - image.modified_at >= images_older_than:
            existing = store.head(image.key)  # it may have been renewed since it was listed
            if existing is not None and now - existing.modified_at >= images_older_than:
                store.delete(image.key)
                images.append(image.key)
    return Collected(uploads, images)


def delete_probes(store: Store, *, older_than: timedelta) -> None:
    """Delete the objects that an interrupted try-out of a bucket left; they are tiny, and not worth a report. Blocks.

    Args:
        store: The bucket and prefix that were tried out.
        older_than: A try-out takes seconds.

    Raises:
        StorageError: the store refused.
    """
    now = datetime.now(UTC)
    for probe in store.list(store.key(PROBES)):
        if now - probe.modified_at >= older_than:
            store.delete(probe.key)


def _unfinished(store: Store) -> Iterator[Upload]:
    try:
        yield from store.unfinished_uploads(store.prefix)
    except StorageError as error:
        if error.http_status not in (403, 405, 501):  # refused, or unknown to the server
            raise
        logger.warning(
            "Unfinished uploads below %s cannot be listed (%s), and are left. Allow s3:ListBucketMultipartUploads, or "
            "let a rule of the bucket abort them (AbortIncompleteMultipartUpload).",
            store.uri(store.prefix), error.error_code,
        )  # fmt: skip
