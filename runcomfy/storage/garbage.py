"""Garbage collection: uploads that a killed process left unfinished, and images staged long ago."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.storage.keys import IMAGES, PROBES, REFRESHED_AFTER, KeyTemplate
from runcomfy.storage.store import Store

__all__ = ["Collected", "collect_garbage"]

_DEFAULT_TEMPLATE = KeyTemplate()
_STAGED_IMAGE = re.compile(rf"{IMAGES}[0-9a-f]{{64}}\.[a-z0-9]+")


@dataclass(frozen=True)
class Collected:
    """What was removed, by its keys."""

    uploads: list[str]
    images: list[str]


def collect_garbage(
    store: Store, *, uploads_older_than: timedelta, images_older_than: timedelta | None = None,
    keep: Collection[str] = (), template: KeyTemplate = _DEFAULT_TEMPLATE,
) -> Collected:  # fmt: skip
    """Abort old unfinished uploads of archived files, and delete old staged images. Blocks.

    The bucket may hold other people's files, so only names that we give are touched: images that are named by their
    SHA-256, and uploads to keys of the template.

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
    for probe in store.list(store.key(PROBES)):  # tiny, and not worth a report
        if now - probe.modified_at >= uploads_older_than:
            store.delete(probe.key)
    uploads = []
    for upload in store.unfinished_uploads(store.prefix):
        ours = template.matches(upload.key.removeprefix(store.prefix))
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
    for image in store.list(store.key(IMAGES)):
        if not _STAGED_IMAGE.fullmatch(image.key.removeprefix(store.prefix)) or image.key in keep:
            continue
        if now - image.modified_at >= images_older_than:
            existing = store.head(image.key)  # it may have been renewed since it was listed
            if existing is not None and now - existing.modified_at >= images_older_than:
                store.delete(image.key)
                images.append(image.key)
    return Collected(uploads, images)
