"""Old versions of objects, in a bucket that keeps them: find them, read them, delete them for good.

In a bucket with versioning, an object that is deleted or replaced is still there for everyone who asks for the version
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runcomfy.errors import StorageError
from runcomfy.storage.objects import read_object
from runcomfy.storage.s3 import storage_errors
from runcomfy.storage.store import Store

__all__ = ["OldVersion", "delete_for_good", "delete_old", "old_versions", "read_old", "why_unlisted"]

_UNKNOWN_THERE = (400, 403, 404, 405, 501)


@dataclass(frozen=True)
class OldVersion:
    """A version of an object that is not its present one, or the mark that it was deleted."""

    key: str
    version_id: str
    size_bytes: int
    is_marker: bool
    """Whether it only says that the object was deleted."""


def why_unlisted(store: Store) -> str:
    """Return why old versions of a bucket's objects cannot be listed; empty if they can, or if there are none. Blocks.

    Raises:
        StorageError: the store could not be reached.
    """
    try:
        with storage_errors("list the versions of", store.bucket, store.prefix):
            store.client.list_object_versions(Bucket=store.bucket, Prefix=store.prefix, MaxKeys=1)
        return ""
    except StorageError as error:
        if error.http_status not in _UNKNOWN_THERE:
            raise
        refused = str(error.error_code)
    try:
        with storage_errors("ask for the versioning of", store.bucket, store.prefix):
            if not store.client.get_bucket_versioning(Bucket=store.bucket).get("Status"):
                return ""  # it never had any
    except StorageError as error:
        if error.http_status not in _UNKNOWN_THERE:
            raise
    return refused


def old_versions(store: Store, start: str, bucket: str | None = None) -> Iterator[OldVersion]:
    """Yield what is not the present version of an object whose key begins with `start`; one call per thousand.

    Raises:
        StorageError: the store refused, or does not know versions: see `why_unlisted`.
    """
    bucket = bucket or store.bucket
    with storage_errors("list the versions of", bucket, start):
        for page in store.client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=start):
            for found in page.get("Versions", []):
                if not found["IsLatest"]:
                    yield OldVersion(found["Key"], found["VersionId"], found["Size"], is_marker=False)
            for marker in page.get("DeleteMarkers", []):
                yield OldVersion(marker["Key"], marker["VersionId"], 0, is_marker=True)


def read_old(store: Store, version: OldVersion, *, limit_bytes: int) -> bytes:
    """Return the bytes of an old version.

    Raises:
        StorageError: it is larger than the limit, or the store refused.
    """
    with storage_errors("read", store.bucket, version.key):
        return read_object(
            store.client, store.bucket, version.key, limit_bytes=limit_bytes, version_id=version.version_id
        )[0]


def delete_old(store: Store, version: OldVersion, bucket: str | None = None) -> None:
    """Delete one version; one that is gone is no error.

    Raises:
        StorageError: the store refused: a right is missing (`s3:DeleteObjectVersion`), or a lock holds it.
    """
    bucket = bucket or store.bucket
    with storage_errors("delete an old version of", bucket, version.key):
        store.client.delete_object(Bucket=bucket, Key=version.key, VersionId=version.version_id)


def delete_for_good(store: Store, key: str, bucket: str | None = None, *, versions: bool) -> None:
    """Delete an object, and all versions of it.

    Args:
        store: Its store.
        key: Its full key.
        bucket: Its bucket, if it is another.
        versions: Whether versions can be listed.

    Raises:
        StorageError: the store refused; repeat it when the reason is gone.
    """
    store.delete(key, bucket)
    for version in list(old_versions(store, key, bucket)) if versions else ():
        if version.key == key:
            delete_old(store, version, bucket)
