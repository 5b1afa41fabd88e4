"""How people name a bucket, a place in it and its server; what cannot be right is refused in words."""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import urlsplit

from runcomfy.errors import ConfigurationError

__all__ = ["bucket_and_prefix", "check_bucket", "check_endpoint", "is_folded", "normalized", "same_host"]

_SCHEME = re.compile(r"s3://", re.IGNORECASE)
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; the underscore is other servers'
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
# Of other servers: of Ceph (`tenant:bucket`), of old ones, or of one with rules of its own.
_ELSEWHERE = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,255}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Of these services, a host that begins with a bucket's name is that bucket's alone, and never the endpoint.
_OF_ONE_BUCKET = re.compile(
    r"s3[.-]|oss-|cos\.|obs\.|storage\.googleapis\.com$|.*\.(digitaloceanspaces|linodeobjects|vultrobjects)\.com$|"
    r".*\.r2\.cloudflarestorage\.com$"
)


def normalized(uri: str) -> str:
    """Return an address with `s3://` in lower case, and without blanks around it; other texts as they are."""
    return _SCHEME.sub("s3://", uri.strip(), count=1) if _SCHEME.match(uri.strip()) else uri


def bucket_and_prefix(named: str, what: str) -> tuple[str, str]:
    """Return the bucket and the prefix that a setting names.

    Args:
        named: `s3://bucket/prefix`, or a bucket's name.
        what: The setting, for the person who has to change it.

    Raises:
        ConfigurationError: It names no bucket, or one that cannot exist.
    """
    if re.match(r"\s*arn:", named, re.IGNORECASE):
        check_bucket(named.strip(), at_aws=False)
    address = normalized(named).removeprefix("s3://")
    bucket, _, prefix = address.partition("/")
    if not bucket or "://" in address:
        raise ConfigurationError(f"{what} takes s3://bucket/prefix or a bucket's name.")
    check_bucket(bucket, prefix, at_aws=False)  # the store knows its server, and checks more
    return bucket, prefix


def check_bucket(bucket: str, prefix: str = "", *, at_aws: bool = True) -> None:
    """Make sure that a bucket of this name can exist, and that keys below a prefix can be read by everybody.

    Args:
        bucket: Its name.
        prefix: Where keys begin.
        at_aws: Whether AWS's rules apply; other servers have buckets with capitals, or with a tenant before a colon.

    Raises:
        ConfigurationError: It cannot, and why.
    """
    shown = bucket if bucket.isprintable() else ascii(bucket)[1:-1]
    if bucket.lower().startswith("arn:"):
        last = bucket.rpartition(":")[2]
        hint = f": {last}" if _BUCKET.fullmatch(last) else ""
        _refuse(f"{shown} is an ARN. Give the name of the bucket alone{hint}; of an access point, its alias.")
    if "/" in bucket or not bucket:
        _refuse(f"“{shown}” is not the name of a bucket. Name one, without slashes.")
    if re.search(r"\s", bucket) or not bucket.isprintable():
        _refuse(
            f"The bucket's name “{shown}” has a blank, a line break or a character that cannot be seen. Remove it; "
            "look at the end of the file or variable that it comes from."
        )
    if at_aws and bucket != bucket.lower():
        _refuse(f"The bucket's name {shown} has capital letters; buckets are named in lower case: {bucket.lower()}.")
    if not at_aws and not _ELSEWHERE.fullmatch(bucket):
        _refuse(f"{shown} cannot be the name of a bucket: it has letters, digits, dots and hyphens. Check it.")
    if at_aws and not _BUCKET.fullmatch(bucket):
        _refuse(
            f"{shown} cannot be the name of a bucket: it has 3 to 63 letters, digits, dots and hyphens, and begins and "
            "ends with a letter or digit. Check it."
        )
    if _UNPRINTABLE.search(prefix):
        _refuse(
            f"The prefix {ascii(prefix)[1:-1]} has a line break or another character that cannot be seen. Remove it."
        )
    if is_folded(prefix):
        _refuse(f"The prefix {prefix} has “.” or “..” as a folder, which S3 keeps and others resolve. Name it without.")


def is_folded(key: str) -> bool:
    """Whether a key has `.` or `..` as a folder: browsers, proxies and HTTP clients shorten it to another one."""
    return not {".", ".."}.isdisjoint(key.split("/"))


def check_endpoint(endpoint_url: str | None, bucket: str) -> None:
    """Make sure that an endpoint is the server's and not the bucket's: every key would be below the bucket's name.

    Raises:
        ConfigurationError: It contains the bucket.
    """
    try:
        parts = urlsplit(endpoint_url or "")
        host, end = (parts.hostname or ""), parts.path.rstrip("/").rpartition("/")
    except ValueError:
        return  # boto3 refuses it, and says so
    rest = host.removeprefix(f"{bucket}.")
    inside_host = rest != host and bool(_OF_ONE_BUCKET.match(rest))
    if not inside_host and end[2] != bucket:
        return
    port = f":{parts.port}" if parts.port else ""
    right = f"{parts.scheme}://{rest if inside_host else host}{port}{end[0] if end[2] == bucket else parts.path}"
    _refuse(f"The endpoint contains the bucket, {bucket}, which is named apart from it. Give the endpoint as {right}.")


def same_host(endpoint_url: str, bucket: str) -> bool:
    """Whether the endpoint's host begins with the bucket's name, as that of a bucket at some servers."""
    return (urlsplit(endpoint_url).hostname or "").startswith(f"{bucket}.")


def _refuse(sentence: str) -> NoReturn:
    raise ConfigurationError(sentence)
