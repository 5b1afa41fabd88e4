from __future__ import annotations

import base64
import io
import re
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
import urllib3
from botocore.credentials import RefreshableCredentials

from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.store import Store
from tests.runcomfy.certificate import server_context, write_certificate

MIB = 1024 * 1024


class Stream:
    """Bytes that come in small pieces, and then an end or an error."""

    def __init__(self, size: int, *, error: BaseException | None = None, piece: int = 10**9) -> None:
        self.left, self.error, self.piece = size, error, piece

    def read(self, amount: int, /) -> bytes:
        amount = min(amount, self.left, self.piece)
        self.left -= amount
        if not amount and self.error is not None:
            raise self.error
        return b"v" * amount


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


def test_what_is_put_can_be_looked_at_and_read(store: Store) -> None:
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
    """Looking for what is not there is an ordinary question; reading it is not."""
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
    """The first creates, the second is told that it did not."""
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


@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB, 20 * MIB + 1])
def test_a_stream_is_stored_whole(store: Store, size: int) -> None:
    """Empty, small and many-part streams arrive whole, however small the pieces they come in."""
    key = store.key("a")

    assert store.upload_stream(key, Stream(size, piece=700_000), content_type="video/mp4", metadata={"a": "b"})

    facts = store.head(key)
    assert facts is not None
    assert (facts.size_bytes, facts.content_type, dict(facts.metadata)) == (size, "video/mp4", {"a": "b"})
    assert store.read(key, limit_bytes=size) == b"v" * size


def test_a_seekable_file_is_stored_whole(store: Store) -> None:
    """A file is a stream like any other."""
    assert store.upload_stream(store.key("a"), io.BytesIO(b"x" * 9 * MIB), content_type="video/mp4")
    assert store.read(store.key("a"), limit_bytes=9 * MIB) == b"x" * 9 * MIB


@pytest.mark.parametrize("size", [0, 1000, 8 * MIB, 20 * MIB])
@pytest.mark.parametrize("error", [ValueError("cut"), OSError("broke"), StorageError("source"), KeyboardInterrupt()])
def test_a_stream_that_breaks_leaves_nothing(
    store: Store, object_store: ObjectStore, size: int, error: BaseException
) -> None:
    """The very error of the source comes out; no object and no unfinished upload remain."""
    with pytest.raises(type(error)) as raised:
        store.upload_stream(store.key("a"), Stream(size, error=error), content_type="video/mp4")

    assert raised.value is error
    assert store.head(store.key("a")) is None
    assert unfinished_uploads(object_store, store) == []


def test_a_stream_is_not_read_where_an_object_stands(store: Store) -> None:
    """What is there is seen before the first byte is read."""
    store.put(store.key("a"), b"there", content_type="text/plain")
    stream = Stream(1000)

    assert not store.upload_stream(store.key("a"), stream, content_type="video/mp4")
    assert stream.left == 1000


@pytest.mark.parametrize("size", [1000, 12 * MIB])
def test_what_appears_during_a_stream_is_not_overwritten(store: Store, object_store: ObjectStore, size: int) -> None:
    """An object that another one creates while the stream is read stays, and nothing of the stream remains."""
    key = store.key("a")

    class Overtaken(Stream):
        def read(self, amount: int, /) -> bytes:
            if not self.left:
                store.put(key, b"other", content_type="text/plain")
            return super().read(amount)

    assert not store.upload_stream(key, Overtaken(size), content_type="video/mp4")
    assert store.read(key, limit_bytes=5) == b"other"
    assert unfinished_uploads(object_store, store) == []


def race(store: Store, size: int) -> list[bool]:
    """Let three streams begin together and end together."""
    together = threading.Barrier(3)

    class Racer(Stream):
        def read(self, amount: int, /) -> bytes:
            if not self.left:
                together.wait(30)
            return super().read(amount)

    with ThreadPoolExecutor(3) as pool:
        return list(
            pool.map(
                lambda _: store.upload_stream(store.key("a"), Racer(size), content_type="video/mp4"),
                range(3),
            )
        )


def test_one_of_racing_small_streams_wins(store: Store) -> None:
    """Of small streams that end together, exactly one is told that it created the object."""
    assert sorted(race(store, 1000)) == [False, False, True]


def test_racing_large_streams_leave_one_whole_object(store: Store, object_store: ObjectStore) -> None:
    """Of large streams that end together one wins at least, and the object is whole.

    Exactly one is what AWS promises. This server checks the condition and completes in two steps, so that several
    completions of the same instant can win: no test against it can ask for more.
    """
    assert any(race(store, 12 * MIB))
    assert store.read(store.key("a"), limit_bytes=12 * MIB) == b"v" * 12 * MIB
    assert unfinished_uploads(object_store, store) == []


WHEN = "Last-Modified: Sat, 21 Nov 2026 07:00:00 GMT\r\n"


@pytest.fixture
def scripted_store(raw_server: Any) -> Store:
    session = boto3.Session("AKID", "s3cr3t", region_name="us-east-1")
    return Store("videos", session=session, endpoint_url=raw_server.url(""))


def test_a_store_without_conditions_is_written_to_without(scripted_store: Store, raw_server: Any, answer: Any) -> None:
    """A 501 to the condition is answered by the same write without it, and the condition is not tried again."""
    raw_server.script["/videos/a"] = [
        ("HEAD", answer(b"", "404 Not Found")),
        ("PUT", answer(b"<Error><Code>NotImplemented</Code></Error>", "501 Not Implemented")),
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


@pytest.mark.parametrize("size", [1_000, 20_000_000])
def test_over_https_a_body_is_sent_as_it_is(tmp_path: Path, size: int) -> None:
    """Its checksum stands in a header, before it. A checksum behind it would cost half as much processor again."""
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
        assert store.upload_stream("a", io.BytesIO(bytes(size)), content_type="video/mp4")
        server.shutdown()
        server.server_close()

    assert sum(len(body) for _, body in received) == size
    assert all(base64.b64decode(checksum) == zlib.crc32(body).to_bytes(4, "big") for checksum, body in received)
    assert not any(body.strip(b"\0") for _, body in received)
    if posted:  # AWS wants them announced, and told again at the end, in the order of the parts
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
    """Refused because it is there, and it is not there: that is no success, for nobody has put it there."""
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


def test_without_conditions_only_the_look_protects(object_store: ObjectStore, store: Store) -> None:
    """Conditional writes can be switched off; what stands there is respected still."""
    plain = Store(
        "videos", store.prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url,
        conditional_writes=False,
    )  # fmt: skip

    assert plain.put_new(plain.key("a"), b"x", content_type="text/plain")
    assert not plain.put_new(plain.key("a"), b"y", content_type="text/plain")
    assert plain.upload_stream(plain.key("b"), Stream(10), content_type="video/mp4")


def test_a_missing_bucket_is_named(object_store: ObjectStore) -> None:
    """The error names the bucket and says what to do."""
    lost = Store("no-such-bucket", session=object_store.session(), endpoint_url=object_store.endpoint_url)

    for create in (lost.put_new, lambda *a, **k: lost.upload_stream("a", Stream(9 * MIB), **k)):
        with pytest.raises(StorageError, match="s3://no-such-bucket/a: NoSuchBucket") as missing:
            create("a", b"x", content_type="text/plain")
        assert (missing.value.bucket, missing.value.key) == ("no-such-bucket", "a")


@pytest.mark.parametrize("keys", [("WRONG", None), (None, "WRONG")])
def test_wrong_keys_are_told(object_store: ObjectStore, keys: tuple[str | None, str | None]) -> None:
    """A wrong key is a storage error that names S3's code and holds no secret."""
    access_key, secret_key = keys[0] or object_store.access_key, keys[1] or object_store.secret_key
    blind = Store("videos", session=boto3.Session(access_key, secret_key), endpoint_url=object_store.endpoint_url)

    with pytest.raises(StorageError) as refused:
        blind.read("a", limit_bytes=1)

    assert refused.value.error_code in ("InvalidAccessKeyId", "SignatureDoesNotMatch")
    assert refused.value.http_status == 403
    assert object_store.secret_key not in repr(refused.value) + repr(refused.value.facts)


def test_no_credentials_are_told(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_store_that_is_not_there_is_told(unused_tcp_port: int) -> None:
    """Where nobody listens, the error names the endpoint."""
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
    """S3 takes no signature for more than seven days; boto3 would sign it without a word."""
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
    """A guess of the region would give URLs that nobody can open."""
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
    """Nobody says when a token ends that was given as it is: it signs, and its end is not known."""
    store = Store("bucket", session=boto3.Session("AKID", "s", "token", region_name="eu-west-1"))

    assert store.credentials_remaining() is None
    assert "X-Amz-Security-Token=token" in store.sign("a", timedelta(days=1))


def test_a_store_shows_no_secret(store: Store, object_store: ObjectStore) -> None:
    """Where a store is printed, it is its URI."""
    assert repr(store) == f"Store('s3://videos/{store.prefix}')"
