"""S3 calls on existing objects: list them, read one with its version, replace it; list and abort uploads."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from runcomfy.errors import StorageError
from runcomfy.storage.s3 import refusal, storage_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "Listed",
    "Upload",
    "Version",
    "abort_upload",
    "list_folder",
    "list_objects",
    "list_uploads",
    "read_version",
    "replace_if",
]

_ATTEMPTS = 5


@dataclass(frozen=True)
class Listed:
    """An object, as a listing describes it."""

    key: str
    size_bytes: int
    modified_at: datetime
    etag: str


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was begun, and neither completed nor aborted."""

    key: str
    upload_id: str
    begun_at: datetime


@dataclass(frozen=True)
class Version:
    """An object's present content, and the tag that identifies this version."""

    body: bytes
    etag: str
    age_seconds: float
    """Since it was written, by the store's own clock."""


def list_objects(client: S3Client, bucket: str, start: str) -> Iterator[Listed]:
    """Yield every object whose key begins with `start`; see `Store.list`."""
    with storage_errors("list", bucket, start):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
            for found in page.get("Contents", []):
                yield Listed(found["Key"], found["Size"], found["LastModified"], found["ETag"])


def list_folder(client: S3Client, bucket: str, folder: str) -> tuple[list[str], list[Listed]]:
    """Return the folders and the objects directly in a folder; see `Store.list_folder`."""
    folders: list[str] = []
    objects: list[Listed] = []
    with storage_errors("list", bucket, folder):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder, Delimiter="/"):
            folders += [found["Prefix"] for found in page.get("CommonPrefixes", [])]
            objects += [
                Listed(found["Key"], found["Size"], found["LastModified"], found["ETag"])
                for found in page.get("Contents", [])
            ]
    return folders, objects


def list_uploads(client: S3Client, bucket: str, start: str) -> Iterator[Upload]:
    """Yield every unfinished multipart upload whose key begins with `start`."""
    with storage_errors("list the uploads of", bucket, start):
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=start):
            for found in page.get("Uploads", []):
                yield Upload(found["Key"], found["UploadId"], found["Initiated"])


def abort_upload(client: S3Client, bucket: str, upload: Upload) -> None:
    """Discard the parts of an unfinished upload."""
    with storage_errors("abort the upload of", bucket, upload.key):
        client.abort_multipart_upload(Bucket=bucket, Key=upload.key, UploadId=upload.upload_id)


def read_version(client: S3Client, bucket: str, key: str, *, limit_bytes: int) -> Version | None:
    """Read an object with the tag of its version; see `Store.read_version`."""
    with storage_errors("read", bucket, key):
        try:
            answer = client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if refusal(error)[0] == "NoSuchKey":
                return None
            raise
        with answer["Body"] as body:
            if answer["ContentLength"] > limit_bytes:
                raise StorageError(f"s3://{bucket}/{key} is larger than {limit_bytes:,} bytes.", key=key)
            content = bytes(body.read())
    sent = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = email.utils.parsedate_to_datetime(sent) if sent else datetime.now(UTC)
    return Version(content, answer["ETag"], max(0.0, (now - answer["LastModified"]).total_seconds()))


def replace_if(
    client: S3Client, bucket: str, key: str, body: bytes, *, etag: str | None, content_type: str
) -> str | None:
    """Write an object if its present version is the one with this tag; see `Store.replace_if`."""
    for attempt in range(1, _ATTEMPTS + 1):
        with storage_errors("write", bucket, key):
            try:
                if etag is None:
                    return client.put_object(
                        Bucket=bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
                    )["ETag"]
                return client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, IfMatch=etag)[
                    "ETag"
                ]
            except ClientError as error:
                code, status = refusal(error)
                if status == 412 or (etag is not None and code == "NoSuchKey"):
                    return None
                if status != 409 or attempt == _ATTEMPTS:  # 409: concurrent writers collided, try again
                    raise
    raise AssertionError("unreachable: the last attempt returns or raises")
