"""Stores of all kinds, over the wire: each line of the tables is one kind, and what is made of it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from runcomfy.errors import StorageError
from runcomfy.journal import BucketJournalStore
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.bucket_settings import BucketSettings
from runcomfy.storage.garbage import collect_garbage
from runcomfy.storage.store import Store
from runcomfy.storage.upload import Body
from tests.corpus.stores import GOOD, KEY_ARN, REFUSED
from tests.runcomfy.storage import behaviours as b
from tests.runcomfy.storage.imitated import Behaviour, ImitatedStore, imitated_store, refused

VIDEO = b"v" * 1000


QUICK = (
    "rights on a prefix only", "checksums are refused with 501", "a KMS key is wanted", "two dates",
    "301 without a region", "a page with 403",
)  # fmt: skip


def of_table(table: Iterable[str], quick: Collection[str]) -> list[Any]:
    """All lines of a table; those that are not quick are for the slow suite."""
    return [pytest.param(kind, marks=() if kind in quick else pytest.mark.slow) for kind in table]


def use(store: Store) -> None:
    """Do all that a generation does with a store, and see that it has it as it is meant."""
    store.check()
    BucketJournalStore(store).check()
    note, video, large = (store.key(name) for name in ("journal/note", "a.mp4", "b.mp4"))
    facts: dict[str, Any] = {"content_type": "video/mp4", "metadata": {"sha256": "abc"}}

    assert store.read_version(note, limit_bytes=10) is None and store.head(video) is None
    first = store.replace_if(note, b"1", etag=None, content_type="text/plain")
    assert first and store.replace_if(note, b"2", etag=first, content_type="text/plain")
    assert store.replace_if(note, b"3", etag=first, content_type="text/plain") is None
    assert store.put_new(store.key("images/a"), b"image", content_type="image/png")
    assert not store.put_new(store.key("images/a"), b"other", content_type="image/png")
    for key, limit in ((video, len(VIDEO)), (large, 1)):  # in one piece, and in parts
        body = Body(io.BytesIO(VIDEO), 0, len(VIDEO), zlib.crc32(VIDEO), lambda: None)
        assert store.put_file(key, body, largest_put_bytes=limit, **facts)
        assert store.read(key, limit_bytes=len(VIDEO)) == VIDEO
    copied = store.key("copies/a.mp4")
    assert store.copy_new(video, copied) and not store.copy_new(video, copied)
    assert store.read(copied, limit_bytes=len(VIDEO)) == VIDEO
    version = store.read_version(note, limit_bytes=10)
    assert version is not None and version.body == b"2"


@pytest.mark.parametrize("kind", of_table(GOOD, QUICK))
def test_a_store_of_this_kind_serves(kind: str, object_store: ObjectStore, prefix: str) -> None:
    """Everything that a generation needs, its journal included."""
    behaviour, options = GOOD[kind]
    with imitated_store(object_store, behaviour(f"{prefix}/")) as imitated:
        use(imitated.store("videos", prefix, settings=BucketSettings(**options)))


def test_a_store_without_conditional_copies_keeps_its_other_conditions(object_store: ObjectStore, prefix: str) -> None:
    """What is written after a copy is created only if it does not exist, as before."""
    with imitated_store(object_store, b.refuses_conditional_copies) as imitated:
        store = imitated.store("videos", prefix)
        use(store)
        imitated.requests.clear()
        assert store.put_new(store.key("after"), b"1", content_type="text/plain")

        (written,) = [request for request in imitated.requests if request.writes]
        assert written.headers["if-none-match"] == "*"


@pytest.mark.parametrize("kind", of_table(REFUSED, QUICK))
def test_a_store_of_this_kind_is_refused_in_words(kind: str, object_store: ObjectStore, prefix: str) -> None:
    """Before anything is paid for, in a few calls, and each method on its own says the same."""
    behaviour, words = REFUSED[kind]
    with imitated_store(object_store, behaviour) as imitated:
        store = imitated.store("videos", prefix)
        with pytest.raises(StorageError, match=words) as failure:
            use(store)
        assert len(imitated.requests) < 20
        assert not {"Traceback", "Error(", "NoneType"}.intersection(failure.value.message.split())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind not in ("JSON", "nothing")])
def test_each_call_to_such_a_store_ends_in_words(kind: str, object_store: ObjectStore, prefix: str) -> None:
    """With an error of ours, if with any."""
    with imitated_store(object_store, REFUSED[kind][0]) as imitated:
        store = imitated.store("videos", prefix)
        for call in (
            lambda: store.read("a", limit_bytes=99), lambda: store.read_version("a", limit_bytes=99),
            lambda: store.head("a"), lambda: list(store.list(store.prefix)), lambda: store.list_folder(store.prefix),
            lambda: list(store.unfinished_uploads(store.prefix)), lambda: store.delete("a"),
            lambda: store.put("a", b"x", content_type="text/plain"), store.find_region,
        ):  # fmt: skip
            try:
                call()
            except StorageError as error:
                assert error.message.startswith("Could not")


def puts(imitated: ImitatedStore) -> list[bool]:
    """Whether each request that writes had a checksum."""
    sent = [request for request in imitated.requests if request.writes]
    return [any(name.startswith("x-amz-checksum-") for name in request.headers) for request in sent]


def test_checksums_that_are_refused_are_tried_once(object_store: ObjectStore, prefix: str) -> None:
    """By the first write; and not at all if boto3 is told that nobody requires them."""
    with imitated_store(object_store, b.refuses_checksums(501, "NotImplemented")) as imitated:
        store = imitated.store("videos", prefix)
        for name in ("a", "b"):
            assert store.put_new(store.key(name), b"x", content_type="text/plain")
        assert puts(imitated) == [True, False, False]


def test_boto3_may_be_told_to_send_no_checksums(
    object_store: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for every other program that uses boto3."""
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    with imitated_store(object_store, lambda request, send: send(request)) as imitated:
        use(imitated.store("videos", prefix))
        assert not any(puts(imitated))


def test_another_refusal_does_not_end_the_checksums(object_store: ObjectStore, prefix: str) -> None:
    """They are sent again with the next write."""

    def refuse_one(request: Any, send: Any) -> Any:
        return refused(400, "InvalidArgument") if request.key.endswith("/bad") else send(request)

    with imitated_store(object_store, refuse_one) as imitated:
        store = imitated.store("videos", prefix)
        with pytest.raises(StorageError, match="InvalidArgument"):
            store.put(store.key("bad"), b"x", content_type="text/plain")
        store.put(store.key("good"), b"x", content_type="text/plain")
        assert puts(imitated) == [True, False, True]


def test_a_signed_url_needs_no_header_of_ours(object_store: ObjectStore, prefix: str) -> None:
    """Whoever pays, and whoever owns the bucket."""
    settings = BucketSettings(requester_pays=True, expected_bucket_owner="123456789012", kms_key_id=KEY_ARN)
    store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    store.put(store.key("a"), b"image", content_type="image/png")
    paying = Store(
        "videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url, settings=settings
    )

    url = paying.sign(store.key("a"), timedelta(minutes=5))

    assert "x-amz-request-payer=requester" in url
    assert httpx.get(url).content == b"image"


def test_an_image_of_another_owner_is_read(object_store: ObjectStore, prefix: str) -> None:
    """The owner is that of the store's own bucket."""
    with imitated_store(object_store, lambda request, send: send(request)) as imitated:
        store = imitated.store("videos", prefix, settings=BucketSettings(expected_bucket_owner="123456789012"))
        store.head("a", "images")
        store.head("a")
    owners = ["x-amz-expected-bucket-owner" in request.headers for request in imitated.requests]
    assert owners == [False, True]


@pytest.mark.parametrize(
    ("stored", "encoding", "words"),
    [
        (b"\x1f\x8b" + b"0" * 20, "gzip", "damaged"),
        (b"\x1f\x8b", "gzip", "damaged"),
        (b"0" * 20, "br", "content encoding br"),
        (zlib.compress(bytes(5_000_000)), "deflate", "1,000 are allowed"),
    ],
)
def test_what_is_packed_otherwise_is_named(store: Store, stored: bytes, encoding: str, words: str) -> None:
    """Damaged, packed in another way, or larger than allowed once it is unpacked."""
    key = store.key("a")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=stored, ContentEncoding=encoding)

    for read in (store.read, store.read_version):
        with pytest.raises(StorageError, match=words):
            read(key, limit_bytes=10_000 if "1,000" not in words else 1_000)


@pytest.mark.parametrize("encoding", ["gzip", "identity", "aws-chunked", "GZIP, aws-chunked", "deflate"])
def test_what_is_said_to_be_packed_is_read(store: Store, encoding: str) -> None:
    """Unpacked; as it is, where a server has kept the header and not the packing."""
    key, body = store.key("a"), b"a prompt"
    packed = zlib.compress(body) if encoding == "deflate" else body
    store.client.put_object(Bucket=store.bucket, Key=key, Body=packed, ContentEncoding=encoding)

    assert store.read(key, limit_bytes=100) == body


@pytest.mark.parametrize("second", [b" goes on", b"", b"\0"])
def test_gzip_of_several_members_is_read_whole(store: Store, second: bytes) -> None:
    """As appending and parallel writers make it; the limit is that of all, and a member that is cut is damage."""
    key, body = store.key("a"), b"a prompt" + second
    packed = gzip.compress(b"a prompt") + gzip.compress(second)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=packed, ContentEncoding="gzip")

    assert store.read(key, limit_bytes=len(body)) == body
    if second:
        with pytest.raises(StorageError, match="are allowed"):
            store.read(key, limit_bytes=len(body) - 1)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=packed[:-9], ContentEncoding="gzip")
    with pytest.raises(StorageError, match="damaged"):
        store.read(key, limit_bytes=100)


def denying(how: dict[str, Any], prefix: str) -> Behaviour:
    """Rights on a prefix, and none to list; from then on the refusals that are set."""
    rights = b.rights_on(prefix, lists=False)

    def behave(request: Any, send: Any) -> Any:
        kind = "list" if not request.key else request.method
        return how.get(kind) or rights(request, send)

    return behave


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RequestTimeTooSkewed", ""), ("SignatureDoesNotMatch", ""), ("InvalidAccessKeyId", ""), ("ExpiredToken", ""),
        ("AccessDenied", "not authorized to perform: kms:Decrypt"),
    ],
)  # fmt: skip
def test_only_a_plain_denial_may_mean_that_nothing_is_there(
    object_store: ObjectStore, prefix: str, code: str, message: str
) -> None:
    """A clock, a key or KMS is refused for what is there, too; otherwise an entry would be lost, and paid for twice."""
    how: dict[str, Any] = {}
    with imitated_store(object_store, denying(how, f"{prefix}/")) as imitated:
        store = imitated.store("videos", prefix)
        key = store.key("journal/entry")
        assert store.read_version(key, limit_bytes=10) is None and store.head(key) is None  # and that is remembered

        how["GET"] = refused(403, code, message)
        with pytest.raises(StorageError, match=code):
            store.read_version(key, limit_bytes=10)
        if code != "AccessDenied":
            how["list"] = how["GET"]
            with pytest.raises(StorageError, match="403"):  # a HEAD does not say why
                store.head(key)


@pytest.mark.parametrize(("answer", "words"), [
    (b.says(status=404, body=b"<html>Not found</html>"), "404"),
    (lambda *_: refused(404, "NoSuchService"), "NoSuchService"),
    (b.says(status=403, body=b"<html>Forbidden</html>"), "403"),
])  # fmt: skip
def test_what_a_proxy_does_not_find_is_not_missing(
    object_store: ObjectStore, prefix: str, answer: Behaviour, words: str
) -> None:
    """Only S3 itself says that there is no entry."""
    with imitated_store(object_store, answer) as imitated:
        store = imitated.store("videos", prefix)
        with pytest.raises(StorageError, match=words):
            store.read_version(store.key("journal/entry"), limit_bytes=10)


def test_what_a_kill_leaves_is_removed(store: Store, object_store: ObjectStore) -> None:
    """The objects and uploads of a try-out, and of a video; of other people's, nothing."""
    client = store.client
    left = ["journal/.probe-1/try", "journal/.probe-2"]
    for name in [*left, "journal/entry"]:
        store.put(store.key(name), b"x", content_type="text/plain")
    for name in ("journal/.probe-1/try-parts", "wan-ai/x/request-0.mp4", "theirs/movie.mov"):
        client.create_multipart_upload(Bucket=store.bucket, Key=store.key(name))

    collected = collect_garbage(store, uploads_older_than=timedelta(0))

    assert sorted(collected.uploads) == [
        store.key("journal/.probe-1/try-parts"), store.key("wan-ai/x/request-0.mp4"),
    ]  # fmt: skip
    assert [found.key for found in store.list(store.prefix)] == [store.key("journal/entry")]
    assert [upload.key for upload in store.unfinished_uploads(store.prefix)] == [store.key("theirs/movie.mov")]


def test_without_the_right_to_list_uploads_the_rest_is_tidied(object_store: ObjectStore, prefix: str) -> None:
    """It is a right on the bucket, and rights on a prefix cannot hold it."""
    with imitated_store(object_store, b.rights_on(f"{prefix}/")) as imitated:
        store = imitated.store("videos", prefix)
        store.put(store.key("journal/.probe-1"), b"x", content_type="text/plain")

        assert collect_garbage(store, uploads_older_than=timedelta(0)).uploads == []
        assert list(store.list(store.prefix)) == []
