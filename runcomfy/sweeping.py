"""Take away what nobody needs any more: uploads that a killed process left unfinished, and pictures staged long ago."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.journal.bucket import PROBES
from runcomfy.listing import abort_upload, delete, listed, unfinished_uploads
from runcomfy.staging import IMAGES, REFRESHED_AFTER
from runcomfy.store import Store

__all__ = ["Swept", "sweep"]


@dataclass(frozen=True)
class Swept:
    """What was taken away, by its keys."""

    uploads: list[str]
    images: list[str]


def sweep(
    store: Store, *, uploads_older_than: timedelta, images_older_than: timedelta | None = None,
    keep: Collection[str] = (),
) -> Swept:  # fmt: skip
    """Abort old unfinished uploads, and delete old staged pictures, below the store's prefix. Blocks.

    Args:
        store: The bucket and prefix; nothing else is touched.
        uploads_older_than: An upload takes minutes: what was begun before that was left by a process that died.
        images_older_than: Two days at least, `None` keeps them all. A picture that is staged again is renewed, so one
            that is old is not about to be submitted.
        keep: Keys of pictures that generations under way need, however old.

    Raises:
        ConfigurationError: pictures would be deleted that may be in use.
        StorageError: the store refused.
    """
    now = datetime.now(UTC)
    for probe in listed(store, store.key(PROBES)):  # tiny, and nobody's business: not reported
        if now - probe.modified_at >= uploads_older_than:
            delete(store, probe.key)
    uploads = []
    for upload in unfinished_uploads(store, store.prefix):
        if now - upload.begun_at >= uploads_older_than:
            try:
                abort_upload(store, upload)
            except StorageError as error:
                if error.error_code != "NoSuchUpload":  # somebody else did, or it was completed
                    raise
                continue
            uploads.append(upload.key)
    if images_older_than is None:
        return Swept(uploads, [])
    if images_older_than < 2 * REFRESHED_AFTER:
        raise ConfigurationError("Staged pictures are kept for two days at least: younger ones may be in use.")
    images = []
    for image in listed(store, store.key(IMAGES)):
        if now - image.modified_at >= images_older_than and image.key not in keep:
            standing = store.head(image.key)  # it may have been renewed since it was listed
            if standing is not None and now - standing.modified_at >= images_older_than:
                delete(store, image.key)
                images.append(image.key)
    return Swept(uploads, images)
