"""S3 calls on existing objects: list them, read one with its version, replace it; list and abort uploads.

What a server sends is not trusted: bodies are bounded, also when they are unpacked, and an answer without what S3 puts
into it is an error of the store.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from runcomfy.errors import StorageError
from runcomfy.storage.s3 import refusal, storage_errors
from runcomfy.storage.upload import checksum

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
    "read_object",
    "read_version",
    "replace_if",
]

_ATTEMPTS = 5
_MISSING = (("NoSuchKey", 404), ("NoSuchVersion", 404))
_PACKING_BYTES = 1024  # that gzip may add to what is small
_DATE = re.compile(r"[A-Za-z]{3},? \d{1,2}[ -][A-Za-z]{3}[ -]\d{2,4} \d\d:\d\d:\d\d(?: (?:GMT|UTC|[+-]\d{4}))?")


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
            for found in _checked(page).get("Contents", []):
                yield Listed(found["Key"], found["Size"], found["LastModified"], found["ETag"])


def list_folder(client: S3Client, bucket: str, folder: str) -> tuple[list[str], list[Listed]]:
    """Return the folders and the objects directly in a folder; see `Store.list_folder`."""
    folders: list[str] = []
    objects: list[Listed] = []
    with storage_errors("list", bucket, folder):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder, Delimiter="/"):
            folders += [found["Prefix"] for found in _checked(page).get("CommonPrefixes", [])]
            objects += [
                Listed(found["Key"], found["Size"], found["LastModified"], found["ETag"])
                for found in page.get("Contents", [])
            ]
    return folders, objects


def list_uploads(client: S3Client, bucket: str, start: str) -> Iterator[Upload]:
    """Yield every unfinished multipart upload whose key begins with `start`."""
    with storage_errors("list the uploads of", bucket, start):
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=start):
            for found in _checked(page).get("Uploads", []):
                yield Upload(found["Key"], found["UploadId"], found["Initiated"])


def abort_upload(client: S3Client, bucket: str, upload: Upload) -> None:
    """Discard the parts of an unfinished upload."""
    with storage_errors("abort the upload of", bucket, upload.key):
        client.abort_multipart_upload(Bucket=bucket, Key=upload.key, UploadId=upload.upload_id)


def _checked(page: Any) -> Any:
    if not any(name in page for name in ("Bucket", "Contents", "IsTruncated", "KeyCount", "Name")):
        raise ValueError("this is no listing")  # a page for people, with 200
    return page


def read_object(
    client: S3Client, bucket: str, key: str, *, limit_bytes: int, version_id: str | None = None
) -> tuple[bytes, Mapping[str, Any]]:
    """Return a whole object, or one version of it, and the rest of the answer.

    It is unpacked if it is stored with `Content-Encoding: gzip`.

    Raises:
        StorageError: it is larger than the limit, or packed in another way.
        ClientError, BotoCoreError: as boto3 raises them.
    """
    version: Any = {"VersionId": version_id} if version_id is not None else {}
    answer: Any = client.get_object(Bucket=bucket, Key=key, **version)
    encoding = str(answer.get("ContentEncoding", ""))
    sent = limit_bytes + (_PACKING_BYTES if encoding else 0)
    with answer["Body"] as body:
        if answer.get("ContentLength", 0) > sent:
            raise _too_large(bucket, key, limit_bytes, answer["ContentLength"])
        content = bytes(body.read(sent + 1))  # not every answer says how long it is
        if len(content) <= sent:
            body.read(1)  # so that a body that was cut is noticed
    content = _unpacked(content, encoding, bucket, key, limit_bytes)
    if len(content) > limit_bytes:
        raise _too_large(bucket, key, limit_bytes)
    return content, answer


def _too_large(bucket: str, key: str, limit_bytes: int, size_bytes: int | None = None) -> StorageError:
    has = f"has {size_bytes:,} bytes" if size_bytes is not None else "has more bytes than that"
    return StorageError(f"s3://{bucket}/{key} {has}; {limit_bytes:,} are allowed here.", bucket=bucket, key=key)


def _unpacked(content: bytes, encoding: str, bucket: str, key: str, limit_bytes: int) -> bytes:
    for name in reversed([name.strip().lower() for name in encoding.split(",")]):
        if name in ("", "identity", "aws-chunked"):  # the last is how it was sent, which some servers keep
            continue
        if name not in ("gzip", "x-gzip", "deflate"):
            raise StorageError(
                f"s3://{bucket}/{key} is stored with the content encoding {name[:20]}, which is not read here. Store "
                "it as it is, without one.",
                bucket=bucket, key=key,
            )  # fmt: skip
        if name != "deflate" and not content.startswith(b"\x1f\x8b"):
            continue  # the server, or something on the way, has unpacked it
        try:
            content = _inflated(content, limit_bytes)
            if len(content) > limit_bytes:
                raise _too_large(bucket, key, limit_bytes)
        except (zlib.error, OSError, EOFError):
            raise StorageError(
                f"s3://{bucket}/{key} is stored as {name}, and cannot be unpacked: it is damaged. Store it again.",
                bucket=bucket, key=key,
            ) from None  # fmt: skip
    return content


def _inflated(content: bytes, limit_bytes: int) -> bytes:
    """Return what is packed, cut just above the limit; gzip of all members, as appending and parallel writers make."""
    if content.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(limit_bytes + 1)
    packed = zlib.decompressobj()
    unpacked = packed.decompress(content, limit_bytes + 1)
    if len(unpacked) <= limit_bytes and not packed.eof:
        raise zlib.error
    return unpacked


def read_version(
    client: S3Client,
    bucket: str,
    key: str,
    *,
    limit_bytes: int,
    is_missing: Callable[[ClientError], bool] = lambda _: False,
) -> Version | None:
    """Read an object with the tag of its version; see `Store.read_version`.

    Args:
        client: The client of the store.
        bucket: The object's bucket.
        key: The object's key.
        limit_bytes: The most that it may have.
        is_missing: Asked after another refusal: S3 also answers 403 for what is missing.
    """
    with storage_errors("read", bucket, key):
        try:
            content, answer = read_object(client, bucket, key, limit_bytes=limit_bytes)
        except ClientError as error:
            # Any other 404 is that of a proxy, or of a server that is not there yet, and says nothing of the object.
            if refusal(error) in _MISSING or is_missing(error):
                return None
            raise
        modified: datetime = answer["LastModified"]
        now = _date(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))
        return Version(content, answer["ETag"], max(0.0, (now - modified).total_seconds()))


def _date(sent: str) -> datetime:
    """Return the store's own time; the earliest of several `Date` headers, and this machine's if there is none.

    The earliest makes what is stored younger, and so a lease longer: another process is waited for rather than
    overtaken.
    """
    found = []
    for text in _DATE.findall(sent):
        try:
            date = parsedate_to_datetime(text)
        except (TypeError, ValueError, OverflowError):
            continue
        found.append(date if date.tzinfo else date.replace(tzinfo=UTC))
    return min(found, default=datetime.now(UTC))


def replace_if(
    client: S3Client, bucket: str, key: str, body: bytes, *, etag: str | None, content_type: str
) -> str | None:
    """Write an object if its present version is the one with this tag; see `Store.replace_if`."""
    condition: Any = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    for attempt in range(1, _ATTEMPTS + 1):
        with storage_errors("write", bucket, key):
            try:
                return client.put_object(
                    Bucket=bucket, Key=key, Body=body, ContentType=content_type, **checksum(body), **condition
                )["ETag"]
            except ClientError as error:
                code, status = refusal(error)
                if status == 412 or (etag is not None and code == "NoSuchKey"):
                    return None
                if status != 409 or attempt == _ATTEMPTS:  # 409: concurrent writers collided, try again
                    raise
    raise AssertionError("unreachable: the last attempt returns or raises")
