"""How this project makes S3 clients, and what S3's errors mean to the person who reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    TokenRetrievalError,
)

from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable
from runcomfy.redaction import redact_loggers, strip_query

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["is_aws", "make_client", "refusal", "storage_errors"]

_ADVICE = {
    "403": "The credentials lack the right. Reading needs s3:GetObject and s3:ListBucket, writing s3:PutObject; "
    "without s3:ListBucket, S3 answers this for a key that does not exist.",
    "404": "There is no such bucket or object. Check the names and the region.",
    "AccessDenied": "The credentials lack the right. Reading needs s3:GetObject and s3:ListBucket, "
    "writing s3:PutObject and s3:AbortMultipartUpload.",
    "ExpiredToken": "The temporary credentials have ended. Sign in again.",
    "InvalidAccessKeyId": "The store does not know this access key. Check the key and the endpoint.",
    "InvalidToken": "The session token is wrong or has ended. Sign in again.",
    "NoSuchBucket": "There is no such bucket. Create it, or check its name and the endpoint.",
    "NoSuchKey": "There is no such object.",
    "NotImplemented": "The store does not know this operation. Where it lacks conditional writes, switch them off "
    "(conditional_writes=False).",
    "PermanentRedirect": "The bucket is in another region. Name that region.",
    "RequestTimeTooSkewed": "The clock of this machine is wrong. Set it.",
    "SignatureDoesNotMatch": "The secret key is wrong, or something between here and the store changes requests.",
    "SlowDown": "The store asks for fewer requests. Try again later.",
}
_PASSING = ("ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "Throttling")
_CREDENTIAL_ERRORS = (
    CredentialRetrievalError, NoCredentialsError, PartialCredentialsError, ProfileNotFound, TokenRetrievalError,
)  # fmt: skip


def make_client(
    session: boto3.Session, endpoint_url: str | None, region: str | None, style: Literal["virtual", "path"],
    verify: bool | str,
) -> S3Client:  # fmt: skip
    """Make a client with bounded retries and time-outs and SigV4, and keep signatures out of its logs."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=10,
        read_timeout=60,
        signature_version="s3v4",
        s3={"addressing_style": style, "payload_signing_enabled": False},
        max_pool_connections=32,
    )
    if isinstance(verify, str) and not Path(verify).exists():
        raise ConfigurationError(f"The file of certificates {verify} does not exist.")
    try:
        client: S3Client = session.client(
            "s3", endpoint_url=endpoint_url, region_name=region, verify=verify, config=config
        )
    except (BotoCoreError, ValueError) as error:
        _refuse_transport(error, "set up the store", "s3://")
    redact_loggers()
    return client


def is_aws(client: S3Client) -> bool:
    """Whether a client talks to AWS itself."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def refusal(error: ClientError) -> tuple[str, int]:
    """Return S3's error code and HTTP status."""
    return (
        str(error.response.get("Error", {}).get("Code", "unknown")),
        int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
    )


@contextmanager
def storage_errors(doing: str, bucket: str, key: str) -> Iterator[None]:
    """Turn what boto3 raises into `StorageError`, with S3's code and what to do about it."""
    uri = f"s3://{bucket}/{key}"
    try:
        yield
    except ClientError as error:
        code, status = refusal(error)
        advice = _ADVICE.get(code) or str(error.response.get("Error", {}).get("Message", "")).strip()
        # 429 is what R2 answers to a second write of one key within a second
        kind = StoreUnavailable if status >= 500 or status == 429 or code in _PASSING else StorageError
        raise kind(
            f"Could not {doing} {uri}: {code}. {advice}".rstrip(),
            error_code=code, http_status=status or None, bucket=bucket, key=key,
        ) from None  # fmt: skip
    except (BotoCoreError, Boto3Error) as error:
        _refuse_transport(error, doing, uri, bucket=bucket, key=key)


def _refuse_transport(
    error: Exception, doing: str, uri: str, *, bucket: str | None = None, key: str | None = None
) -> NoReturn:
    named = f"Could not {doing} {uri}"
    if isinstance(error, _CREDENTIAL_ERRORS):
        raise StorageError(
            f"{named}: there are no usable credentials. Give the store keys, a profile or a role.",
            error_code=type(error).__name__, bucket=bucket, key=key,
        ) from None  # fmt: skip
    if isinstance(error, ConnectionError | HTTPClientError | SSLError):
        endpoint = strip_query(str(getattr(error, "kwargs", {}).get("endpoint_url") or "the store"))
        raise StoreUnavailable(
            f"{named}: no connection to {endpoint}, or it broke. Check the endpoint, the network and the certificates.",
            error_code=type(error).__name__, bucket=bucket, key=key,
        ) from None  # fmt: skip
    raise StorageError(f"{named}: {error}", error_code=type(error).__name__, bucket=bucket, key=key) from None
