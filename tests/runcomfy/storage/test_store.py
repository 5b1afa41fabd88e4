from __future__ import annotations

import base64
import io
import re
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import boto3
import botocore.session
import pytest
import urllib3
from botocore.credentials import RefreshableCredentials

from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from runcomfy.storage.upload import Body
from tests.runcomfy.certificate import server_context, write_certificate

MIB = 1024 * 1024


def body(size: int, check: Callable[[], None] = lambda: None) -> Body:
    """A file of so many bytes, with more before and behind it that is not its own."""
    file = TemporaryFile()  # noqa: SIM115 - the body needs it
    file.write(b"no" + b"v" * size + b"no")
    return Body(file, 2, 2 + size, zlib.crc32(b"v" * size), check)


def zeros(size: int) -> Body:
    return Body(io.BytesIO(bytes(size)), 0, size, zlib.crc32(bytes(size)), lambda: None)


def client_of(object_store: ObjectStore) -> Any:
    return object_store.session().client("s3", endpoint_url=object_store.endpoint_url)


def unfinished_uploads(object_store: ObjectStore, store: Store) -> list[Any]:
    answer = client_of(object_store).list_multipart_uploads(Bucket=store.bucket, Prefix=store.prefix)
    uploads: list[Any] = answer.get("Uploads", [])
    return uploads


@pytest.mark.parametrize(
    ("prefix", "expected"), [("", "a"), ("/", "a"), ("x", "x/a"), ("/x/y/", "x/y/a"), ("x//", "x/a")]
)
def test_the_prefix_is_normalised(prefix: str, expected: str) -> None:
    """A prefix has no leading and one trailing slash, or is empty."""
    store = Store("bucket", prefix, session=boto3.Session("k", "s", region_name="eu-west-1"))

    assert store.key("a") == expected
    assert store.uri(store.key("a")) == f"s3://bucket/{expected}"


def test_a_store_is_made_from_its_uri() -> None:
    """`s3://bucket/prefix` says it all; anything else is a mistake in the configuration."""
    session = boto3.Session("k", "s", region_name="eu-west-1")
    store = Store.from_uri("s3://bucket/some/prefix", session=session)

    assert (store.bucket, store.prefix) == ("bucket", "some/prefix/")
    for wrong in ("bucket/prefix", "https://bucket/prefix", "s3:///prefix", "s3:bucket"):
        with pytest.raises(ConfigurationError):
            Store.from_uri(wrong, session=session)


def test_a_stored_object_can_be_inspected_and_read(store: Store) -> None:
    """Size, type and metadata come back with the object."""
    key = store.key("a/ü b.json")
    store.put(key, b"one", content_type="application/json", metadata={"sha256": "abc"})
    store.put(key, b"three", content_type="text/plain", metadata={"sha256": "abc"})

    facts = store.head(key)

    assert facts is not None
    assert (facts.key, facts.size_bytes, facts.content_type) == (key, 5, "text/plain")
    assert dict(facts.metadata) == {"sha256": "abc"}
    assert facts.etag
    assert store.read(key, limit_bytes=5) == b"three"


def test_a_missing_object_is_none_to_head_and_an_error_to_read(store: Store) -> None:
    """Asking for the facts of a missing object is fine; reading it is an error."""
    assert store.head(store.key("missing")) is None
    with pytest.raises(StorageError, match="no such object") as missing:
        store.read(store.key("missing"), limit_bytes=1)

    assert missing.value.error_code == "NoSuchKey"


def test_reading_is_bounded(store: Store) -> None:
    """An object that is larger than expected is refused and not read."""
    store.put(store.key("a"), b"12345", content_type="text/plain")

    with pytest.raises(StorageError, match="4 are allowed"):
        store.read(store.key("a"), limit_bytes=4)


def test_put_new_never_overwrites(store: Store) -> None:
    """The first creates, the second learns that it did not."""
    key = store.key("a")

    created = [store.put_new(key, body, content_type="text/plain") for body in (b"first", b"second")]

    assert created == [True, False]
    assert store.read(key, limit_bytes=10) == b"first"


def test_one_of_many_creates(store: Store) -> None:
    """Of many that create the same key together, exactly one did."""
    key = store.key("a")
    with ThreadPoolExecutor(8) as pool:
        created = list(
            pool.map(lambda number: store.put_new(key, b"%d" % number, content_type="text/plain"), range(16))
        )

    assert created.count(True) == 1
    assert store.read(key, limit_bytes=10) == b"%d" % created.index(True)


PARTS = {"largest_put_bytes": 5 * MIB}
WHOLE = {"content_type": "video/mp4", "metadata": {"a": "b"}}


@pytest.mark.parametrize("limit", [{}, PARTS], ids=["one PUT", "parts"])
@pytest.mark.parametrize("size", [0, 1, 20 * MIB + 1])
def test_a_file_is_stored_whole(store: Store, object_store: ObjectStore, size: int, limit: dict[str, int]) -> None:
    """A file of any size arrives byte for byte, whether one PUT takes it or not."""
    key = store.key("a")

    assert store.put_file(key, body(size), **WHOLE, **limit)

    facts = store.head(key)
    assert facts is not None
    assert (facts.size_bytes, facts.content_type, dict(facts.metadata)) == (size, "video/mp4", {"a": "b"})
    assert store.read(key, limit_bytes=size) == b"v" * size
    assert unfinished_uploads(object_store, store) == []


class Gone(BaseException):
    pass


@pytest.mark.parametrize("limit", [{}, PARTS], ids=["one PUT", "parts"])
def test_an_upload_that_is_stopped_leaves_nothing(
    store: Store, object_store: ObjectStore, limit: dict[str, int]
) -> None:
    """What the check raises comes out at once, without another attempt; no object and no unfinished upload remain."""
    reads = []

    def check() -> None:
        reads.append(1)
        if len(reads) > 18:
            raise Gone

    with pytest.raises(Gone):
        store.put_file(store.key("a"), body(40 * MIB, check), **WHOLE, **limit)

    assert len(reads) == 19
    assert store.head(store.key("a")) is None
    assert unfinished_uploads(object_store, store) == []


@pytest.mark.parametrize("limit", [{}, PARTS], ids=["one PUT", "parts"])
@pytest.mark.parametrize("known_absent", [True, False])
def test_an_existing_object_is_not_overwritten_by_a_file(
    store: Store, object_store: ObjectStore, limit: dict[str, int], known_absent: bool
) -> None:
    """Neither what was there before, nor what was created since the caller checked."""
    key = store.key("a")
    store.put(key, b"other", content_type="text/plain")

    assert not store.put_file(key, body(6 * MIB), **WHOLE, known_absent=known_absent, **limit)
    assert store.read(key, limit_bytes=5) == b"other"
    assert unfinished_uploads(object_store, store) == []


def test_one_of_racing_files_wins(store: Store) -> None:
    """Exactly one learns that it created the object."""
    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(lambda _: store.put_file(store.key("a"), body(MIB), **WHOLE, known_absent=True), range(3)))

    assert sorted(won) == [False, False, True]


WHEN = "Last-Modified: Sat, 21 Nov 2026 07:00:00 GMT\r\n"


@pytest.fixture
def scripted_store(raw_server: Any) -> Store:
    session = boto3.Session("AKID", "s3cr3t", region_name="us-east-1")
    return Store("videos", session=session, endpoint_url=raw_server.url(""))


def test_a_store_without_conditions_is_written_to_without(scripted_store: Store, raw_server: Any, answer: Any) -> None:
    """A 501 to the condition is answered by the same write without it, and the condition is not tried again."""
    unknown = b"<Error><Code>NotImplemented</Code><Header>If-None-Match</Header></Error>"
    raw_server.script["/videos/a"] = [
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(unknown, "501 Not Implemented")),
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(b"", headers='ETag: "e"\r\n')),
    ]
    raw_server.script["/videos/b"] = [
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(b"", headers='ETag: "e"\r\n')),
    ]

    assert scripted_store.put_new("a", b"x", content_type="text/plain")
    assert scripted_store.put_new("b", b"x", content_type="text/plain")

    puts = [head for head in raw_server.received if head.startswith(b"PUT")]
    assert [b"if-none-match: *" in put.lower() for put in puts] == [True, False, False]


@pytest.mark.parametrize("code", ["EntityTooLarge", ""])
def test_a_file_too_large_for_one_put_is_sent_in_parts(
    scripted_store: Store, raw_server: Any, answer: Any, code: str
) -> None:
    """A store, or a proxy before it, that takes no body of this size (413) is given it in parts."""
    made = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    raw_server.script["/videos/a"] = [
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(f"<Error><Code>{code}</Code></Error>".encode() if code else b"<html>", "413 Too Large")),
        ("POST", answer(made)),
        ("PUT", answer(b"", headers='ETag: "e"\r\n')),
        ("POST", answer(b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")),
    ]

    assert scripted_store.put_file("a", body(1000), **WHOLE)

    assert raw_server.script["/videos/a"] == []
    assert b"if-none-match: *" in raw_server.received[-1].lower()


@pytest.mark.parametrize("ours", [True, False])
def test_a_lost_answer_of_a_file_is_recognised_by_its_metadata(
    scripted_store: Store, raw_server: Any, answer: Any, ours: bool
) -> None:
    """The write that is refused because an earlier attempt of it arrived is a success, and of another one is not."""
    headers = f'Last-Modified: Sat, 21 Nov 2026 07:00:00 GMT\r\nETag: "e"\r\nx-amz-meta-a: {"b" if ours else "c"}\r\n'
    raw_server.script["/videos/a"] = [
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(b"", "500 Oops")),
        ("PUT", answer(b"<Error><Code>PreconditionFailed</Code></Error>", "412 No")),
        ("HEAD", answer(b"", length=1000, headers=headers)),
    ]

    assert scripted_store.put_file("a", body(1000), **WHOLE) == ours


@pytest.mark.parametrize("size", [1_000, 20_000_000])
def test_over_https_a_body_is_sent_as_it_is(tmp_path: Path, size: int) -> None:
    """Its checksum is in a header, before it. A checksum behind it would cost half as much processor again."""
    received: list[tuple[str, bytes]] = []
    posted: list[tuple[str | None, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_error(404)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers["x-amz-checksum-crc32"], body))
            self.send_response(200)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            said = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.headers["x-amz-checksum-algorithm"], said))
            answer = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    certificate = write_certificate(tmp_path / "certificate.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = server_context(certificate).wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        store = Store(
            "videos", session=boto3.Session("AKID", "s3cr3t", region_name="us-east-1"), verify=str(certificate),
            endpoint_url=f"https://127.0.0.1:{server.server_address[1]}",
        )  # fmt: skip
        assert store.put_file("a", zeros(size), **WHOLE, largest_put_bytes=10 * MIB)
        server.shutdown()
        server.server_close()

    assert sum(len(body) for _, body in received) == size
    assert all(base64.b64decode(checksum) == zlib.crc32(body).to_bytes(4, "big") for checksum, body in received)
    assert not any(body.strip(b"\0") for _, body in received)
    if posted:  # AWS wants them announced, and repeated at the end, in the order of the parts
        (algorithm, _), (_, completion) = posted
        assert algorithm == "CRC32"
        assert sorted(re.findall(rb"<ChecksumCRC32>(.*?)<", completion)) == sorted(crc.encode() for crc, _ in received)


def test_a_conflict_is_tried_again(scripted_store: Store, raw_server: Any, answer: Any) -> None:
    """A 409 to a racing condition is redone, and then the other one's object is found."""
    raw_server.script["/videos/a"] = [
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(b"<Error><Code>ConditionalRequestConflict</Code></Error>", "409 Conflict")),
        ("HEAD", answer(b"", headers=f'ETag: "e"\r\n{WHEN}')),
    ]

    assert not scripted_store.put_new("a", b"x", content_type="text/plain")


def test_a_store_that_contradicts_itself_is_asked_again(scripted_store: Store, raw_server: Any, answer: Any) -> None:
    """Refused because it exists, but it does not: that is no success, since no one created it."""
    refused = answer(b"<Error><Code>PreconditionFailed</Code></Error>", "412 Precondition Failed")
    absent = ("HEAD", answer(b"", "404 Not Found"))
    raw_server.script["/videos/a"] = [absent, ("PUT", refused), absent] * 5
    raw_server.script["/videos/b"] = [absent, ("PUT", refused), absent, absent, ("PUT", answer(b""))]

    with pytest.raises(StoreUnavailable):
        scripted_store.put_new("a", b"x", content_type="text/plain")
    assert scripted_store.put_new("b", b"x", content_type="text/plain")


def test_a_lost_answer_does_not_hide_who_created(scripted_store: Store, raw_server: Any, answer: Any) -> None:
    """An attempt that was stored and broke makes its repetition fail with 412; the object is recognised as ours."""
    raw_server.script["/videos/a"] = [
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(b"<Error><Code>InternalError</Code></Error>", "500 Internal Server Error")),
        ("PUT", answer(b"<Error><Code>PreconditionFailed</Code></Error>", "412 Precondition Failed")),
        ("HEAD", answer(b"", length=4, headers=f'ETag: "e"\r\n{WHEN}')),
        ("GET", answer(b"mine", headers='ETag: "e"\r\n')),
    ]

    assert scripted_store.put_new("a", b"mine", content_type="text/plain")


def test_a_store_that_never_decides_is_an_error(scripted_store: Store, raw_server: Any, answer: Any) -> None:
    """Conflicts without end are given up on."""
    raw_server.script["/videos/a"] = [
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(b"<Error><Code>ConditionalRequestConflict</Code></Error>", "409 Conflict")),
    ] * 5

    with pytest.raises(StorageError, match="ConditionalRequestConflict"):
        scripted_store.put_new("a", b"x", content_type="text/plain")


def test_without_conditions_only_the_check_protects(object_store: ObjectStore, store: Store) -> None:
    """Conditional writes can be switched off; existing objects are still kept."""
    plain = Store(
        "videos", store.prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url,
        conditional_writes=False,
    )  # fmt: skip

    assert plain.put_new(plain.key("a"), b"x", content_type="text/plain")
    assert not plain.put_new(plain.key("a"), b"y", content_type="text/plain")
    assert plain.put_file(plain.key("b"), body(10), **WHOLE)


def test_a_missing_bucket_is_named(object_store: ObjectStore) -> None:
    """The error names the bucket and says what to do."""
    lost = Store("no-such-bucket", session=object_store.session(), endpoint_url=object_store.endpoint_url)

    for create in (lost.put_new, lambda *a, **k: lost.put_file("a", body(9 * MIB), **WHOLE)):
        with pytest.raises(StorageError, match="s3://no-such-bucket/a: NoSuchBucket") as missing:
            create("a", b"x", content_type="text/plain")
        assert (missing.value.bucket, missing.value.key) == ("no-such-bucket", "a")


@pytest.mark.parametrize("keys", [("WRONG", None), (None, "WRONG")])
def test_wrong_keys_are_reported(object_store: ObjectStore, keys: tuple[str | None, str | None]) -> None:
    """A wrong key is a storage error that names S3's code and holds no secret."""
    access_key, secret_key = keys[0] or object_store.access_key, keys[1] or object_store.secret_key
    blind = Store("videos", session=boto3.Session(access_key, secret_key), endpoint_url=object_store.endpoint_url)

    with pytest.raises(StorageError) as refused:
        blind.read("a", limit_bytes=1)

    assert refused.value.error_code in ("InvalidAccessKeyId", "SignatureDoesNotMatch")
    assert refused.value.http_status == 403
    assert object_store.secret_key not in repr(refused.value) + repr(refused.value.facts)


def test_missing_credentials_are_reported(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the error says so, for reading and for signing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    store = Store("videos", endpoint_url=object_store.endpoint_url)

    assert store.credentials_remaining() is None
    for call in (lambda: store.read("a", limit_bytes=1), lambda: store.sign("a", timedelta(hours=1))):
        with pytest.raises(StorageError, match="no usable credentials"):
            call()


@pytest.mark.slow
def test_an_unreachable_store_is_reported(unused_tcp_port: int) -> None:
    """If nothing listens, the error names the endpoint."""
    away = Store("videos", session=boto3.Session("k", "s"), endpoint_url=f"http://127.0.0.1:{unused_tcp_port}")

    with pytest.raises(StorageError, match=f"no connection to http://127.0.0.1:{unused_tcp_port}"):
        away.head("a")


def test_a_signed_url_reads_one_object(store: Store) -> None:
    """A signed URL opens its object, and nothing without its signature does."""
    store.put(store.key("a b?.mp4"), b"video", content_type="video/mp4")
    url = store.sign(store.key("a b?.mp4"), timedelta(minutes=10))

    assert urllib3.request("GET", url).data == b"video"
    assert urllib3.request("GET", url.replace("X-Amz-Expires=600", "X-Amz-Expires=601")).status == 403
    assert urllib3.request("GET", url.partition("?")[0]).status == 403


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(seconds=-1), timedelta(days=7, seconds=1)])
def test_a_lifetime_that_s3_refuses_is_refused(store: Store, lifetime: timedelta) -> None:
    """S3 accepts no signature for more than seven days; boto3 would silently sign it."""
    with pytest.raises(ConfigurationError):
        store.sign("a", lifetime)

    assert "X-Amz-Expires=604800" in store.sign("a", timedelta(days=7))


def test_on_aws_the_bucket_is_in_the_host_and_the_region_in_the_signature() -> None:
    """URLs for AWS are virtual-hosted, regional and SigV4, so that no redirect breaks them."""
    store = Store("bucket", session=boto3.Session("AKID", "s3cr3t"), region_name="eu-central-1")

    url = store.sign("a/b.png", timedelta(hours=1), bucket="other")

    assert url.startswith("https://other.s3.eu-central-1.amazonaws.com/a/b.png?X-Amz-Algorithm=AWS4-HMAC-SHA256")
    assert "eu-central-1%2Fs3%2Faws4_request" in url
    assert "s3cr3t" not in url


def test_on_aws_the_region_has_to_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess of the region would give URLs that cannot be opened."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    with pytest.raises(ConfigurationError, match="region"):
        Store("bucket", session=boto3.Session("AKID", "s3cr3t")).sign("a", timedelta(hours=1))


def test_the_public_endpoint_is_for_signing_only(object_store: ObjectStore) -> None:
    """What is signed names the host that the world sees; everything else goes to the private one."""
    store = Store(
        "videos", "public", session=object_store.session(), endpoint_url=object_store.endpoint_url,
        public_endpoint_url="https://media.example.com",
    )  # fmt: skip

    store.put(store.key("a"), b"x", content_type="text/plain")

    assert store.sign("public/a", timedelta(hours=1)).startswith("https://media.example.com/videos/public/a?")


class Issuer:
    """Issues credentials that live for a given time, and counts them."""

    def __init__(self, *lifetimes: timedelta) -> None:
        self.lifetimes, self.issued = list(lifetimes), 0

    def issue(self) -> dict[str, str]:
        lifetime = self.lifetimes[min(self.issued, len(self.lifetimes) - 1)]
        self.issued += 1
        end = (datetime.now(UTC) + lifetime).isoformat()
        return {"access_key": f"AK{self.issued}", "secret_key": "s", "token": "t", "expiry_time": end}

    def session(self) -> boto3.Session:
        core = botocore.session.get_session()
        core._credentials = RefreshableCredentials.create_from_metadata(self.issue(), self.issue, "test")
        return boto3.Session(botocore_session=core, region_name="eu-west-1")


def test_credentials_that_last_are_left_alone() -> None:
    """A URL that ends before the credentials needs no new ones."""
    issuer = Issuer(timedelta(hours=6))
    store = Store("bucket", session=issuer.session())

    assert "AK1" in store.sign("a", timedelta(hours=5))
    remaining = store.credentials_remaining()
    assert remaining is not None
    assert timedelta(hours=5, minutes=50) < remaining <= timedelta(hours=6)
    assert issuer.issued == 1


def test_credentials_that_end_too_soon_are_refreshed() -> None:
    """Where new credentials live long enough, they sign."""
    issuer = Issuer(timedelta(hours=1), timedelta(hours=6))
    store = Store("bucket", session=issuer.session())

    assert "AK2" in store.sign("a", timedelta(hours=5))
    assert "AK2" in store.sign("a", timedelta(hours=5))
    assert issuer.issued == 2


def test_credentials_that_never_last_are_a_configuration_error() -> None:
    """A URL that would die before its time is not signed."""
    store = Store("bucket", session=Issuer(timedelta(hours=1)).session())

    with pytest.raises(ConfigurationError, match="end before"):
        store.sign("a", timedelta(hours=5))
    assert "X-Amz-Expires=1800" in store.sign("a", timedelta(minutes=30))


def test_a_static_token_has_no_known_end() -> None:
    """The end of a token that was given as such is unknown; it still signs."""
    store = Store("bucket", session=boto3.Session("AKID", "s", "token", region_name="eu-west-1"))

    assert store.credentials_remaining() is None
    assert "X-Amz-Security-Token=token" in store.sign("a", timedelta(days=1))


def test_a_store_shows_no_secret(store: Store, object_store: ObjectStore) -> None:
    """Where a store is printed, it is its URI."""
    assert repr(store) == f"Store('s3://videos/{store.prefix}')"


def test_a_listing_has_every_object_below_a_start(store: Store, object_store: ObjectStore) -> None:
    """In the order of their keys, with what the store says of each; also in another bucket."""
    for name in ("b/2", "b/1", "a", "b/1/deep"):
        store.put(store.key(name), name.encode(), content_type="text/plain")
    other = Store("images", store.prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    other.put(other.key("elsewhere"), b"x", content_type="text/plain")

    found = list(store.list(store.key("b/")))

    assert [each.key for each in found] == [store.key(name) for name in ("b/1", "b/1/deep", "b/2")]
    for each in found:
        facts = store.head(each.key)
        assert facts is not None
        assert (each.size_bytes, each.etag) == (facts.size_bytes, facts.etag)
        assert abs(each.modified_at - facts.modified_at) < timedelta(seconds=1)
    assert [each.key for each in store.list(store.prefix, "images")] == [other.key("elsewhere")]


def test_a_folder_is_listed_without_what_is_deeper(store: Store) -> None:
    """Its folders and its objects, separately."""
    for name in ("a", "b/1", "b/2/deep", "c/1"):
        store.put(store.key(name), b"", content_type="text/plain")

    folders, objects = store.list_folder(store.prefix)

    assert list(folders) == [store.key("b/"), store.key("c/")]
    assert [each.key for each in objects] == [store.key("a")]


def test_an_object_is_replaced_by_only_one_of_its_readers(store: Store) -> None:
    """A writer that read an earlier version, or none, is refused; what is gone is not replaced either."""
    key = store.key("note.json")
    first = store.replace_if(key, b"1", etag=None, content_type="text/plain")
    read = store.read_version(key, limit_bytes=10)
    assert read is not None and (read.body, read.etag) == (b"1", first)

    assert store.replace_if(key, b"2", etag=first, content_type="text/plain")
    assert store.replace_if(key, b"3", etag=first, content_type="text/plain") is None
    assert store.replace_if(key, b"3", etag=None, content_type="text/plain") is None
    assert store.read(key, limit_bytes=10) == b"2"
    with pytest.raises(StorageError, match="has 1 bytes; 0 are allowed"):
        store.read_version(key, limit_bytes=0)

    store.delete(key)
    store.delete(key)  # that it is gone is no error

    assert store.read_version(key, limit_bytes=10) is None
    assert store.replace_if(key, b"4", etag=first, content_type="text/plain") is None
    assert list(store.list(key)) == []
