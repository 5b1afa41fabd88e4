"""The boto3 clients of one store, for the region that each bucket says it is in."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.exceptions import ClientError

from runcomfy.storage.adapting import adapt
from runcomfy.storage.bucket_settings import PLAIN, BucketSettings
from runcomfy.storage.s3 import is_aws, make_client, refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Clients"]

_REGION = re.compile(r"(?![0-9-])[A-Za-z0-9-]{1,63}(?<!-)")


class Clients:
    """One client for each address and region, made when it is first needed; thread-safe, which a session is not.

    Args:
        session: Credentials.
        endpoint_url: The store's address, if it is not AWS.
        region: Where the settings say that its buckets are.
        style: Whether the bucket is in the host name or in the path; `auto` is right for most.
        verify: False, or a file of certificates.
        bucket: The store's own bucket.
        settings: What its rules want with each request.
    """

    def __init__(
        self, session: boto3.Session, endpoint_url: str | None, region: str | None,
        style: Literal["auto", "virtual", "path"], verify: bool | str, bucket: str, settings: BucketSettings = PLAIN,
    ) -> None:  # fmt: skip
        self._session, self._verify, self._settings = session, verify, region
        self._bucket, self._wanted = bucket, settings
        self._made: dict[tuple[str | None, str | None], S3Client] = {}
        self._named: dict[str, str] = {}
        self._lock = threading.Lock()
        at_address: Literal["virtual", "path"] = "path" if style == "auto" else style
        self._style: Literal["virtual", "path"] = "virtual" if endpoint_url is None and style == "auto" else at_address
        self.own = self.at(endpoint_url, region)
        """The client of the store's own bucket."""
        if endpoint_url is None and not is_aws(self.own):
            # boto3 found another endpoint in the environment or in a profile (AWS_ENDPOINT_URL_S3).
            endpoint_url, self._style = self.own.meta.endpoint_url, at_address
            self.own = self.at(endpoint_url, region)
        self.endpoint_url = endpoint_url

    def at(self, endpoint_url: str | None, region: str | None) -> S3Client:
        """Return the client for this address (`None` is AWS) and region (boto3 chooses where it is `None`)."""
        region = region or ("us-east-1" if endpoint_url else None)
        with self._lock:
            if (endpoint_url, region) not in self._made:
                client = make_client(self._session, endpoint_url, region, self._style, self._verify)
                adapt(client, self._bucket, self._wanted)
                self._made[endpoint_url, region] = client
            return self._made[endpoint_url, region]

    def region_of(self, bucket: str) -> str | None:
        """Return the region that a bucket has named, or else that of the settings."""
        return self._named.get(bucket) or self._settings

    def is_known(self, bucket: str) -> bool:
        """Whether a bucket has named its region."""
        return bucket in self._named

    def remember(self, bucket: str, region: str) -> None:
        """Use this region for a bucket from now on."""
        self._named[bucket] = region

    def probe(self, bucket: str, *, is_own: bool) -> None:
        """Send a HeadBucket, and remember the region that its answer names, even if it is a refusal (301, 400, 403).

        boto3 follows a bucket to another region by itself, so that every call succeeds but one: the URLs that it signs
        are for the region of the settings, and anyone who reads them is refused.

        Raises:
            ClientError, BotoCoreError: as boto3 raises them.
        """
        client = self.own
        try:
            answer: Any = client.head_bucket(Bucket=bucket)
        except ClientError as error:
            named = _named(error.response)
            if named is None or named == client.meta.region_name:
                raise
            client = self.at(self.endpoint_url, named)
            try:
                client.head_bucket(Bucket=bucket)
            except ClientError as second:
                if refusal(second)[1] != 403:
                    raise
                self._use(client, bucket, named, is_own=is_own)  # it is there, and may not be asked for as a whole
                raise
        else:
            named = _named(answer)
            # Elsewhere, a server that takes our region at once may name one that it does not take.
            if named and (is_aws(client) or answer["ResponseMetadata"].get("RetryAttempts")):
                client = self.at(self.endpoint_url, named)
        self._use(client, bucket, named, is_own=is_own)

    def _use(self, client: S3Client, bucket: str, named: str | None, *, is_own: bool) -> None:
        if named:
            self.remember(bucket, named)
        if is_own:
            self.own = client


def _named(answer: Any) -> str | None:
    name = str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region", ""))
    return name if _REGION.fullmatch(name) else None
