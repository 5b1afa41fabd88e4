"""What stands in a bucket, what was begun there, and taking it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from runcomfy._s3 import storage_errors
from runcomfy.store import Store

__all__ = ["Listed", "Upload", "abort_upload", "delete", "listed", "unfinished_uploads"]


@dataclass(frozen=True)
class Listed:
    """An object, as a listing tells of it."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was begun, and neither completed nor aborted."""

    key: str
    upload_id: str
    begun_at: datetime


def listed(store: Store, start: str) -> Iterator[Listed]:
    """Yield every object whose full key begins with `start`, in order of their keys; a call for each thousand."""
    with storage_errors("list", store.bucket, start):
        for page in store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=start):
            for found in page.get("Contents", []):
                yield Listed(found["Key"], found["Size"], found["LastModified"])


def unfinished_uploads(store: Store, start: str) -> Iterator[Upload]:
    """Yield every unfinished multipart upload whose full key begins with `start`."""
    with storage_errors("list the uploads of", store.bucket, start):
        for page in store.client.get_paginator("list_multipart_uploads").paginate(Bucket=store.bucket, Prefix=start):
            for found in page.get("Uploads", []):
                yield Upload(found["Key"], found["UploadId"], found["Initiated"])


def abort_upload(store: Store, upload: Upload) -> None:
    """Throw away the parts of an unfinished upload."""
    with storage_errors("abort the upload of", store.bucket, upload.key):
        store.client.abort_multipart_upload(Bucket=store.bucket, Key=upload.key, UploadId=upload.upload_id)


def delete(store: Store, key: str) -> None:
    """Delete an object; that it is not there is no error."""
    with storage_errors("delete", store.bucket, key):
        store.client.delete_object(Bucket=store.bucket, Key=key)
