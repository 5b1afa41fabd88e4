"""Whatever is in the bucket or comes from a server: an answer, or an error of ours, in bounded memory.

Inputs are made of numbers, so that a failure can be repeated by its number; ten thousand of each take seconds that way.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from pydantic import ValidationError

from runcomfy.archive.provenance import Provenance
from runcomfy.errors import RunComfyError
from runcomfy.journal import Entry
from runcomfy.journal.advice import advise
from runcomfy.journal.situation import Situation
from runcomfy.storage.commands import StoreOptions
from runcomfy.storage.store import Store
from tests.golden.documents import meaning, meaning_of_files
from tests.golden.record import recorded

pytestmark = pytest.mark.slow

EXAMPLES = 10_000
LIMIT_BYTES = 64 * 1024
MOST_MEMORY_BYTES = 64 * 1024 * 1024
ENTRIES: dict[str, Any] = recorded("written/entries.json")
PROVENANCE: dict[str, Any] = recorded("written/provenance.json")

# What programs in other languages, people with an editor and broken disks put in place of a value.
ODD: list[Any] = [
    None, True, False, 0, -1, 7, 2**63, 10**400, -(10**400), 0.5, 1e308, float("nan"), float("inf"), "", " ", "text",
    "\0", "\ud800", "x" * 10_000, "../..", "s3://", "s3:///", "s3://a/b", "2026-11-21T12:30:15", "2026-11-21",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1e999", "nan", [], {}, [[[]]], {"a": {"b": None}},
    ["x"] * 300, "intent", "archived", "submitted", "request-9",
]  # fmt: skip


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a document, by what holds it and its name there."""
    names = document.keys() if isinstance(document, dict) else range(len(document))
    for name in list(names):
        yield document, name
        if isinstance(document[name], dict | list):
            yield from places(document[name])


def changed(document: Any, chance: random.Random) -> bytes:
    """A document with other values, or without some, and now and then with other bytes."""
    document = json.loads(json.dumps(document))
    for _ in range(chance.randint(0, 3)):
        found = list(places(document))
        if not found:
            break
        holder, name = chance.choice(found)
        if chance.random() < 0.2:
            del holder[name]
        else:
            holder[name] = copy.deepcopy(chance.choice(ODD))
    written = json.dumps(document).encode()
    return edited(written, chance) if chance.random() < 0.2 else written


def edited(body: bytes, chance: random.Random) -> bytes:
    """A body with other bytes, more of them, or fewer."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(body))
        body = body[:at] + chance.randbytes(chance.randint(0, 3)) + body[at + chance.choice((0, 1, 2, 50)) :]
    return body


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Bound what the process grows by."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_MEMORY_BYTES


def test_any_document_in_place_of_an_entry() -> None:
    """It is refused as such; or it is one, and then the journal, its advice and the catalogue can handle it."""
    with bounded_memory():
        for number in range(EXAMPLES):
            chance = random.Random(number)
            document = changed(ENTRIES[chance.choice(sorted(ENTRIES))], chance)
            try:
                found = Entry.model_validate_json(document)
            except ValidationError:
                continue
            try:
                assert Entry.model_validate_json(found.to_json()).state is found.state
                meaning(found)
                advise(Situation.of(found), StoreOptions("s3://videos"))
            except Exception as error:
                raise AssertionError(f"input {number}: {document!r}") from error


def test_any_document_in_place_of_a_provenance() -> None:
    """It is refused with `ValueError`, which every reader expects; or the catalogue can read it."""
    with bounded_memory():
        for number in range(EXAMPLES):
            document = changed(PROVENANCE, random.Random(number))
            try:
                found = Provenance.from_json(document)
            except ValueError:
                continue
            try:
                found.to_json()
                meaning_of_files(found)
            except Exception as error:
                raise AssertionError(f"input {number}: {document!r}") from error


LISTING = b"""<?xml version="1.0"?><ListBucketResult><Name>videos</Name><KeyCount>1</KeyCount>
<IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>5</Size><ETag>"e"</ETag>
<LastModified>2026-11-28T09:00:00.000Z</LastModified></Contents>
<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>"""
UPLOADS = b"""<ListMultipartUploadsResult><Bucket>videos</Bucket><IsTruncated>false</IsTruncated><Upload><Key>a</Key>
<UploadId>u</UploadId><Initiated>2026-11-28T09:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>"""
REFUSAL = b"<Error><Code>AccessDenied</Code><Message>No.</Message><Region>eu-west-1</Region></Error>"
NAMES = [
    "date", "etag", "last-modified", "content-length", "content-encoding", "content-type", "location",
    "x-amz-meta-a", "x-amz-bucket-region", "x-amz-checksum-crc32", "retry-after", "x-amz-missing-meta",
]  # fmt: skip
VALUES = [
    '"e"', "", "0", "-1", "5", "99999999999999999999", "gzip", "br", "gzip, gzip", "Sat, 28 Nov 2026 09:00:00 GMT",
    "Sat, 99 Nov 2026 99:00:00 GMT", "soon", "http://[", "https://a@b/c?X-Amz-Signature=1", "text/html", "eu-west-1",
    "AAAAAA==", "application/json", "\xff\x80", " ", "x" * 5000, "Sat, 28 Nov 2026 09:00:00 -0000",
]  # fmt: skip
BOMB = gzip.compress(bytes(10_000_000))
STATUSES = (200, 200, 200, 204, 206, 301, 400, 403, 404, 412, 418)


CALLS: dict[str, tuple[Callable[[Store], object], bytes]] = {
    "head": (lambda store: store.head("a"), b""),
    "read": (lambda store: store.read("a", limit_bytes=LIMIT_BYTES), b"hello"),
    "version": (lambda store: store.read_version("a", limit_bytes=LIMIT_BYTES), b'{"a": 1}'),
    "list": (lambda store: list(store.list("a")), LISTING),
    "folder": (lambda store: store.list_folder(""), LISTING),
    "uploads": (lambda store: list(store.unfinished_uploads("a")), UPLOADS),
    "replace": (lambda store: store.replace_if("a", b"x", etag='"e"', content_type="text/plain"), b""),
    "create": (lambda store: store.put_new("a", b"x", content_type="text/plain"), b""),
    "check": (lambda store: store.check(), b""),
    "delete": (lambda store: store.delete("a"), b""),
}


class Raw:
    """A body, as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()

    def read(self, amount: int | None = None, **_: Any) -> bytes:
        piece = self._body if amount is None else self._body[:amount]
        self._body = self._body[len(piece) :]
        return piece

    def close(self) -> None:
        pass


@pytest.mark.parametrize("call", CALLS)
def test_any_answer_of_a_store(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From after the wire on, which would take too long so often: what each call needs, or a `StorageError`."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    use, whole = CALLS[call]
    store = Store("videos", "p", session=boto3.Session("k", "s", region_name="us-east-1"), endpoint_url="http://a.test")
    answer: list[Any] = []
    store.client.meta.events.register("before-send.s3", lambda request, **_: answer[0](request.url))
    with bounded_memory():
        for number in range(EXAMPLES // len(CALLS) // 2):
            chance = random.Random(number)
            status = chance.choice(STATUSES)
            body = REFUSAL if status >= 300 else whole
            if chance.random() < 0.5:
                body = chance.choice((edited(body, chance), b"", b"<html><br>", b"{}", BOMB))
            sent = {
                "etag": '"e"', "last-modified": "Sat, 28 Nov 2026 09:00:00 GMT", "content-length": str(len(body)),
            } | {chance.choice(NAMES): chance.choice(VALUES) for _ in range(chance.randint(0, 4))}  # fmt: skip
            answer[:] = [lambda url, s=status, h=sent, b=body: AWSResponse(url, s, h, Raw(b))]
            try:
                use(store)
            except RunComfyError as error:
                assert error.message and "NoneType" not in error.message, number
            except Exception as error:
                raise AssertionError(f"input {number}: {status} {sent} {body[:200]!r}") from error
