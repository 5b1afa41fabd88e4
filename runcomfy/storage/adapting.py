"""Adapt a client to its store: what the bucket's rules want with each request, and what an older server refuses.

By boto3's events, so that it holds for every call, retries, pagers and signed URLs included
(https://docs.aws.amazon.com/boto3/latest/guide/events.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.handlers import validate_bucket_name

from runcomfy.storage.bucket_settings import BucketSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["adapt"]

_CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-trailer")
_PAYER = "x-amz-request-payer"
_REFUSED_SO = (400, 501)
_ABOUT_THE_BODY = ("BadDigest", "EntityTooLarge", "EntityTooSmall", "IncompleteBody", "RequestTimeout", "XAmzContent")
_REGION = "x-amz-bucket-region"


def adapt(client: S3Client, bucket: str, settings: BucketSettings) -> None:
    """Adapt a client to a bucket and its server.

    Args:
        client: A new client.
        bucket: The store's own bucket; the owner of another one, from which images are read, is not checked.
        settings: What the bucket's rules want.
    """
    events: Any = client.meta.events
    rules, checksums = _Rules(bucket, settings), _Checksums(client)
    events.register("provide-client-params.s3", rules.add)
    events.register_last("before-call.s3", checksums.leave_out)
    events.register_first("needs-retry.s3", checksums.fall_back)
    events.register_first("needs-retry.s3.HeadBucket", _stop_following)
    if ":" in bucket:  # `tenant:bucket`, which Ceph has and boto3 does not know
        events.unregister("before-parameter-build.s3", validate_bucket_name)
    if settings.requester_pays:
        events.register("before-sign.s3.GetObject", _pay_in_query)


class _Rules:
    def __init__(self, bucket: str, settings: BucketSettings) -> None:
        self._bucket, self._settings = bucket, settings

    def add(self, params: Any, model: Any, context: Any = None, **_: Any) -> Any:
        """Add the arguments that this call has."""
        known, signs_url = model.input_shape.members, bool((context or {}).get("is_presign_request"))
        wanted = dict(self._settings.of_writes) if params.get("Bucket") == self._bucket else {}
        if self._settings.requester_pays:
            wanted["RequestPayer"] = "requester"
        if (owner := self._settings.expected_bucket_owner) and params.get("Bucket") == self._bucket and not signs_url:
            wanted["ExpectedBucketOwner"] = owner  # in a URL, its reader would have to send it as a header
        return params | {name: value for name, value in wanted.items() if name in known and name not in params}


class _Checksums:
    """Sends the checksums of bodies, unless boto3 is told not to, or the server refuses them.

    Servers from before 2022 do not know the headers, and say so with 400 or 501. Then the request is sent once more
    without them; if that is taken, later ones have none from the start. What boto3 is told:
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html.
    """

    def __init__(self, client: S3Client) -> None:
        config: Any = client.meta.config
        self._refused = config.request_checksum_calculation == "when_required"

    def leave_out(self, params: Any, model: Any, **_: Any) -> None:
        """Take them out of a request that is about to be sent, if the server is known to refuse them."""
        if self._refused and not model.http_checksum.get("requestChecksumRequired"):
            self._drop(params)

    def fall_back(self, request_dict: Any, response: Any, operation: Any, **_: Any) -> int | None:
        """Ask for another attempt without them, once, where they may be why a request is refused."""
        context = request_dict["context"]
        if response is None:
            return None
        status, error = response[0].status_code, response[1].get("Error", {})
        code, named = str(error.get("Code", "")), str(error.get("Header", ""))
        if status < 300 and context.get("without_checksums"):
            self._refused = True
        if status not in _REFUSED_SO or code.startswith(_ABOUT_THE_BODY) or context.get("without_checksums"):
            return None
        if named and not named.lower().startswith(_CHECKSUMS):
            return None  # the server says which header it does not know, and it is another one
        if operation.http_checksum.get("requestChecksumRequired") or not self._drop(request_dict):
            return None
        context["without_checksums"] = True
        return 0

    @staticmethod
    def _drop(request: Any) -> bool:
        headers, context = request["headers"], request["context"]
        names = [name for name in headers if name.lower().startswith(_CHECKSUMS)]
        for name in names:
            del headers[name]
        context.get("checksum", {}).pop("request_algorithm", None)
        if isinstance(body := request.get("body"), bytes) and b"<ChecksumCRC32>" in body:
            request["body"] = _without_elements(body)
            names.append("body")
        return bool(names)


def _without_elements(body: bytes) -> bytes:
    """Return the list of an upload's parts without their checksums."""
    start, end = b"<ChecksumCRC32>", b"</ChecksumCRC32>"
    first, *rest = body.split(start)
    return first + b"".join(piece.partition(end)[2] for piece in rest)


def _stop_following(request_dict: Any, response: Any, **_: Any) -> None:
    """Keep boto3 from asking for the bucket's region by the very call that was redirected, without end."""
    if response is None or response[0].status_code not in (301, 302, 307):
        return
    if _REGION not in response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {}):
        request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def _pay_in_query(request: Any, **_: Any) -> None:
    """Put the agreement to pay into a signed URL itself: its reader sends no headers of ours."""
    if request.context.get("is_presign_request") and request.headers.get(_PAYER):
        del request.headers[_PAYER]
        request.params = {**(request.params or {}), _PAYER: "requester"}
