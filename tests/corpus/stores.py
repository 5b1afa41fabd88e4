"""Stores of all kinds, as a proxy before a real S3 server imitates them: each line is one kind, and what is made of it.

`GOOD` has for each what it does, by the prefix, and the bucket's settings that it needs; `REFUSED` the words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.runcomfy.storage import behaviours as b
from tests.runcomfy.storage.imitated import Answer, Behaviour, refused

__all__ = ["GOOD", "KEY_ARN", "NOW", "REFUSED"]

NOW = "Sat, 28 Nov 2026 09:00:00 GMT"
KEY_ARN = "arn:aws:kms:eu-central-1:123456789012:key/1b2c"

GOOD: dict[str, tuple[Callable[[str], Behaviour], dict[str, Any]]] = {
    "all rights but HeadBucket": (lambda _: b.refuses_head_bucket, {}),
    "rights on a prefix only": (b.rights_on, {}),
    "rights on a prefix, and none to list": (lambda prefix: b.rights_on(prefix, lists=False), {}),
    "checksums are refused with 400": (lambda _: b.refuses_checksums(400, "InvalidRequest"), {}),
    "checksums are refused with 501": (lambda _: b.refuses_checksums(501, "NotImplemented"), {}),
    "checksums are refused with 400, no code": (lambda _: b.refuses_checksums(400, ""), {}),
    "conditional copies are refused with 501": (lambda _: b.refuses_conditional_copies, {}),
    "a KMS key is wanted": (
        lambda _: b.asks_for("x-amz-server-side-encryption-aws-kms-key-id", KEY_ARN),
        {"kms_key_id": KEY_ARN},
    ),
    "KMS is wanted, whichever key": (
        lambda _: b.asks_for("x-amz-server-side-encryption", "aws:kms"),
        {"encryption": "aws:kms"},
    ),
    "encryption is wanted": (
        lambda _: b.asks_for("x-amz-server-side-encryption", "AES256"),
        {"encryption": "AES256"},
    ),
    "an ACL is wanted": (
        lambda _: b.asks_for("x-amz-acl", "bucket-owner-full-control"),
        {"acl": "bucket-owner-full-control"},
    ),
    "the requester pays": (
        lambda _: b.asks_for("x-amz-request-payer", "requester", of_all=True),
        {"requester_pays": True},
    ),
    "the owner is checked": (
        lambda _: b.asks_for("x-amz-expected-bucket-owner", "123456789012", of_all=True),
        {"expected_bucket_owner": "123456789012"},
    ),
    "two dates": (lambda _: b.dates(NOW, NOW), {}),
    "two dates that differ": (lambda _: b.dates(NOW, "Sat, 28 Nov 2026 09:00:01 GMT"), {}),
    "a date that is none": (lambda _: b.dates("yesterday"), {}),
    "a date without a zone": (lambda _: b.dates("Sat, 28 Nov 2026 09:00:00 -0000"), {}),
    "a date that cannot be": (lambda _: b.dates("Sat, 99 Nov 2026 99:00:00 GMT"), {}),
    "no date": (lambda _: b.dates(), {}),
    "objects are packed": (lambda _: b.gzips, {}),
}

REFUSED: dict[str, tuple[Behaviour, str]] = {
    "301 without a region": (b.redirects(301), "sends this elsewhere, and does not say which region"),
    "307 without a region": (b.redirects(307, ("Location", "https://there.example/x?y=z")), "elsewhere to there.exam"),
    "301 with a region": (b.redirects(301, ("x-amz-bucket-region", "eu-west-1")), "another region, eu-west-1"),
    "308": (b.redirects(308), "sends this elsewhere"),
    "a page with 200": (b.says(("Content-Type", "text/html"), body=b"<html>Sign in</html>"), "should speak S3"),
    "a page with 403": (b.says(status=403, body=b"<html>Forbidden</html>"), "no S3 server, or a proxy"),
    "a page with 404": (b.says(status=404, body=b"<html>Not found</html>"), "no such bucket|no S3 server"),
    "nothing": (b.says(), "should speak S3"),
    "JSON": (b.says(("Content-Type", "application/json"), body=b'{"a": 1}'), "should speak S3"),
    "no rights at all": (b.rights_on("elsewhere/"), "lack the right"),
    "KMS is wanted, and not set": (b.asks_for("x-amz-server-side-encryption", "aws:kms"), "may also want encryption"),
    "a HEAD is refused with 400": (b.on("HEAD", Answer(400)), "a session token has ended"),
    "a HEAD is refused with 405": (b.on("HEAD", Answer(405)), "no S3 server"),
    "400 with a region": (b.on("", refused(400, "x", "y", ("x-amz-bucket-region", "eu-west-1"))), "region, eu-west-1"),
    "signed for another region": (b.on("PUT", refused(400, "AuthorizationHeaderMalformed")), "is in another region"),
    "full": (b.on("PUT", refused(507, "InsufficientStorage")), "is full. Make room"),
    "over its quota": (b.on("PUT", refused(403, "QuotaExceeded")), "quota is used up"),
    "read-only": (b.on("PUT", refused(405, "MethodNotAllowed")), "may be read-only"),
    "closed": (b.on("PUT", refused(403, "AllAccessDisabled")), "has closed the account"),
    "the KMS key is switched off": (b.on("PUT", refused(400, "KMS.DisabledException")), "KMS key .* cannot be used"),
    "no rights on the KMS key": (b.on("PUT", refused(403, "AccessDenied", "kms:Decrypt")), "KMS key .* cannot be"),
    "in an archive class": (b.on("GET", refused(403, "InvalidObjectState")), "Restore it first"),
    "a proxy that wants a login": (b.on("", Answer(407)), "A proxy on the way wants a login"),
    "a network that wants a login": (b.on("", Answer(511)), "The network wants a login"),
    "objects without a tag": (lambda request, send: send(request).with_headers(("ETag", "")), "no ETag"),
    "objects without a time": (
        lambda request, send: send(request).with_headers(("Last-Modified", "soon")), "should speak S3",
    ),
}  # fmt: skip
