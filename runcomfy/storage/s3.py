"""How this project makes S3 clients, and what S3's errors mean to the person who reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    ParamValidationError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from runcomfy.errors import ConfigurationError, RunComfyError, StorageError, StoreUnavailable
from runcomfy.redaction import redact_loggers, strip_query
from runcomfy.storage.address import is_folded
from runcomfy.storage.credentials import credential_trouble

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["is_aws", "is_denied", "make_client", "open_session", "refusal", "storage_errors"]

_ADVICE = {
    "403": "The credentials lack the right. Reading needs s3:GetObject and s3:ListBucket, writing s3:PutObject; "
    "without s3:ListBucket, S3 answers this for a key that does not exist. A bucket may also want encryption, an ACL "
    "or an owner named (docs/setup.md).",
    "400": "S3 answers so where a session token has ended, or where the bucket is in another region. Sign in again, or "
    "name the region.",
    "402": "The provider wants to be paid first. Look at its bill.",
    "404": "There is no such bucket or object. Check the names and the region.",
    "405": "What answers there does not let this be done: it may be read-only, or no S3 server. Check the endpoint.",
    "407": "A proxy on the way wants a login. Check HTTPS_PROXY and NO_PROXY.",
    "429": "The store asks for fewer requests. Try again later.",
    "500": "The store fails at the moment. Try again later.",
    "503": "The store fails at the moment. Try again later.",
    "511": "The network wants a login first. Open a page in a browser.",
    "AccessDenied": "The credentials lack the right. Reading needs s3:GetObject and s3:ListBucket, "
    "writing s3:PutObject and s3:AbortMultipartUpload. A bucket may also want encryption, an ACL or an owner named "
    "(docs/setup.md).",
    "AccountProblem": "The provider has closed the account. Ask there.",
    "AllAccessDisabled": "The provider has closed the account or the bucket. Ask there.",
    "AuthorizationHeaderMalformed": "The bucket is in another region than the one that was named. Name its own.",
    "EntityTooLarge": "The store takes no object of this size. Raise its limit, or that of a proxy before it.",
    "ExpiredToken": "The temporary credentials have ended. Sign in again.",
    "InsufficientStorage": "The store is full. Make room, and run it again.",
    "InternalError": "The store fails at the moment. Try again later.",
    "InvalidAccessKeyId": "The store does not know this access key. Check the key and the endpoint.",
    "InvalidObjectState": "It lies in an archive class, such as Glacier. Restore it first, or name another.",
    "InvalidToken": "The session token is wrong or has ended. Sign in again.",
    "MethodNotAllowed": "The store does not let this be done here: it may be read-only. Check bucket and endpoint.",
    "NoSuchBucket": "There is no such bucket. Create it, or check its name and the endpoint.",
    "NoSuchKey": "There is no such object.",
    "NotImplemented": "The store does not know this operation. Where it lacks conditional writes, switch them off "
    "(conditional_writes=False).",
    "PermanentRedirect": "The bucket is in another region. Name that region.",
    "QuotaExceeded": "The bucket's quota is used up. Make room or raise it, and run it again.",
    "RequestTimeTooSkewed": "The clock of this machine is wrong. Set it.",
    "ServiceUnavailable": "The store fails at the moment. Try again later.",
    "SignatureDoesNotMatch": "The secret key is wrong, or something between here and the store changes requests.",
    "SlowDown": "The store asks for fewer requests. Try again later.",
    "TooManyRequests": "The store asks for fewer requests. Try again later.",
    "XMinioStorageFull": "The store is full. Make room, and run it again.",
}
_OF_KMS = (
    "The KMS key that encrypts there cannot be used: check that it exists and is enabled, and that the credentials "
    "have kms:GenerateDataKey and kms:Decrypt for it (docs/setup.md)."
)
_PASSING = ("ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "Throttling")
_NONSENSE = (
    ArithmeticError, AttributeError, LookupError, ResponseParserError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What botocore and we raise at an answer that is none of S3's."""
_REGION = "x-amz-bucket-region"
_MOST_CHARACTERS = 300  # of what a server says


def open_session(make: Callable[[], boto3.Session] = boto3.Session) -> boto3.Session:
    """Return a new session.

    Args:
        make: Makes it; by default of boto3's own environment, profile or role.

    Raises:
        StorageError: there is no such profile, or AWS's configuration files cannot be read.
    """
    with storage_errors("use", "", ""):
        return make()


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
    except ValueError as error:
        if credential_trouble(error) is not None:
            raise
        raise StorageError(f"Could not set up the store: {error}. Check the endpoint.") from None
    redact_loggers()
    return client


def is_aws(client: S3Client) -> bool:
    """Whether a client talks to AWS itself."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def refusal(error: ClientError) -> tuple[str, int]:
    """Return S3's error code and HTTP status."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return str(error.response.get("Error", {}).get("Code", "") or status or "unknown"), status


def is_denied(error: ClientError) -> bool:
    """Whether rights are refused, as S3 does for what is missing too; not a key, a token, a clock or KMS.

    A HEAD has no code: it is not known which of these it is.
    """
    code, status = refusal(error)
    if error.operation_name.startswith("Head"):
        return status == 403 and code in ("403", "Forbidden", "AccessDenied")
    return (
        status == 403 and code == "AccessDenied" and "kms:" not in str(error.response["Error"].get("Message")).lower()
    )


@contextmanager
def storage_errors(doing: str, bucket: str, key: str, *, by_caller: bool = False) -> Iterator[None]:
    """Turn what boto3 raises into `StorageError`, with S3's code and what to do about it.

    Args:
        doing: What could not be done, as in "read".
        bucket: Where.
        key: The object, or where keys begin; without both, no place is named.
        by_caller: Whether the block runs a caller's code too, whose `ValueError` says nothing of the store.
    """
    named = f"Could not {doing} {f's3://{bucket}/{key}' if bucket else 'the store'}"
    where: dict[str, Any] = {"bucket": bucket or None, "key": key or None}
    try:
        yield
    except RunComfyError:
        raise
    except Exception as error:
        trouble = credential_trouble(error)
        if trouble is not None:
            raise StorageError(f"{named}: {trouble}", error_code=type(error).__name__, **where) from None
        if isinstance(error, ClientError):
            raise _refused(error, named, where) from None
        if isinstance(error, BotoCoreError | Boto3Error):
            raise _broken(error, named, where) from None
        if by_caller or not isinstance(error, _NONSENSE):
            raise
        if isinstance(error, UnicodeEncodeError):
            raise StorageError(
                f"{ascii(named)[1:-1]}: no key can have these characters. Name the object otherwise.", bucket=bucket
            ) from None
        flaw = f"the answer has no {error.args[0]}" if isinstance(error, KeyError) and error.args else "it does not"
        raise StorageError(
            f"{named}: what answers there should speak S3, and {flaw}. Check the endpoint, and what is between this "
            "machine and the store.",
            error_code="UnreadableAnswer", **where,
        ) from None  # fmt: skip


def _refused(error: ClientError, named: str, where: dict[str, Any]) -> StorageError:
    code, status = refusal(error)
    said = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())[:_MOST_CHARACTERS]
    advice = _OF_KMS if code.startswith("KMS.") or "kms:" in said.lower() else _ADVICE.get(code) or said
    is_page = code == str(status) and not error.operation_name.startswith("Head")  # a HEAD has no code in any case
    if (300 <= status < 400 or status == 400) and is_folded(where["key"] or ""):
        advice = "This store takes no key with “.” or “..” as a folder. Name the object without them."
    elif 300 <= status < 400 or (status == 400 and _REGION in _headers(error)):
        advice = _redirected(error)
    elif is_page or not advice:
        advice = "What answers there is no S3 server, or a proxy before one. Check the endpoint."
    # 429 is what R2 answers to a second write of one key within a second
    kind = StoreUnavailable if status >= 500 or status == 429 or code in _PASSING else StorageError
    return kind(f"{named}: {code}. {advice}", error_code=code, http_status=status or None, **where)


def _headers(error: ClientError) -> Mapping[str, str]:
    return error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})


def _redirected(error: ClientError) -> str:
    headers = _headers(error)
    if region := headers.get(_REGION):
        return f"The bucket is in another region, {region}. Name that region."
    host = urlsplit(strip_query(headers.get("location", ""))).netloc.rpartition("@")[2]
    to = f" to {host}" if host else ""
    return (
        f"The endpoint sends this elsewhere{to}, and does not say which region the bucket is in. Give the endpoint "
        "that serves it (with https:// if it has that), and its region."
    )


def _broken(error: Exception, named: str, where: dict[str, Any]) -> StorageError:
    code = type(error).__name__
    if isinstance(error, ConnectionError | HTTPClientError | SSLError):
        endpoint = strip_query(str(getattr(error, "kwargs", {}).get("endpoint_url") or "the store"))
        return StoreUnavailable(
            f"{named}: no connection to {endpoint}, or it broke. Check the endpoint, the network and the certificates.",
            error_code=code, **where,
        )  # fmt: skip
    if isinstance(error, ParamValidationError):  # its own text is AWS's patterns, over several lines
        return StorageError(
            f"{named}: no bucket or key has such a name. A bucket has 3 to 63 letters, digits, dots and hyphens. Check "
            "both.",
            error_code=code, **where,
        )  # fmt: skip
    said = " ".join(str(error).split()).rstrip(".")[:_MOST_CHARACTERS]
    return StorageError(f"{named}: {said}.", error_code=code, **where)
