from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import uuid
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from PIL import Image

from runcomfy.download.hosts import HostPolicy
from runcomfy.errors import ImageUnavailable, InvalidInput, StorageError
from runcomfy.generation.image_urls import download_image
from runcomfy.generation.staging import sign, stage_image
from runcomfy.media.images import MAX_IMAGE_BYTES
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from runcomfy.values import StagedImage
from tests.corpus.images import encoded, heic

LOOPBACK = HostPolicy(("127.0.0.1",))
Answer = Callable[..., bytes]


@pytest.fixture
def png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((32, 24), 60).save(file, "PNG")
    return file.getvalue()


def get(url: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", url, retries=False)


async def test_a_file_is_staged_under_its_content(store: Store, tmp_path: Path, png: bytes) -> None:
    """The key is the hash of the bytes and the true extension; the facts are those of the image, without its folder."""
    path = tmp_path / "wrong-extension.jpg"
    path.write_bytes(png)

    image = await stage_image(path, store)

    sha256 = hashlib.sha256(png).hexdigest()
    assert image == StagedImage(
        bucket="videos", key=f"{store.prefix}images/{sha256}.png", sha256=sha256, size_bytes=len(png),
        content_type="image/png", width=32, height=24, source=path.name, uploaded=True,
    )  # fmt: skip
    assert image.uri == f"s3://videos/{image.key}"
    facts = store.head(image.key)
    assert facts is not None
    assert (facts.size_bytes, facts.content_type) == (len(png), "image/png")


async def test_the_same_image_is_uploaded_once(store: Store, tmp_path: Path, png: bytes) -> None:
    """A second name of the same bytes, and a second run, find the one object."""
    for name in ("a.png", "b b ü.png"):
        (tmp_path / name).write_bytes(png)

    first = await stage_image(str(tmp_path / "a.png"), store)
    again = await stage_image(f"file://{tmp_path}/b%20b%20%C3%BC.png", store)

    assert (first.uploaded, again.uploaded) == (True, False)
    assert first.key == again.key


async def test_the_same_image_at_the_same_time_is_uploaded_once(store: Store, tmp_path: Path, png: bytes) -> None:
    """Of several that stage one image together, exactly one uploads it."""
    (tmp_path / "a.png").write_bytes(png)

    images = await asyncio.gather(*(stage_image(tmp_path / "a.png", store) for _ in range(8)))

    assert sorted(image.uploaded for image in images) == [False] * 7 + [True]
    assert len({image.key for image in images}) == 1


async def test_a_home_directory_is_understood(
    store: Store, tmp_path: Path, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is the home of the user who runs this."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(png)

    assert (await stage_image("~/a.png", store)).uploaded


async def test_the_signed_url_opens_and_only_as_it_is(store: Store, tmp_path: Path, png: bytes) -> None:
    """Anyone can read the image by its signed URL; one that was changed is refused."""
    (tmp_path / "a.png").write_bytes(png)
    image = await stage_image(tmp_path / "a.png", store)

    url = sign(image, store, timedelta(hours=1))

    assert "X-Amz-Expires=3600" in url
    answer = get(url)
    assert (answer.status, answer.data) == (200, png)
    assert get(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=86400")).status == 403
    assert get(url[:-1] + ("0" if url[-1] != "0" else "1")).status == 403
    assert get(url.partition("?")[0]).status == 403
    assert url not in repr(image) + image.model_dump_json()


async def test_an_image_of_a_server_is_copied(store: Store, raw_server: Any, answer: Answer, png: bytes) -> None:
    """An https image is fetched, checked and stored; its own URL is remembered without the query."""
    raw_server.answers["/p.png"] = answer(png, headers="Content-Type: application/octet-stream\r\n")

    image = await stage_image(raw_server.url("/p.png?token=s3cr3t"), store, hosts=LOOPBACK)

    assert image.uploaded
    assert image.source == raw_server.url("/p.png")
    assert store.read(image.key, limit_bytes=10**6) == png


async def test_a_private_server_is_not_asked(store: Store, raw_server: Any) -> None:
    """Without being named, this network's own servers are not fetched from."""
    for scheme in ("http", "https"):
        with pytest.raises(InvalidInput, match="private address"):
            await stage_image(raw_server.url("/p.png", scheme=scheme), store)

    assert b"".join(raw_server.received) == b""


async def test_a_page_is_no_image(store: Store, raw_server: Any, answer: Answer) -> None:
    """A login page with status 200 is refused as an image."""
    raw_server.answers["/p.png"] = answer(b"<html>Sign in</html>")

    with pytest.raises(InvalidInput, match=r"HTML page of 127\.0\.0\.1, not.* an image"):
        await stage_image(raw_server.url("/p.png"), store, hosts=LOOPBACK)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("400 Bad Request", "copied whole"), ("401 Unauthorized", "wants a login"), ("403 Forbidden", "private"),
        ("404 Not Found", "no such image"), ("410 Gone", "removed it"), ("418 Teapot", "something else"),
        ("204 No Content", "something else"), ("451 Unavailable", "legal"),
    ],
)  # fmt: skip
async def test_an_image_that_its_server_refuses_is_a_wrong_input(
    store: Store, raw_server: Any, answer: Answer, status: str, words: str
) -> None:
    """With the host and the status, what it means for an image, and what to do; a signed URL has perhaps expired."""
    raw_server.answers["/p.png"] = answer(b"no", status)

    with pytest.raises(
        InvalidInput, match=rf"127\.0\.0\.1 answered {status[:3]}: .*{words}.* s3://bucket/key"
    ) as refused:
        await stage_image(raw_server.url("/p.png"), store, hosts=LOOPBACK)

    assert not refused.value.retryable
    if status[:3] in ("401", "403", "404"):
        with pytest.raises(InvalidInput, match="sign a new one") as refused:
            await stage_image(raw_server.url("/p.png?X-Amz-Signature=s3cr3t"), store, hosts=LOOPBACK)
        assert "s3cr3t" not in repr(refused.value) + str(refused.value.facts)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/a.png", "without encryption. Use https://"), ("https://10.0.0.7/a.png", "private address"),
        ("https://me:word@example.com/a.png", "user name or a password"),
        ("http://localhost:9000/a.png", "private address"),
        ("https:/example.com/a.png", "no host"),
    ],
)  # fmt: skip
async def test_a_url_that_is_not_asked_says_why(store: Store, url: str, words: str) -> None:
    """In words for an input: nothing about lists of hosts for outputs."""
    with pytest.raises(InvalidInput, match=words) as refused:
        await stage_image(url, store)

    assert "RUNCOMFY_OUTPUT_HOSTS" not in refused.value.message and "s3://bucket/key" in refused.value.message


def test_a_link_to_share_a_file_is_told_from_a_link_to_it(
    raw_server: Any, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal of a page says how the service that was asked, or that a redirect led to, links to files."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{raw_server.port}")
    links = {
        "http://drive.google.com/file/d/1/view": "uc?export=download", "http://www.dropbox.com/s/1/a.png?dl=0": "raw=1",
        "http://github.com/o/r/blob/main/a.png": "Raw", "http://example.com/gallery": "copy the image's address",
        "http://huggingface.co/o/r/blob/main/a.png": "/resolve/", "http://acme.sharepoint.com/:i:/s/1": "download=1",
        "http://en.wikipedia.org/wiki/File:A.png": "upload.wikimedia.org", "http://1drv.ms/i/1": "download the file",
    }  # fmt: skip
    for url, words in links.items():
        host = url.split("/")[2]
        raw_server.answers[url.partition("?")[0]] = answer(b"<!DOCTYPE html><html>")
        with pytest.raises(InvalidInput) as refused:
            download_image(url, HostPolicy((host,)))
        assert f"an HTML page of {host}, not" in refused.value.message and words in refused.value.message
    short = "http://short.example/1"
    raw_server.answers[short] = answer(b"", "302 Found", headers="Location: http://www.dropbox.com/s/1/a.png\r\n")
    with pytest.raises(InvalidInput, match="raw=1"):
        download_image(short, HostPolicy(("short.example", "www.dropbox.com")))


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data, wbits=-15)), ("gzip", bytes), ("br", bytes),
    ],
)  # fmt: skip
def test_an_image_that_was_packed_unasked_is_unpacked(
    raw_server: Any, answer: Answer, png: bytes, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    """Some servers pack everything; some only say so."""
    raw_server.answers["/p.png"] = answer(pack(png), headers=f"Content-Encoding: {encoding}\r\n")

    assert download_image(raw_server.url("/p.png"), LOOPBACK) == png


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("br", b"\x1b\x10\0", "br"), ("gzip", gzip.compress(bytes(60_000_000), mtime=0), "50,000,000"),
        ("gzip", gzip.compress(b"a png" * 99, mtime=0)[:-20], "gzip"),  # a time would be in the name of the test
        ("gzip", gzip.compress(b"<html>", mtime=0), "HTML page"),
    ],
)  # fmt: skip
def test_what_cannot_be_unpacked_is_refused(
    raw_server: Any, answer: Answer, encoding: str, body: bytes, words: str
) -> None:
    """Another encoding, a bomb, a part, and what is no image inside."""
    raw_server.answers["/p.png"] = answer(body, headers=f"Content-Encoding: {encoding}\r\n")

    with pytest.raises(InvalidInput, match=words):
        download_image(raw_server.url("/p.png"), LOOPBACK)


async def test_a_photo_that_is_converted_keeps_the_hash_of_its_file(
    store: Store, object_store: ObjectStore, tmp_path: Path
) -> None:
    """Other libraries convert it into other bytes: what was staged remains, and is the same image when it is named."""
    given = heic(size=(320, 240))
    (tmp_path / "IMG_1.HEIC").write_bytes(given)

    first = await stage_image(tmp_path / "IMG_1.HEIC", store)

    sha256 = hashlib.sha256(given).hexdigest()
    assert (first.sha256, first.key) == (sha256, store.key(f"images/{sha256}.jpg"))
    assert (first.content_type, first.converted_from, first.width) == ("image/jpeg", "image/heic", 320)
    stored = store.read(first.key, limit_bytes=10**6)
    assert (stored[:2], len(stored)) == (b"\xff\xd8", first.size_bytes)
    assert StagedImage.model_validate_json(first.model_dump_json()) == first
    again, named = [await stage_image(source, store) for source in (tmp_path / "IMG_1.HEIC", first.uri)]
    assert again.model_copy(update={"uploaded": True}) == first
    assert named.model_copy(update={"uploaded": True, "source": first.source}) == first
    elsewhere = Store(
        "images", f"test-{uuid.uuid4().hex}", session=object_store.session(), endpoint_url=object_store.endpoint_url
    )
    assert (await stage_image(first.uri, elsewhere)).sha256 == hashlib.sha256(stored).hexdigest()
    plain = await stage_image(write(tmp_path / "a.png", encoded("PNG")), store)
    assert "converted_from" not in plain.model_dump()


async def test_metadata_of_an_object_that_was_not_staged_is_not_believed(
    store: Store, object_store: ObjectStore, png: bytes
) -> None:
    """Whoever may write some object could name another image's content, and get its generation, or spoil its copy."""
    sha256 = hashlib.sha256(png).hexdigest()
    metadata = {"runcomfy-image-sha256": "a" * 64, "runcomfy-image-type": "image/heic"}
    other = Store("images", store.prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    places = [(store, "a.png"), (store, f"images/{'b' * 64}.png"), (other, f"images/{'a' * 64}.png")]
    for place, name in places:
        place.put(place.key(name), png, content_type="image/png", metadata=metadata)

        staged = await stage_image(place.uri(place.key(name)), store)

        assert (staged.sha256, staged.key) == (sha256, store.key(f"images/{sha256}.png"))
        assert staged.converted_from is None


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def test_a_server_in_trouble_may_be_asked_again(store: Store, raw_server: Any, answer: Answer) -> None:
    """A cut body and a 503 say nothing about the image: those errors may be retried."""
    raw_server.answers["/cut"] = answer(b"x" * 10, length=20)
    raw_server.answers["/503"] = answer(b"", "503 Busy")

    for path in ("/cut", "/503"):
        with pytest.raises(ImageUnavailable, match="Nothing was paid for"):
            await stage_image(raw_server.url(path), store, hosts=LOOPBACK)


@pytest.mark.parametrize("length", [MAX_IMAGE_BYTES + 1, 10**15])
async def test_a_huge_image_of_a_server_is_not_read(store: Store, raw_server: Any, answer: Answer, length: int) -> None:
    """An announced length above the bound is refused without the body."""
    raw_server.answers["/p.png"] = answer(b"", length=length)

    with pytest.raises(InvalidInput, match="50,000,000"):
        await stage_image(raw_server.url("/p.png"), store, hosts=LOOPBACK)


async def test_a_huge_file_is_refused(store: Store, tmp_path: Path) -> None:
    """A file above the bound is refused without being read to its end."""
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(InvalidInput, match="50,000,000"):
        await stage_image(path, store)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.png", "no file"), (".", "folder"), ("empty.png", "empty"), ("text.png", "not an image"),
        ("a\0b.png", "png"), ("x" * 300 + ".png", "png"),
    ],
)  # fmt: skip
async def test_a_path_without_an_image_is_refused(store: Store, tmp_path: Path, name: str, says: str) -> None:
    """A path that leads to no image is a wrong input, and the sentence says which."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("text")

    with pytest.raises(InvalidInput, match=says) as refused:
        await stage_image(f"{tmp_path}/{name}", store)

    assert refused.value.violations[0][0] == "image"


@pytest.mark.parametrize(
    "source", ["ftp://h/a.png", "data:image/png;base64,AAAA", "file://host/a.png", "s3://b", "s3:///k"]
)
async def test_other_schemes_are_refused(store: Store, source: str) -> None:
    """An unsupported scheme is a wrong input."""
    with pytest.raises(InvalidInput):
        await stage_image(source, store)


@pytest.mark.parametrize("bucket", ["videos", "images"])
async def test_an_image_in_s3_is_copied_under_its_content(
    store: Store, object_store: ObjectStore, bucket: str, png: bytes
) -> None:
    """Whatever its key is; what is stored there later is not what is submitted."""
    other = Store(bucket, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    key = f"{uuid.uuid4().hex}/a b?c#ü+.png"
    other.put(key, png, content_type="image/png")

    image = await stage_image(f"s3://{bucket}/{key}", store)

    other.put(key, b"another one", content_type="image/png")
    assert (image.bucket, image.uploaded, image.width) == (store.bucket, True, 32)
    assert image.key == store.key(f"images/{image.sha256}.png")
    assert image.source == f"s3://{bucket}/{key}"
    assert get(sign(image, store, timedelta(minutes=5))).data == png


async def test_an_object_that_is_no_image_is_refused(store: Store) -> None:
    """An object in S3 is decoded like everything else, and a missing object is a wrong input."""
    store.put(store.key("text.png"), b"text", content_type="image/png")

    with pytest.raises(InvalidInput, match="not an image"):
        await stage_image(store.uri(store.key("text.png")), store)
    with pytest.raises(InvalidInput, match="no object"):
        await stage_image(store.uri(store.key("missing.png")), store)


async def test_an_object_without_the_right_to_read_it_is_a_storage_error(object_store: ObjectStore) -> None:
    """Wrong keys are an error of the store, and the error has S3's reason."""
    session = boto3.Session("WRONG", "WRONG", region_name="us-east-1")
    blind = Store("videos", session=session, endpoint_url=object_store.endpoint_url)

    with pytest.raises(StorageError, match=r"s3://images/a\.png") as refused:
        await stage_image("s3://images/a.png", blind)

    assert refused.value.http_status == 403


async def test_a_staged_image_records_what_may_spoil_the_video(store: Store, tmp_path: Path) -> None:
    """In its record too; an image without one is recorded as it always was."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (640, 360)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (640, 360)).save(tmp_path / "plain.jpg")

    turned, plain = [await stage_image(tmp_path / name, store) for name in ("turned.jpg", "plain.jpg")]

    (warning,) = turned.warnings
    assert "EXIF orientation 6" in warning and turned.model_dump()["warnings"] == [warning]
    assert StagedImage.model_validate_json(turned.model_dump_json()) == turned
    assert plain.warnings == () and not {"warnings", "orientation"} & plain.model_dump().keys()
