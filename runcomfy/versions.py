"""Small objects that several writers change: read one with its version, and write the next version if it still stands.

One PUT each: a conditional PUT has exactly one winner, on AWS S3 as on the other servers that have it at all.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from runcomfy._s3 import refusal, storage_errors
from runcomfy.errors import StorageError
from runcomfy.store import Store

__all__ = ["Version", "put_if", "read_version"]

_ATTEMPTS = 5


@dataclass(frozen=True)
class Version:
    """An object as it stands, and the tag by which it is told from the next version."""

    body: bytes
    etag: str
    age_seconds: float
    """Since it was written, by the store's own clock."""


def read_version(store: Store, key: str, *, limit_bytes: int) -> Version | None:
    """Read an object with the tag of its version; `None` where it is not there.

    Raises:
        StorageError: it is larger than the limit, or the store refused.
    """
    with storage_errors("read", store.bucket, key):
        try:
            answer = store.client.get_object(Bucket=store.bucket, Key=key)
        except ClientError as error:
            if refusal(error)[0] == "NoSuchKey":
                return None
            raise
        with answer["Body"] as body:
            if answer["ContentLength"] > limit_bytes:
                raise StorageError(f"{store.uri(key)} is larger than {limit_bytes:,} bytes.", key=key)
            content = bytes(body.read())
    sent = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = email.utils.parsedate_to_datetime(sent) if sent else datetime.now(UTC)
    return Version(content, answer["ETag"], max(0.0, (now - answer["LastModified"]).total_seconds()))


def put_if(store: Store, key: str, body: bytes, *, etag: str | None, content_type: str) -> str | None:
    """Write an object if its present version is the one with this tag (`None`: if there is none).

    Returns:
        The tag of what was written, or `None` if the store refused. It also refuses the repetition of a write whose
        answer was lost: who must know reads the object.

    Raises:
        StorageError: the store failed, or does not know conditional writes (`error_code` is `NotImplemented`).
    """
    for attempt in range(1, _ATTEMPTS + 1):
        with storage_errors("write", store.bucket, key):
            try:
                if etag is None:
                    return store.client.put_object(
                        Bucket=store.bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
                    )["ETag"]
                return store.client.put_object(
                    Bucket=store.bucket, Key=key, Body=body, ContentType=content_type, IfMatch=etag
                )["ETag"]
            except ClientError as error:
                code, status = refusal(error)
                if status == 412 or (etag is not None and code == "NoSuchKey"):
                    return None
                if status != 409 or attempt == _ATTEMPTS:  # 409 is S3's word for writers that met: once more
                    raise
    raise AssertionError("unreachable: the last attempt returns or raises")
