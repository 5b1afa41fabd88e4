from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runcomfy.archive.archive import archive_output
from runcomfy.archive.provenance import Provenance
from runcomfy.download.hosts import HostPolicy
from runcomfy.media.kinds import sniff
from runcomfy.media.marking import DIGITAL_SOURCE_TYPE, ai_box
from runcomfy.media.poster import poster
from runcomfy.media.quality import judge
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo, GenerationFacts
from tests.runcomfy.download.ranged_server import RangedServer, ranged_server

LOOPBACK = HostPolicy(allowed=("127.0.0.1",))
FACTS = GenerationFacts(model_id='a "model" <&>', request_id="r-1")


def key_of(provenance: Provenance, store: Store) -> str:
    return provenance.uri.removeprefix(f"s3://{store.bucket}/")


def video(folder: Path, *, kind: str = "mp4", stream_options: dict[str, str] | None = None, **options: str) -> bytes:
    path = folder / f"video.{kind}"
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream = container.add_stream("libvpx" if kind == "webm" else "libx264", rate=16, options=stream_options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(8):
            frame = av.VideoFrame(96, 64, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([20 * number]) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        yield kind, data[8:size]
        data = data[size:]


def frames(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as container:
        return [bytes(frame.to_ndarray()) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def a_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return video(tmp_path_factory.mktemp("video"))


@pytest.fixture
def server() -> Iterator[RangedServer]:
    with ranged_server() as running:
        yield running


async def archived(server: RangedServer, body: bytes, store: Store, *, mark: bool = True) -> tuple[bytes, Provenance]:
    server.body = body
    made: ArchivedVideo = await archive_output(server.url, 0, FACTS, store, hosts=LOOPBACK, mark=mark)
    provenance = Provenance.from_json(store.read(made.provenance_key, limit_bytes=10**6))
    return store.read(made.key, limit_bytes=10**8), provenance


async def test_a_video_says_that_a_model_made_it(server: RangedServer, store: Store, tmp_path: Path) -> None:
    """The stored file is the service's with one box behind it: XMP with IPTC's term; its frames are the same."""
    body = video(tmp_path)

    stored, provenance = await archived(server, body, store)

    assert stored.startswith(body)
    (kind, content), *more = boxes(stored[len(body) :])
    assert (kind, content[:16].hex(), more) == (b"uuid", "be7acfcb97a942e89c71999491e3afac", [])
    description = ElementTree.fromstring(content[16:].decode()).find(
        ".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    assert description is not None
    assert description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == DIGITAL_SOURCE_TYPE
    assert description.get("{http://ns.adobe.com/xap/1.0/}CreatorTool") == 'RunComfy a "model" <&>'
    assert frames(stored) == frames(body)
    assert (provenance.marked, provenance.digital_source_type) == (True, DIGITAL_SOURCE_TYPE)


async def test_a_setting_keeps_the_bytes_as_they_came(server: RangedServer, store: Store, tmp_path: Path) -> None:
    """Unmarked by setting, the provenance alone says what it is."""
    body = video(tmp_path)

    stored, provenance = await archived(server, body, store, mark=False)

    assert stored == body
    assert (provenance.marked, provenance.sha256) == (False, provenance.source_sha256)
    assert provenance.digital_source_type == DIGITAL_SOURCE_TYPE


@pytest.mark.parametrize("why", ["signed", "open at its end", "fragmented", "webm", "mov"])
async def test_a_file_that_a_box_would_damage_is_left_as_it_is(
    server: RangedServer, store: Store, tmp_path: Path, why: str
) -> None:
    """A signature stays valid, and no file becomes unreadable: such a file is stored as it came."""
    body = video(tmp_path, movflags="frag_keyframe+empty_moov" if why == "fragmented" else "faststart")
    if why == "signed":
        body += box(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"a manifest")
    elif why == "open at its end":
        parts = dict(boxes(video(tmp_path, movflags="faststart")))
        body = b"".join(box(kind, parts[kind]) for kind in (b"ftyp", b"moov", b"free"))
        body += struct.pack(">I4s", 0, b"mdat") + parts[b"mdat"]
    elif why in ("webm", "mov"):
        body = video(tmp_path, kind=why)

    stored, provenance = await archived(server, body, store)

    assert stored == body
    assert (provenance.marked, provenance.digital_source_type) == (False, DIGITAL_SOURCE_TYPE)


@pytest.mark.parametrize("mark", [True, False])
async def test_a_file_that_was_stored_otherwise_is_taken_as_it_is(
    server: RangedServer, store: Store, tmp_path: Path, mark: bool
) -> None:
    """What was left without its provenance, marked or not, is the same file, and is not called a conflict."""
    body = video(tmp_path)
    stored, _ = await archived(server, body, store, mark=mark)
    listed = store.client.list_objects_v2(Bucket=store.bucket, Prefix=store.prefix)["Contents"]
    key = next(entry["Key"] for entry in listed if entry["Key"].endswith(".mp4"))
    store.delete(f"{key}.json")

    again, provenance = await archived(server, body, store, mark=not mark)

    assert again == stored
    assert (provenance.marked, provenance.sha256 != provenance.source_sha256) == (mark, mark)
    assert (provenance.sha256, provenance.size_bytes) == (hashlib.sha256(stored).hexdigest(), len(stored))


async def test_a_provenance_of_the_file_that_lost_gives_way(server: RangedServer, store: Store, tmp_path: Path) -> None:
    """If the other of two racing files is the one stored, the provenance describes that one."""
    body = video(tmp_path)
    stored, lost = await archived(server, body, store)
    other = lost.model_copy(update={"sha256": "0" * 64, "size_bytes": len(body) + 1})
    store.delete(key_of(lost, store))
    store.put(key_of(lost, store) + ".json", other.to_json(), content_type="application/json")

    again, provenance = await archived(server, body, store)

    assert again == stored
    assert (provenance.sha256, provenance.size_bytes) == (hashlib.sha256(stored).hexdigest(), len(stored))


async def test_colours_that_cannot_be_converted_cost_the_poster_only(
    server: RangedServer, store: Store, tmp_path: Path
) -> None:
    """A paid video whose first frame cannot be shown in RGB is a good video."""
    body = video(tmp_path, stream_options={"x264-params": "colormatrix=bt2020c"})

    stored, provenance = await archived(server, body, store)

    assert stored.startswith(body)
    assert (provenance.media.frames, provenance.poster_uri) == (8, None)


def test_an_image_with_broken_metadata_costs_only_the_poster() -> None:
    """Pillow's decoders may raise any exception."""
    made = io.BytesIO()
    Image.new("RGB", (8, 8)).save(made, "PNG", exif=b"Exif\0\0no TIFF at all")

    assert poster(Image.open(io.BytesIO(made.getvalue()))) is None


async def test_a_video_has_its_first_frame_beside_it(server: RangedServer, store: Store, tmp_path: Path) -> None:
    """The poster is a JPEG with the video's proportions."""
    _, provenance = await archived(server, video(tmp_path), store)

    assert provenance.poster_uri == f"{provenance.uri}.jpg"
    key = provenance.poster_uri.removeprefix(f"s3://{store.bucket}/")
    head = store.head(key)
    assert head is not None
    assert head.content_type == "image/jpeg"
    with Image.open(io.BytesIO(store.read(key, limit_bytes=10**6))) as image:
        assert (image.format, image.size) == ("JPEG", (96, 64))


async def test_an_object_at_the_posters_key_is_left(server: RangedServer, store: Store, tmp_path: Path) -> None:
    """Nothing is overwritten for a poster."""
    await archived(server, video(tmp_path), store)
    listed = store.client.list_objects_v2(Bucket=store.bucket, Prefix=store.prefix)["Contents"]
    for key in (entry["Key"] for entry in listed):
        if key.endswith(".jpg"):
            store.put(key, b"mine", content_type="text/plain")
            poster_key = key
        else:
            store.delete(key)

    await archived(server, video(tmp_path), store)

    assert store.read(poster_key, limit_bytes=10) == b"mine"


@given(
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"]), st.integers(1, 3000), st.integers(1, 9)
)
def test_any_image_becomes_a_small_poster(mode: str, width: int, height: int) -> None:
    """Whatever its mode and proportions, a poster is a JPEG of 640 pixels at most."""
    made = poster(Image.new(mode, (width, height)))

    assert made is not None
    with Image.open(io.BytesIO(made)) as image:
        assert image.format == "JPEG"
        assert max(image.size) == min(640, max(width, height))


def test_a_marked_video_is_still_a_whole_one(a_video: bytes) -> None:
    """Judged again, a marked file is whole, and takes no second mark."""
    marked = a_video + ai_box("m")
    kind = sniff(marked)
    assert kind is not None

    judged = judge(io.BytesIO(marked), len(marked), kind)

    assert (judged.facts.frames, judged.missing, judged.warnings) == (8, None, ())
    assert not judged.takes_another_box
