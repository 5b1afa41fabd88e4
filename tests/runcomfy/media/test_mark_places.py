"""The mark in images and sounds: readable where readers look for it, and the media data unchanged."""

from __future__ import annotations

import hashlib
import io

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runcomfy.media.kinds import sniff
from runcomfy.media.mark_places import bytes_of, with_mark
from runcomfy.media.marking import DIGITAL_SOURCE_TYPE, ai_packet
from runcomfy.media.quality import judge
from runcomfy.storage.store import Store
from tests.runcomfy.download.ranged_server import RangedServer
from tests.runcomfy.media.test_marking import archived, server
from tests.runcomfy.media.test_quality import sound

__all__ = ["server"]  # a fixture
PACKET = ai_packet("a/model")


def image(form: str, mode: str = "RGB", **options: object) -> bytes:
    made = io.BytesIO()
    picture = Image.linear_gradient("L").resize((97, 61)).convert(mode)
    picture.save(made, form, **options)
    return made.getvalue()


def animation(form: str) -> bytes:
    made = io.BytesIO()
    first, *more = (Image.new("RGB", (32, 20), colour) for colour in ("navy", "red", "white"))
    first.save(made, form, save_all=True, append_images=more, duration=100)
    return made.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
FILES = {
    "png": image("PNG"), "png with a text": image("PNG", mode="RGBA"), "apng": animation("PNG"),
    "jpeg": image("JPEG"), "jpeg with exif": image("JPEG", exif=EXIF), "progressive": image("JPEG", progressive=True),
    "webp": image("WEBP"), "lossless webp": image("WEBP", lossless=True), "webp with alpha": image("WEBP", mode="RGBA"),
    "lossless with alpha": image("WEBP", mode="RGBA", lossless=True), "animated webp": animation("WEBP"),
    "webp with exif": image("WEBP", exif=EXIF),
    "wav": sound("wav", "pcm_s16le"), "mp3": sound("mp3", "libmp3lame"), "flac": sound("flac", "flac"),
}  # fmt: skip
FILES["mp3 without a tag"] = FILES["mp3"][10 + int.from_bytes(FILES["mp3"][8:10], "big") :]
OTHERS = {
    "ogg": sound("ogg", "libopus"), "m4a": sound("ipod", "aac"), "gif": image("GIF", mode="P"), "avif": image("AVIF"),
}  # fmt: skip


def marked(data: bytes) -> bytes | None:
    kind = sniff(data)
    assert kind is not None
    file = io.BytesIO(data)
    pieces = with_mark(file, len(data), kind.container, PACKET, DIGITAL_SOURCE_TYPE)
    return None if pieces is None else b"".join(bytes_of(file, pieces))


def content(data: bytes) -> list[bytes]:
    """Return what players get of a file: pixels of each frame, or the packets of its sound."""
    kind = sniff(data)
    assert kind is not None
    if kind.content_type.startswith("image/"):
        frames = []
        with Image.open(io.BytesIO(data)) as picture:
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                frames.append(picture.mode.encode() + picture.tobytes())
        return frames
    with av.open(io.BytesIO(data)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize("name", FILES)
def test_the_mark_is_there_and_the_media_data_is_the_same(name: str) -> None:
    data = FILES[name]
    made = marked(data)
    assert made is not None and len(data) < len(made) < len(data) + 1200
    before, after = (judge(io.BytesIO(each), len(each), sniff(each)) for each in (data, made))  # type: ignore[arg-type]

    assert content(made) == content(data)
    assert after.facts == before.facts and (after.missing, after.damage, after.warnings) == (
        None,
        None,
        before.warnings,
    )
    assert DIGITAL_SOURCE_TYPE.encode() in made
    assert marked(made) is None, "it is marked once"
    if before.facts.container in ("png", "jpeg", "webp"):
        with Image.open(io.BytesIO(made)) as picture:
            picture.load()
            assert DIGITAL_SOURCE_TYPE in str(picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp"))
            assert picture.getexif().get(0x0112) == Image.open(io.BytesIO(data)).getexif().get(0x0112)
    else:
        with av.open(io.BytesIO(made)) as container:
            if before.facts.container != "wav":  # FFmpeg shows no `_PMX`
                assert DIGITAL_SOURCE_TYPE in str(container.metadata)


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_are_left_alone(name: str) -> None:
    assert marked(OTHERS[name]) is None


@given(st.sampled_from(sorted(FILES)), st.data())
def test_a_broken_file_is_left_alone_or_keeps_its_data(name: str, data: st.DataObject) -> None:
    """Nothing is raised, and every byte of the file is in what is made of it, but for the few that count others."""
    whole = FILES[name]
    cut = data.draw(st.integers(16, len(whole)))
    noise = data.draw(st.binary(max_size=8))
    at = data.draw(st.integers(12, cut))
    broken = (whole[:at] + noise + whole[at + len(noise) :])[:cut]
    file = io.BytesIO(broken)
    kind = sniff(whole)
    assert kind is not None
    pieces = with_mark(file, len(broken), kind.container, PACKET, DIGITAL_SOURCE_TYPE)
    if pieces is not None:
        kept = sum(piece[1] - piece[0] for piece in pieces if not isinstance(piece, bytes))
        assert kept >= len(broken) - 600 and len(b"".join(bytes_of(file, pieces))) > len(broken)


def test_a_signed_file_is_left_alone() -> None:
    """Its signature covers it as it is."""
    png = FILES["png"]
    assert marked(png[:33] + b"\0\0\0\x04caBXjumb\0\0\0\0" + png[33:]) is None
    jpeg = FILES["jpeg"]
    assert marked(jpeg[:2] + b"\xff\xeb\x00\x08JP\0\0\0\0" + jpeg[2:]) is None
    wav = FILES["wav"] + b"C2PA\x04\0\0\0jumb"
    assert marked(wav[:4] + (len(wav) - 8).to_bytes(4, "little") + wav[8:]) is None


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "wav", "mp3", "flac", "ogg"])
async def test_an_archived_file_is_marked_and_says_what_came(server: RangedServer, store: Store, name: str) -> None:
    """The provenance has the digest of the bytes as they came; with the setting off they are stored unchanged."""
    body = FILES.get(name) or OTHERS[name]
    stored, provenance = await archived(server, body, store)

    assert provenance.source_sha256 == hashlib.sha256(body).hexdigest()
    assert provenance.sha256 == hashlib.sha256(stored).hexdigest()
    assert provenance.marked is (name != "ogg") and (stored != body) is provenance.marked
    assert content(stored) == content(body)
    assert provenance.digital_source_type == DIGITAL_SOURCE_TYPE
