"""A bucket and a prefix: list, read, create without overwriting, compare and swap, delete, sign.

Every write that may race is conditional. Stores fail to support conditional writes in three ways: 501, ignoring the
condition, ignoring it on multipart completion only; so each creation checks first, and adds the condition second.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

import boto3
from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict

from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable
from runcomfy.storage import objects as _objects
from runcomfy.storage.address import bucket_and_prefix, check_bucket, check_endpoint, is_folded, same_host
from runcomfy.storage.bucket_settings import PLAIN, BucketSettings
from runcomfy.storage.clients import Clients
from runcomfy.storage.copying import copy
from runcomfy.storage.credentials import LONGEST_SIGNATURE, CredentialLife
from runcomfy.storage.keys import PROBES
from runcomfy.storage.objects import Listed, Upload, Version
from runcomfy.storage.s3 import is_aws, is_denied, open_session, refusal, storage_errors
from runcomfy.storage.upload import LARGEST_PUT_BYTES, Body, CreateOnly, SupportsRead, checksum, upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Listed", "ObjectFacts", "Store", "SupportsRead", "Upload", "Version"]

_ATTEMPTS = 5
_CHECKED_SECONDS = 60.0
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class ObjectFacts(BaseModel):
    """What a store says of an object without sending it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    size_bytes: int
    etag: str
    content_type: str
    metadata: Mapping[str, str]
    modified_at: datetime


class Store:
    """A bucket and a prefix, and the boto3 clients for them, made once; thread-safe.

    Keys are full keys in every method; `key` puts the prefix before a name. All methods block: call them in threads.

    Args:
        bucket: The bucket that is written to.
        prefix: Put before every name; normalised to no leading and one trailing slash.
        session: Credentials and region; what boto3 finds by default.
        endpoint_url: The store's address, if it is not AWS.
        public_endpoint_url: The address at which others reach the same store; only signing uses it.
        region_name: Where the bucket is; the session's region by default. What the bucket itself says takes precedence.
        addressing_style: `auto` is virtual-hosted on AWS and path style at a custom endpoint.
        verify: False, or a file of certificates, for stores with certificates of their own.
        conditional_writes: False for a store without them; then only the check before each creation protects.
        settings: What the bucket's rules want with each request: encryption, ACL, who pays, its owner.

    Raises:
        ConfigurationError: No bucket can have this name, or the endpoint contains it.
        StorageError: There are no usable credentials.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        session: boto3.Session | None = None,
        endpoint_url: str | None = None,
        public_endpoint_url: str | None = None,
        region_name: str | None = None,
        addressing_style: Literal["auto", "virtual", "path"] = "auto",
        verify: bool | str = True,
        conditional_writes: bool = True,
        settings: BucketSettings = PLAIN,
    ) -> None:
        check_bucket(bucket, prefix, at_aws=False)
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        session = session or open_session()
        self._conditional = self._conditional_copies = conditional_writes
        self.settings = settings
        """What the bucket's rules want with each request."""
        with storage_errors("use", bucket, self.prefix):
            region = region_name or session.region_name
            self._clients = Clients(session, endpoint_url, region, addressing_style, verify, bucket, settings)
            self._life = CredentialLife(session.get_credentials())
        if is_aws(self._clients.own):
            check_bucket(bucket, prefix)
        self.endpoint_url = self._clients.endpoint_url
        """The store's address, if it is not AWS."""
        self.public_endpoint_url = public_endpoint_url or self.endpoint_url
        """The address that URLs are signed for, if it is not AWS."""
        self.region_name = region
        """The bucket's region by the settings; what the bucket itself says takes precedence."""
        self.verify = verify
        """Which certificates are trusted, in boto3's form."""
        for endpoint in {self.endpoint_url, self.public_endpoint_url}:
            check_endpoint(endpoint, bucket)
        self._checked_until = -math.inf
        self._reads_own: bool | None = None

    @classmethod
    def from_uri(cls, uri: str, **options: Any) -> Self:
        """Make a store from `s3://bucket/some/prefix`; options are those of the class."""
        if "://" not in uri:
            raise ConfigurationError("A store is named s3://bucket/prefix.")
        return cls(*bucket_and_prefix(uri, "A store"), **options)

    @property
    def client(self) -> S3Client:
        """The boto3 client of the bucket, for the calls that this class has no method for; thread-safe."""
        return self._clients.own

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing in it changes, and its clients cannot be copied

    def __repr__(self) -> str:
        return f"Store({self.uri(self.prefix)!r})"

    def uri(self, key: str, bucket: str | None = None) -> str:
        """Return `s3://bucket/key`."""
        return f"s3://{bucket or self.bucket}/{key}"

    def key(self, name: str) -> str:
        """Return the full key of a name under the prefix."""
        return f"{self.prefix}{name.lstrip('/')}"

    def check(self) -> None:
        """Check that the bucket exists and may be used, before anything is paid for.

        A success is valid for a minute: a thousand submissions ask once. Rights on a prefix only do not allow to ask
        for the bucket: then a small object is written below it, and deleted.

        Raises:
            StorageError: it does not exist, is not ours, is elsewhere, or cannot be reached or written to.
        """
        if time.monotonic() < self._checked_until:
            return
        with storage_errors("check", self.bucket, self.prefix):
            try:
                self._clients.probe(self.bucket, is_own=True)
            except ClientError as error:
                status = refusal(error)[1]
                if status == 404 and self.endpoint_url and same_host(self.endpoint_url, self.bucket):
                    raise StorageError(
                        f"Could not check {self.uri(self.prefix)}: there is no such bucket at {self.endpoint_url}, "
                        "whose host begins with the bucket's name. Give the endpoint without it.",
                        error_code="404", http_status=404, bucket=self.bucket,
                    ) from None  # fmt: skip
                if status != 403:
                    raise
                with self._probe():
                    pass
        self._checked_until = time.monotonic() + _CHECKED_SECONDS

    @contextmanager
    def _probe(self) -> Iterator[str]:
        """Write a small object below the prefix, and delete it; a name that nothing else reads, and garbage if left."""
        key = self.key(f"{PROBES}{secrets.token_hex(16)}")
        self.put(key, b"RunComfy for Prefect tries out this bucket. Delete me.\n", content_type="text/plain")
        try:
            yield key
        finally:
            with suppress(StorageError):  # a right that nothing else needs
                self.delete(key)

    def _is_missing(self, error: ClientError, key: str, bucket: str) -> bool:
        """Return whether an object that may not be read (403) does not exist: without s3:ListBucket, S3 says no more.

        A listing says. Where the right to that is refused too, objects of ours can be read if one is that was just
        written, and then this one is missing; if it is not, a conditional write does not overwrite it. No other refusal
        says anything: a clock that is wrong, or a key that has ended, is refused for what exists as well.
        """
        if not is_denied(error):
            return False
        try:
            with storage_errors("list", bucket, key):
                page = self.client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
            return all(found["Key"] != key for found in page.get("Contents", [])) and "IsTruncated" in page
        except StorageError as refused:
            if (refused.http_status, refused.error_code) != (403, "AccessDenied") or not self._conditional:
                return False
        if bucket != self.bucket or not key.startswith(self.prefix):
            return False
        if self._reads_own is None:
            try:
                with self._probe() as written:
                    self.read(written, limit_bytes=1024)
                self._reads_own = True
            except StorageError as refused:
                if (refused.http_status, refused.error_code) != (403, "AccessDenied"):
                    return False
                self._reads_own = False
        return self._reads_own

    def region_of(self, bucket: str | None = None) -> str | None:
        """Return the region that URLs are signed for: the one that the bucket named, or that of the settings."""
        return self._clients.region_of(bucket or self.bucket)

    def sign_for(self, region: str, bucket: str | None = None) -> None:
        """Sign for this region from now on."""
        self._clients.remember(bucket or self.bucket, region)

    def find_region(self, bucket: str | None = None) -> None:
        """Ask a bucket which region it is in, unless that is known; if it does not say, the settings apply."""
        bucket = bucket or self.bucket
        if not self._clients.is_known(bucket):
            with suppress(StorageError), storage_errors("check", bucket, ""):
                self._clients.probe(bucket, is_own=bucket == self.bucket)

    def head(self, key: str, bucket: str | None = None) -> ObjectFacts | None:
        """Return the facts of an object; `None` if it does not exist. A missing bucket looks the same to S3."""
        bucket = bucket or self.bucket
        with storage_errors("check", bucket, key):
            try:
                answer = self.client.head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                status = refusal(error)[1]
                if status == 404 or self._is_missing(error, key, bucket):
                    return None
                raise
            return ObjectFacts(
                key=key,
                size_bytes=answer["ContentLength"],
                etag=answer["ETag"],
                content_type=answer.get("ContentType", ""),
                metadata=answer.get("Metadata", {}),
                modified_at=answer["LastModified"],
            )

    def read(self, key: str, bucket: str | None = None, *, limit_bytes: int) -> bytes:
        """Read a whole object, unpacked if it is stored with `Content-Encoding: gzip`.

        Raises:
            StorageError: it is larger than the limit, before or after that, or does not exist.
        """
        bucket = bucket or self.bucket
        with storage_errors("read", bucket, key):
            return _objects.read_object(self.client, bucket, key, limit_bytes=limit_bytes)[0]

    def put_new(
        self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] = _NO_METADATA,
        known_absent: bool = False,
    ) -> bool:  # fmt: skip
        """Create an object unless its key exists; return whether this call created it.

        A store without conditional writes is asked once, answers 501, and is written to without a condition from then
        on: of two that race there, both may believe that they created it. `known_absent` says that the caller has just
        seen that there is no such object, which saves a call.
        """

        def send() -> None:
            self.client.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, Metadata=dict(metadata),
                **checksum(body), **self._condition(),
            )  # fmt: skip

        def is_ours(existing: ObjectFacts) -> bool:
            return existing.size_bytes == len(body) and self.read(existing.key, limit_bytes=len(body)) == body

        return self._create(key, send, is_ours, known_absent=known_absent)

    def put_file(
        self, key: str, body: Body, *, content_type: str, metadata: Mapping[str, str], known_absent: bool = False,
        largest_put_bytes: int = LARGEST_PUT_BYTES,
    ) -> bool:  # fmt: skip
        """Create an object from a file unless its key exists; return whether this call created it.

        One conditional PUT, so that the object is visible whole or not at all; in parts where that is too much for S3
        (5 GiB) or for this store (413), and then nothing is left behind, whatever fails. Do not use it as a lock: of
        two that race with parts, some stores let both win (SeaweedFS 4.48 does). `known_absent` is that of `put_new`.
        """

        def send() -> None:
            upload(
                self.client, self.bucket, key, body, content_type=content_type, metadata=metadata,
                condition=self._condition(), largest_put_bytes=largest_put_bytes,
            )  # fmt: skip

        def is_ours(existing: ObjectFacts) -> bool:
            return existing.size_bytes == len(body) and bool(metadata) and dict(existing.metadata) == dict(metadata)

        return self._create(key, send, is_ours, known_absent=known_absent)

    def copy_new(
        self, source: str, key: str, *, known_absent: bool = False, largest_copy_bytes: int = LARGEST_PUT_BYTES
    ) -> bool:
        """Copy an object of this bucket, with its metadata and type, unless the new key exists; return whether it was.

        The server copies it, at once up to 5 GiB, otherwise in parts. `known_absent` is that of `put_new`.

        Raises:
            StorageError: the store refused, or there is no such source.
        """
        original = self.head(source)
        if original is None:
            raise StorageError(f"There is no object at {self.uri(source)} to copy.", error_code="404", http_status=404)

        def send() -> None:
            copy(
                self.client,
                self.bucket,
                source,
                key,
                condition=self._condition() if self._conditional_copies else {},
                largest_copy_bytes=largest_copy_bytes,
            )

        def is_ours(existing: ObjectFacts) -> bool:
            return existing.size_bytes == original.size_bytes and existing.metadata == original.metadata

        return self._create(key, send, is_ours, known_absent=known_absent, is_copy=True)

    def replace_file(self, key: str, body: Body, *, content_type: str, metadata: Mapping[str, str]) -> None:
        """Write an object from a file, whether or not there is one."""
        with storage_errors("write", self.bucket, key):
            upload(self.client, self.bucket, key, body, content_type=content_type, metadata=metadata, condition={})

    def _create(
        self, key: str, send: Callable[[], None], is_ours: Callable[[ObjectFacts], bool], *,
        known_absent: bool, is_copy: bool = False,
    ) -> bool:  # fmt: skip
        for attempt in range(1, _ATTEMPTS + 1):
            if not (known_absent and attempt == 1) and self.head(key) is not None:
                return False
            with storage_errors("create", self.bucket, key):
                try:
                    send()
                    return True
                except ClientError as error:
                    code, status = refusal(error)
                    if (status == 412 or code == "NoSuchUpload") and (existing := self.head(key)) is not None:
                        # an earlier attempt, whose answer was lost, may have created it
                        repeated = error.response["ResponseMetadata"].get("RetryAttempts")
                        return bool(repeated) and is_ours(existing)
                    if status == 412 and attempt == _ATTEMPTS:
                        raise StoreUnavailable(
                            f"The store refuses to create {self.uri(key)} because it exists, but it does not. Check "
                            "what is between here and the store, and run it again.",
                            key=key,
                        ) from None
                    if status not in (409, 412, 501) or attempt == _ATTEMPTS:
                        raise
                    if status == 501 and is_copy:  # says nothing of other writes: S3 itself learned it later
                        self._conditional_copies = False
                    elif status == 501:
                        self._conditional = False
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _condition(self) -> CreateOnly:
        """Return the condition that makes a write fail if its key exists, as long as the store understands it."""
        return {"IfNoneMatch": "*"} if self._conditional else {}

    def put(self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str] = _NO_METADATA) -> None:
        """Write an object, and overwrite an existing one."""
        with storage_errors("write", self.bucket, key):
            self.client.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, Metadata=dict(metadata),
                **checksum(body),
            )  # fmt: skip

    def replace_if(self, key: str, body: bytes, *, etag: str | None, content_type: str) -> str | None:
        """Write an object if its present version has this tag (`None`: if there is none).

        One PUT: a conditional PUT has exactly one winner, on AWS S3 and on all other servers that support it.

        Returns:
            The tag of what was written, or `None` if the store refused. It also refuses the repetition of a write whose
            answer was lost: read the object to be sure.

        Raises:
            StorageError: the store failed, or does not support conditional writes (`error_code` is `NotImplemented`).
        """
        return _objects.replace_if(self.client, self.bucket, key, body, etag=etag, content_type=content_type)

    def read_version(self, key: str, *, limit_bytes: int) -> Version | None:
        """Read an object with the tag of its version, for `replace_if`; `None` if it does not exist.

        Raises:
            StorageError: it is larger than the limit, or the store refused.
        """
        return _objects.read_version(
            self.client, self.bucket, key,
            limit_bytes=limit_bytes, is_missing=lambda error: self._is_missing(error, key, self.bucket),
        )  # fmt: skip

    def delete(self, key: str, bucket: str | None = None) -> None:
        """Delete an object; a missing one is no error."""
        bucket = bucket or self.bucket
        with storage_errors("delete", bucket, key):
            self.client.delete_object(Bucket=bucket, Key=key)

    def list(self, start: str, bucket: str | None = None) -> Iterator[Listed]:
        """Yield every object whose full key begins with `start`, in order of their keys; one call per thousand."""
        return _objects.list_objects(self.client, bucket or self.bucket, start)

    def list_folder(self, folder: str) -> tuple[Sequence[str], Sequence[Listed]]:
        """Return the full keys of the folders that are directly in a folder, and the objects there.

        Args:
            folder: Its full key, with a slash at the end; empty for the whole bucket.
        """
        return _objects.list_folder(self.client, self.bucket, folder)

    def unfinished_uploads(self, start: str) -> Iterator[Upload]:
        """Yield every unfinished multipart upload whose full key begins with `start`."""
        return _objects.list_uploads(self.client, self.bucket, start)

    def abort_upload(self, upload: Upload) -> None:
        """Discard the parts of an unfinished upload."""
        _objects.abort_upload(self.client, self.bucket, upload)

    @contextmanager
    def open(self, key: str, bucket: str | None = None) -> Iterator[SupportsRead]:
        """Open an object to read it in pieces; reading may raise boto3's errors."""
        bucket = bucket or self.bucket
        with storage_errors("read", bucket, key):
            opened = self.client.get_object(Bucket=bucket, Key=key)["Body"]
        with storage_errors("read", bucket, key, by_caller=True), opened as body:
            yield body

    def sign(
        self, key: str, lifetime: timedelta, bucket: str | None = None, *, region: str | None = None, own: bool = False
    ) -> str:
        """Return a URL with which anyone can read the object for this long; it is a secret.

        Args:
            key: The object.
            lifetime: A second to seven days.
            bucket: Its bucket, if it is another.
            region: The region to sign for, instead of the one that the bucket or the settings name.
            own: For our own address instead of the public one.

        Raises:
            ConfigurationError: The lifetime is longer than S3 or the credentials allow, or AWS's region is not known.
            StorageError: There are no credentials.
        """
        if not timedelta(seconds=1) <= lifetime <= LONGEST_SIGNATURE:
            raise ConfigurationError(f"A signed URL can live for a second to seven days, not {lifetime}.")
        bucket = bucket or self.bucket
        if is_folded(key):
            raise ConfigurationError(
                f"{self.uri(key, bucket)} has “.” or “..” as a folder: who reads it by a URL asks for another key. "
                "Copy it to a name without them."
            )
        region, endpoint_url = region or self.region_of(bucket), self.endpoint_url if own else self.public_endpoint_url
        if not (region or endpoint_url):
            raise ConfigurationError("A URL that is signed for the wrong region is refused. Name the bucket's region.")
        seconds = int(lifetime.total_seconds())
        with storage_errors("sign", bucket, key):
            self._life.outlast(seconds)
            url: str = self._clients.at(endpoint_url, region).generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
            )
        return url

    def credentials_remaining(self) -> timedelta | None:
        """Return how long the credentials are still valid, in whole seconds; `None` if no end is known.

        Static keys have no end. The end of a session token that was given as such (`AWS_SESSION_TOKEN`) is unknown:
        `None` as well, as for credentials that outlive every signature (seven days).
        """
        with storage_errors("renew the credentials of", self.bucket, self.prefix):
            return self._life.remaining()
