"""How stores differ from each other: each behaviour is what one kind of store does."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from tests.runcomfy.storage.imitated import Answer, Behaviour, Request, refused

__all__ = [
    "asks_for",
    "dates",
    "gzips",
    "on",
    "redirects",
    "refuses_checksums",
    "refuses_conditional_copies",
    "refuses_head_bucket",
    "rights_on",
    "says",
]

Send = Callable[[Request], Answer]


def rights_on(prefix: str, *, lists: bool = True) -> Behaviour:
    """Rights on a prefix only, as AWS applies a policy with `s3:prefix`: what is missing there is refused as well."""

    def behave(request: Request, send: Send) -> Answer:
        denied = refused(403, "AccessDenied", "Access Denied")
        if not request.key:
            asked = request.query.get("prefix", [""])[0]
            may_list = lists and "list-type" in request.query and asked.startswith(prefix)
            return send(request) if may_list else denied
        if not request.key.startswith(prefix):
            return denied
        answer = send(request)
        return denied if answer.status == 404 and request.method in ("GET", "HEAD") else answer

    return behave


def refuses_head_bucket(request: Request, send: Send) -> Answer:
    """All rights but that to ask for the bucket itself."""
    return refused(403, "AccessDenied") if request.method == "HEAD" and not request.key else send(request)


def refuses_checksums(status: int, code: str) -> Behaviour:
    """A store from before S3 had checksums in headers."""

    def behave(request: Request, send: Send) -> Answer:
        if any(
            name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-trailer")) for name in request.headers
        ):
            return refused(status, code, "A header you provided implies functionality that is not implemented.")
        if b"<ChecksumCRC32>" in request.body:
            return refused(400, "MalformedXML")
        return send(request)

    return behave


def refuses_conditional_copies(request: Request, send: Send) -> Answer:
    """A store that has conditions for what is sent, and not for what it copies itself."""
    if "x-amz-copy-source" in request.headers and "if-none-match" in request.headers:
        return refused(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")
    return send(request)


def asks_for(header: str, value: str, *, of_all: bool = False) -> Behaviour:
    """A policy of the bucket that wants a header with each write, or with each request for an object."""

    def behave(request: Request, send: Send) -> Answer:
        if (request.writes or of_all) and request.headers.get(header) != value:
            return refused(403, "AccessDenied", "Access Denied")
        return send(request.without("x-amz-server-side-").without("x-amz-acl").without(header))

    return behave


def dates(*sent: str) -> Behaviour:
    """What is in the `Date` headers of each answer; none without any."""

    def behave(request: Request, send: Send) -> Answer:
        return send(request).with_headers(("Date", ""), *(("Date", text) for text in sent))

    return behave


def redirects(status: int, *headers: tuple[str, str]) -> Behaviour:
    """Each request is sent elsewhere."""

    def behave(request: Request, send: Send) -> Answer:
        return refused(status, "PermanentRedirect", "Use another endpoint.", *headers)

    return behave


def gzips(request: Request, send: Send) -> Answer:
    """Objects that were stored with `Content-Encoding: gzip`."""
    answer = send(request)
    if request.method != "GET" or not request.key or answer.status != 200:
        return answer
    return Answer(answer.status, answer.headers, gzip.compress(answer.body)).with_headers(("Content-Encoding", "gzip"))


def says(*headers: tuple[str, str], status: int = 200, body: bytes = b"") -> Behaviour:
    """The same answer to everything."""

    def behave(request: Request, send: Send) -> Answer:
        return Answer(status, headers, body)

    return behave


def on(method: str, answer: Answer) -> Behaviour:
    """One answer to all requests of a method, or to all without one; the others are served."""

    def behave(request: Request, send: Send) -> Answer:
        return answer if method in ("", request.method) else send(request)

    return behave
