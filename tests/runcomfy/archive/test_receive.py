"""What the output host sends: what is kept, by which name, with which warnings; and what is requested again."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from runcomfy.api.responses import parse_answer
from runcomfy.archive.archive import archive_answer, archive_output
from runcomfy.archive.provenance import Provenance
from runcomfy.download.stream import RetryBudget
from runcomfy.errors import ArchiveConflict, DownloadError, UnexpectedContent
from runcomfy.media.marking import ai_box
from runcomfy.media.validation import OutputValidation
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo, GenerationFacts
from tests.runcomfy.archive.test_archive import HOSTS, Answer, Source, keys, source, video

__all__ = ["source"]

CASES = {path.name: path.read_bytes() for path in sorted((Path(__file__).parent / "arrivals").iterdir())}
FACTS = GenerationFacts(model_id="m", request_id="r-1", generation_key="a" * 64)
ASKED = OutputValidation(makes="video")


async def archive(
    source: Source,
    store: Store,
    *,
    name: str = "video.mp4",
    facts: GenerationFacts = FACTS,
    index: int = 0,
    mark: bool = True,
) -> ArchivedVideo:
    url = source.url.replace("video.mp4", name)
    budget = RetryBudget(first_pause_seconds=0.001)
    return await archive_output(url, index, facts, store, hosts=HOSTS, validation=ASKED, retry_budget=budget, mark=mark)


def body_of(store: Store, archived: ArchivedVideo) -> bytes:
    return store.read(archived.key, limit_bytes=10**9)


KEPT = {
    "h264.mp4": ("mp4", "h264", []),
    "av1.mp4": ("mp4", "av1", []),
    "rot.mp4": ("mp4", "h264", []),
    "ID32.mp4": ("mp4", "h264", ["not of its format: ID32"]),
    "Xtra_tail.mp4": ("mp4", "h264", ["not of its format: Xtra"]),
    "pad_nl.mp4": ("mp4", "h264", ["1 byte follows"]),
    "pad_zero16.mp4": ("mp4", "h264", ["16 bytes follow"]),
    "trunc.mp4": ("mp4", "h264", ["cut off where it was made", "is damaged"]),
    "avi.avi": ("avi", "mpeg4", ["of the kind avi"]),
    "ts.ts": ("ts", "h264", ["of the kind mpegts"]),
    "live.webm": ("webm", "vp9", []),
    "opus.webm": ("webm", "vp9", []),
    "gz.mp4": ("mp4", "h264", ["came packed (gzip)"]),
}


@pytest.mark.parametrize("name", KEPT)
async def test_a_playable_or_complete_file_is_kept(source: Source, store: Store, name: str) -> None:
    """Anything odd about a file is a warning in its provenance; the file is in the bucket, under its own name."""
    extension, codec, warnings = KEPT[name]
    data = CASES[name]
    source.answer = Answer(data)

    archived = await archive(source, store, name=name)

    stored, provenance = (
        body_of(store, archived),
        Provenance.from_json(store.read(archived.provenance_key, limit_bytes=9999)),
    )
    assert archived.key.endswith(f".{extension}")
    assert stored.startswith(gzip.decompress(data) if name == "gz.mp4" else data)
    assert provenance.sha256 == hashlib.sha256(stored).hexdigest()
    assert (provenance.media.codec, provenance.warnings) == (codec, archived.warnings)
    assert len(archived.warnings) == len(warnings)
    assert all(said in warning for said, warning in zip(warnings, archived.warnings, strict=True))


def image(kind: str, frames: int = 1) -> bytes:
    made = io.BytesIO()
    images = [Image.effect_noise((64, 48), 60 + number).convert("RGB") for number in range(frames)]
    images[0].save(made, kind, save_all=frames > 1, append_images=images[1:])
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "extension", "content_type"),
    [
        ("x.mp4", image("png"), "png", "image/png"),
        ("x.mp4", image("gif", 3), "gif", "image/gif"),
        ("x.mp4", image("webp", 3), "webp", "image/webp"),
        ("x.mp4", image("bmp"), "bmp", "image/bmp"),
        ("x.mp4", image("avif"), "avif", "image/avif"),
        ("x.mp4", b"<?xml version='1.0'?><svg xmlns='x'></svg>", "svg", "image/svg+xml"),
        ("x.mp4", b"fLaC\0\0\0\x22" + bytes(100), "flac", "audio/flac"),
        ("x.mp4", b"PK\3\4" + bytes(100), "zip", "application/zip"),
        ("x.glb", b"glTF\2\0\0\0" + bytes(100), "glb", "model/gltf-binary"),
        ("x.weights", b"\x01\x02\x03\xff" * 50, "weights", "video/mp4"),
        ("x.obj", b"# a cube\nv 0 0 0\n", "obj", "video/mp4"),
        ("x", b"\x01\x02\x03\xff" * 50, "mp4", "video/mp4"),
    ],
)
async def test_a_file_that_is_no_video_is_kept_with_a_warning(
    source: Source, store: Store, name: str, data: bytes, extension: str, content_type: str
) -> None:
    """A still, an animation, sound, a model, and an unknown kind: paid for, whole, and so kept as it is."""
    source.answer = Answer(data)

    archived = await archive(source, store, name=name, mark=False)

    assert body_of(store, archived) == data
    assert (archived.key.rpartition(".")[2], archived.content_type) == (extension, content_type)
    assert archived.warnings


def spoiled(kind: str) -> bytes:
    """Return an image with its end, and with zeros in its first picture."""
    data = image(kind, 3 if kind in ("gif", "webp") else 1)
    middle = {"webp": data.find(b"ANMF") + 24, "gif": 900}.get(kind, len(data) // 2)
    size = 400 if kind in ("gif", "webp") else 4000
    return data[:middle] + bytes(min(size, len(data) - middle - 40)) + data[min(middle + size, len(data) - 40) :]


@pytest.mark.parametrize("kind", ["webp", "gif", "png"])
async def test_a_damaged_image_is_kept_though_nobody_says_how_long_it_is(
    source: Source, store: Store, kind: str
) -> None:
    """It has its end, so it was not cut off on the way, and archiving it again would bring the same."""
    data = spoiled(kind)
    source.answer = Answer(data, with_length=False)

    archived = await archive(source, store)

    assert body_of(store, archived) == data
    assert archived.quality is not None and archived.quality.verdict == "damaged"


@pytest.mark.parametrize("name", ["trunc.mp4", "pad_nl.mp4", "h264.mp4"])
@pytest.mark.parametrize("mark", [True, False])
async def test_what_an_older_version_has_stored_is_adopted(source: Source, store: Store, name: str, mark: bool) -> None:
    """Marked where this version would not mark it, or the other way round; on a store that keeps no metadata."""
    source.answer = Answer(CASES[name])
    old = CASES[name] + (ai_box(FACTS.model_id) if mark else b"")
    store.put_new(store.key("m/r-1-0.mp4"), old, content_type="video/mp4")

    archived = await archive(source, store)

    assert (archived.already_archived, body_of(store, archived)) == (True, old)
    provenance = Provenance.from_json(store.read(archived.provenance_key, limit_bytes=9999))
    assert (provenance.marked, provenance.source_sha256) == (mark, hashlib.sha256(CASES[name]).hexdigest())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no limit of a file's size")
async def test_a_disk_without_room_for_the_mark(source: Source, store: Store) -> None:
    """The file is archived without it, as it came, and that is said."""
    import resource

    data = video()
    source.answer = Answer(data)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(data) + 20, before[1]))
    try:
        archived = await archive(source, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert body_of(store, archived) == data
    assert any("not marked" in warning for warning in archived.warnings)
    provenance = Provenance.from_json(store.read(archived.provenance_key, limit_bytes=9999))
    assert (provenance.marked, provenance.sha256) == (False, provenance.source_sha256)
    assert (await archive(source, store)).already_archived


PAGES = {
    "html": b"<!doctype html><title>Sorry</title>",
    "commented": b"<!-- gateway -->\n<html><body>502</body></html>",
    "utf-16": "<html></html>".encode("utf-16"),
    "xml": CASES["html.mp4"],
    "json": b'{"error": "expired"}',
    "json list": b" [1, 2]",
    "text": b"error code: 1015",
    "spaces": b" \n" * 9,
    "empty": b"",
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
@pytest.mark.parametrize("with_length", [True, False])
async def test_a_file_that_is_no_media_is_refused(
    source: Source, store: Store, object_store: ObjectStore, page: str, encoding: str, with_length: bool
) -> None:
    """A page, a document, a message or nothing, packed or not, never passes for the file: it can be asked for again."""
    packed: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}
    headers = {"Content-Encoding": encoding} if encoding else {}
    source.answer = Answer(packed[encoding](PAGES[page]), headers=headers, with_length=with_length)

    with pytest.raises(UnexpectedContent) as refused:
        await archive(source, store)

    assert refused.value.retryable
    assert keys(object_store, store) == []


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "twice": ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
    "members": ("gzip", lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:])),
    "upper case": ("GZIP", gzip.compress),
    "no header": ("", gzip.compress),
}


@pytest.mark.parametrize("how", ENCODINGS)
@pytest.mark.parametrize("with_length", [True, False])
async def test_a_packed_file_is_unpacked(source: Source, store: Store, how: str, with_length: bool) -> None:
    """It was not requested, and no player could use it: the video itself is kept, with a warning."""
    encoding, pack = ENCODINGS[how]
    headers = {"Content-Encoding": encoding} if encoding else {}
    source.answer = Answer(pack(video()), headers=headers, with_length=with_length)

    archived = await archive(source, store)

    assert body_of(store, archived) == video() + ai_box("m")
    assert [("packed" in warning) for warning in archived.warnings] == [True]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "aws-chunked", "identity", "nonsense"])
async def test_a_wrong_encoding_header_changes_nothing(source: Source, store: Store, encoding: str) -> None:
    """A header that does not match the bytes is at most a warning."""
    source.answer = Answer(video(), headers={"Content-Encoding": encoding})

    archived = await archive(source, store)

    assert body_of(store, archived) == video() + ai_box("m")


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("br", b"\x8b\x02\x80 packed somehow \xff\xfe"),
        ("zstd", b"\x28\xb5\x2f\xfd" + os.urandom(64)),
        ("gzip", gzip.compress(video())[:200] + b"damaged" + gzip.compress(video())[207:]),
        ("gzip", gzip.compress(bytes(100_000_000), 9)),
    ],
    ids=["br", "zstd", "damaged", "bomb"],
)
async def test_a_file_that_cannot_be_unpacked_is_kept_as_it_came(
    source: Source, store: Store, encoding: str, data: bytes
) -> None:
    """The announced length arrived; its kind may be found out later."""
    source.answer = Answer(data, headers={"Content-Encoding": encoding})

    archived = await archive(source, store)

    assert body_of(store, archived) == data
    assert any("could not be unpacked" in warning for warning in archived.warnings)


def damaged(data: bytes) -> bytes:
    at = data.index(b"mdat")
    size = int.from_bytes(data[at - 4 : at], "big")
    return data[: at + 4] + bytes(size - 8) + data[at - 4 + size :]


@pytest.mark.parametrize("broken", [damaged(video()), video()[:-300], video()[:1500]], ids=["zeros", "cut", "half"])
async def test_a_file_that_looks_broken_is_read_again(source: Source, store: Store, broken: bytes) -> None:
    """A host that sends a broken file once, with its length, sends the good one at the second request."""
    source.answers = [Answer(broken), Answer(video())]

    archived = await archive(source, store)

    assert body_of(store, archived) == video() + ai_box("m")
    assert (archived.warnings, len(source.requests)) == ((), 2)


@pytest.mark.parametrize("then", [Answer(b"<html>"), Answer(status="404 Gone"), Answer(video(), sent=99), None])
async def test_a_file_that_stays_broken_is_kept(source: Source, store: Store, then: Answer | None) -> None:
    """If the second read is no better, the first one is kept, with a warning."""
    broken = damaged(video())
    source.answers = [Answer(broken), then or Answer(broken), *[Answer(status="404 Gone")] * 3]

    archived = await archive(source, store)

    assert body_of(store, archived) == broken
    assert "does not decode" in archived.warnings[0]


async def test_a_file_of_unknown_length_is_kept_if_it_plays(source: Source, store: Store) -> None:
    """A live WebM from a host that gives no length is read twice; the longer one is kept, with a warning."""
    source.answers = [
        Answer(CASES["live.webm"], with_length=False, sent=4000),
        Answer(CASES["live.webm"], with_length=False),
    ]

    archived = await archive(source, store)

    assert body_of(store, archived) == CASES["live.webm"]
    assert "cannot be ruled out" in archived.warnings[0]


def without_provenance(object_store: ObjectStore, store: Store, archived: ArchivedVideo) -> None:
    for key in (archived.provenance_key, archived.poster_key):
        if key:
            object_store.session().client("s3", endpoint_url=object_store.endpoint_url).delete_object(
                Bucket=store.bucket, Key=key
            )


OTHERS = {
    "another kind": Answer(CASES["live.webm"]),
    "another kind, packed": Answer(gzip.compress(CASES["live.webm"]), headers={"Content-Encoding": "gzip"}),
    "other bytes": Answer(video(shade=5)),
    "a page": Answer(b"<html>"),
    "expired": Answer(status="403 Forbidden"),
    "cut": Answer(video(), sent=5000),
    "nothing": Answer(b""),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_the_object_of_an_earlier_attempt_is_completed(
    source: Source, store: Store, object_store: ObjectStore, other: str
) -> None:
    """Killed before the provenance: the object identifies itself, and is completed, whatever its host sends now."""
    source.answer = Answer(video())
    first = await archive(source, store)
    without_provenance(object_store, store, first)
    source.answer = OTHERS[other]

    again = await archive(source, store)

    assert again == first.model_copy(update={"already_archived": True})
    assert keys(object_store, store) == ["m/r-1-0.mp4", "m/r-1-0.mp4.jpg", "m/r-1-0.mp4.json"]
    assert Provenance.from_json(store.read(again.provenance_key, limit_bytes=9999)).marked


async def test_an_archived_output_is_not_archived_again_as_another_kind(
    source: Source, store: Store, object_store: ObjectStore
) -> None:
    """One output is one file, also where its host gives it in another container the next time."""
    source.answer = Answer(video())
    first = await archive(source, store)
    source.answer = Answer(CASES["live.webm"])

    assert await archive(source, store) == first.model_copy(update={"already_archived": True})
    assert keys(object_store, store) == ["m/r-1-0.mp4", "m/r-1-0.mp4.jpg", "m/r-1-0.mp4.json"]


@pytest.mark.parametrize("broken", [Answer(status="404 Not Found"), Answer(b"<html>"), Answer(video(), sent=500)])
async def test_an_unavailable_file_does_not_keep_the_others_from_the_bucket(
    source: Source, store: Store, object_store: ObjectStore, broken: Answer
) -> None:
    """Each file of a request is paid for: those that arrive are kept, then the error names the others."""
    source.answers, source.answer = [broken], Answer(video())
    answer = parse_answer("r-1", {"status": "succeeded", "output": {"videos": [source.url, f"{source.url}2"]}})

    with pytest.raises((DownloadError, UnexpectedContent)) as caught:
        await archive_answer(answer, FACTS, store, hosts=HOSTS, retry_budget=RetryBudget(resumes=0))

    assert caught.value.facts["output_index"] == 0
    assert keys(object_store, store) == ["m/r-1-1.mp4", "m/r-1-1.mp4.jpg", "m/r-1-1.mp4.json"]


@pytest.mark.parametrize("changed", [{"runcomfy-request-id": "r-2"}, {"runcomfy-output-index": "1"}, {}])
async def test_an_object_without_our_metadata_is_compared(
    source: Source, store: Store, object_store: ObjectStore, changed: dict[str, str]
) -> None:
    """An object of an older version, of a store that keeps no metadata, or of another request: by its bytes alone."""
    source.answer = Answer(video())
    first = await archive(source, store)
    without_provenance(object_store, store, first)
    facts = store.head(first.key)
    assert facts is not None
    metadata = {**facts.metadata, **changed} if changed else {}
    store.put(first.key, body_of(store, first), content_type="video/mp4", metadata=metadata)

    again = await archive(source, store)
    without_provenance(object_store, store, again)
    source.answer = Answer(video(shade=5))
    with pytest.raises(ArchiveConflict, match="another file"):
        await archive(source, store)

    assert again == first.model_copy(update={"already_archived": True})


async def test_a_changed_object_is_a_conflict(source: Source, store: Store, object_store: ObjectStore) -> None:
    """Our metadata on other bytes: nothing is guessed."""
    source.answer = Answer(video())
    first = await archive(source, store)
    without_provenance(object_store, store, first)
    facts = store.head(first.key)
    assert facts is not None
    store.put(first.key, b"something else", content_type="video/mp4", metadata=facts.metadata)

    with pytest.raises(ArchiveConflict, match="not those that were stored"):
        await archive(source, store)


@pytest.mark.parametrize("killed", [True, False])
async def test_one_request_id_for_two_generations_is_reported(
    source: Source, store: Store, object_store: ObjectStore, killed: bool
) -> None:
    """The second generation does not get the first one's video: the error says what happened and what to type."""
    source.answer = Answer(video())
    first = await archive(source, store)
    if killed:
        without_provenance(object_store, store, first)
    before = keys(object_store, store)

    with pytest.raises(ArchiveConflict) as raised:
        await archive(source, store, facts=FACTS.model_copy(update={"generation_key": "b" * 64}))

    assert "two generations" in raised.value.message
    assert "both may be billed" in raised.value.message
    assert f"prefect-runcomfy journal release {'b' * 64} --bucket s3://videos/" in raised.value.message
    assert keys(object_store, store) == before


@pytest.mark.parametrize("keys_", [("a" * 64, None), (None, "a" * 64), (None, None), ("a" * 64, "a" * 64)])
async def test_a_fetch_by_request_id_alone_gets_what_exists(
    source: Source, store: Store, keys_: tuple[str | None, str | None]
) -> None:
    """Before or after the other archive: there is nothing to contradict."""
    source.answer = Answer(video())
    first, again = [
        await archive(source, store, facts=FACTS.model_copy(update={"generation_key": key})) for key in keys_
    ]

    assert again == first.model_copy(update={"already_archived": True})


@pytest.mark.parametrize("request_id", ["r/1 ü", "x" * 1000, "a,b;c=\td"])
async def test_any_request_id_is_recognised(
    source: Source, store: Store, object_store: ObjectStore, request_id: str
) -> None:
    """Whatever id the service gives a request, its object names it in a form that a header can hold."""
    facts = FACTS.model_copy(update={"request_id": request_id})
    source.answer = Answer(video())
    first = await archive(source, store, facts=facts)
    without_provenance(object_store, store, first)
    source.answer = Answer(video(shade=5))

    assert (await archive(source, store, facts=facts)).sha256 == first.sha256


async def test_a_contact_sheet_is_put_beside_a_video_if_it_is_wanted(source: Source, store: Store) -> None:
    """And named by the provenance; a repetition finds it."""
    source.answer = Answer(video())
    found = [
        await archive_output(source.url, 0, FACTS, store, hosts=HOSTS, contact_sheet=wanted) for wanted in (True, False)
    ]

    assert {video.contact_sheet_key for video in found} == {f"{found[0].key}.sheet.jpg"}
    assert store.read(f"{found[0].key}.sheet.jpg", limit_bytes=10**6).startswith(b"\xff\xd8\xff")
    document = Provenance.from_json(store.read(found[0].provenance_key, limit_bytes=10**6))
    assert document.contact_sheet_uri == f"s3://{store.bucket}/{found[0].key}.sheet.jpg"
    other = await archive_output(source.url, 1, FACTS, store, hosts=HOSTS)
    assert other.contact_sheet_key is None and store.head(f"{other.key}.sheet.jpg") is None
    assert "contact_sheet_key" not in other.model_dump()
