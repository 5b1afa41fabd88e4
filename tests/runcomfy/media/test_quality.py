from __future__ import annotations

import io
import struct
import wave
import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runcomfy.media.kinds import SNIFF_BYTES, by_name, describe, sniff
from runcomfy.media.poster import poster
from runcomfy.media.quality import Judged, judge
from runcomfy.media.validation import OutputValidation
from runcomfy.values import MediaFacts
from tests.corpus.images import CORPUS, Sample

LAYOUTS = {
    "moov first": {"movflags": "faststart"},
    "moov last": {},
    "fragmented": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
}
FRAMES, RATE, WIDTH, HEIGHT = 12, 16, 96, 64
KNOWN_BOXES = {b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"udta", b"uuid", b"meta", b"sidx"}
VIDEO = {"codec": "h264", "width": WIDTH, "height": HEIGHT, "frames": FRAMES, "frames_per_second": RATE}


@cache
def video(layout: str = "moov first", *, file_format: str = "mp4", codec: str = "libx264") -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        with av.open(str(path), "w", format=file_format, options=LAYOUTS[layout]) as container:
            stream = container.add_stream(codec, rate=RATE)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(FRAMES):
                frame = Image.effect_noise((WIDTH, HEIGHT), 50 + number).convert("RGB")
                container.mux(stream.encode(av.VideoFrame.from_image(frame)))
            container.mux(stream.encode(None))
        return path.read_bytes()


def free(size: int) -> bytes:
    return struct.pack(">I4s", size, b"free") + bytes(size - 8)


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at : at + size]))
        at += size
    return found


def judged(data: bytes) -> Judged:
    kind = sniff(data[:SNIFF_BYTES])
    assert kind is not None
    return judge(io.BytesIO(data), len(data), kind)


def facts_of(data: bytes) -> MediaFacts:
    found = judged(data)
    assert (found.missing, found.damage) == (None, None)
    return found.facts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_mp4_is_described(layout: str) -> None:
    """Wherever its index is, a whole video's facts are read from it, and no defect is found."""
    found = judged(video(layout))

    assert found.facts == MediaFacts(container="mp4", duration_seconds=FRAMES / RATE, rotation_degrees=0, **VIDEO)
    assert (found.missing, found.damage, found.warnings, found.length_known) == (None, None, (), True)
    assert found.image is not None


@pytest.mark.parametrize("layout", ["moov first", "moov last"])
@settings(max_examples=100)
@given(end=st.integers(min_value=64))
def test_a_cut_mp4_is_known(layout: str, end: int) -> None:
    """No start of a video passes for the video, though its length is unknown."""
    data = video(layout)
    cut = data[: 64 + end % (len(data) - 64)]

    # a cut behind the samples and behind the index, within the header of a last box, loses nothing of the video
    assert judged(cut).missing or cut[: len(cut) & ~7] + b"free" in data


@settings(max_examples=100)
@given(end=st.integers(min_value=64))
def test_a_cut_fragmented_mp4_is_known_unless_the_fragments_are_whole(end: int) -> None:
    """A fragmented video that was cut inside a box is known; a cut between fragments is a shorter video."""
    whole = boxes(video("fragmented"))
    data = b"".join(box for _, box in whole)
    without_trailer = len(data) - len(whole[-1][1])
    end = 64 + end % (len(data) - 64)

    if without_trailer <= end < without_trailer + 8:
        assert facts_of(data[:end]).frames == FRAMES
    else:
        assert judged(data[:end]).missing


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=50)
@given(extra=st.binary(min_size=1, max_size=64).filter(lambda extra: extra[4:8] not in KNOWN_BOXES))
def test_an_mp4_with_something_glued_to_it_plays(layout: str, extra: bytes) -> None:
    """Bytes behind the end of a video are odd; they do not make it a bad one, and it takes no box behind them."""
    found = judged(video(layout) + extra)

    assert (found.missing, found.damage, found.facts.frames) == (None, None, FRAMES)
    assert len(found.warnings) == 1
    assert not found.takes_another_box or extra[4:8].isascii()


@settings(max_examples=200)
@given(data=st.binary(max_size=400), layout=st.sampled_from(sorted(LAYOUTS)), at=st.integers(min_value=0))
def test_damage_never_crashes(data: bytes, layout: str, at: int) -> None:
    """Whatever bytes replace a part of a video, the answer is a judgement."""
    whole = video(layout)
    at %= len(whole) - 64
    damaged = whole[: 64 + at] + data + whole[64 + at + len(data) :]

    assert judged(damaged).facts.container == "mp4"


STARTS = [
    b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3\x84webm", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF....WEBP",
    b"RIFF....AVI ", b"RIFF....WAVEfmt ", b"OggS\0\2", b"ID3\4\0\0\0\0\0\x0a", b"fLaC\0\0\0\x22", b"FLV\1\5\0\0\0\x09",
    (b"G" + b"\xff" * 187) * 3, b"\0\0\1\xba\x44", b"BM0000\0\0\0\0\x36\0\0\0\x28\0\0\0" + b"\1" * 30,
    b"II*\0\x08\0\0\0",
    b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypM4A ",
    b"\xff\xfb\x90\x44", b"\xff\xf1\x50\x80",
]  # fmt: skip


@pytest.mark.parametrize("start", STARTS)
@settings(max_examples=20)
@given(data=st.binary(max_size=400))
def test_a_good_beginning_is_not_enough(start: bytes, data: bytes) -> None:
    """Random bytes behind the mark of a known format never crash, and are never a whole and sound file.

    But for formats that are a row of packets and nothing more: there, random bytes may pass for a packet.
    """
    found = judged(start + data)

    rows_of_packets = ("mp3", "aac", "mpegts", "wav", "flac", "mpeg", "flv")
    assert found.missing or found.damage or found.facts.container in rows_of_packets


def test_data_of_zeros_is_damage() -> None:
    """A video whose boxes are right but whose first frame does not decode lacks nothing, and is damaged."""
    data = b"".join(box[:8] + bytes(len(box) - 8) if kind == b"mdat" else box for kind, box in boxes(video()))

    found = judged(data)

    assert (found.missing, found.facts.frames) == (None, FRAMES)
    assert "does not decode" in str(found.damage)
    assert not found.takes_another_box


def test_an_open_ended_mdat_that_was_cut_is_known() -> None:
    """Data that run to the end of the file have no size of their own; the index knows where they should end."""
    data = b"".join(b"\0\0\0\0" + box[4:] if kind == b"mdat" else box for kind, box in boxes(video()))

    assert facts_of(data).frames == FRAMES
    assert "index points behind" in str(judged(data[:-1]).missing)


def sound(file_format: str, codec: str, rate: int = 48000) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=file_format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        frame = av.AudioFrame(format="s16", layout="mono", samples=4800)
        frame.sample_rate = rate
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        for ready in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("file_format", "codec", "extension", "named"),
    [
        ("mp4", "aac", "mp4", "aac"),
        ("ipod", "aac", "m4a", "aac"),
        ("wav", "pcm_s16le", "wav", "pcm_s16le"),
        ("flac", "flac", "flac", "flac"),
        ("ogg", "libopus", "opus", "opus"),
        ("mp3", "libmp3lame", "mp3", "mp3"),
        ("adts", "aac", "aac", "aac"),
        ("aiff", "pcm_s16be", "aiff", "pcm_s16be"),
    ],
)
def test_sound_is_kept_under_its_name(file_format: str, codec: str, extension: str, named: str) -> None:
    """Sound alone is a file like any other; its codec has the codec's name, not that of who decodes it."""
    data = sound(file_format, codec)
    kind = sniff(data[:SNIFF_BYTES])

    assert kind is not None
    assert kind.extension == extension
    assert (facts_of(data).codec, facts_of(data).width) == (named, None)


@pytest.mark.parametrize("layout", ["moov first", "moov last"])
def test_padding_behind_the_video_changes_nothing(layout: str) -> None:
    """A large file is described as well as a small one."""
    assert judged(video(layout) + free(20_000_000)).facts == judged(video(layout)).facts


@pytest.mark.parametrize(
    ("file_format", "codec", "container", "named"),
    [("webm", "libvpx-vp9", "webm", "vp9"), ("matroska", "libx264", "matroska", "h264"),
     ("avi", "mpeg4", "avi", "mpeg4"),
     ("webm", "libvpx", "webm", "vp8"), ("mp4", "libsvtav1", "mp4", "av1"), ("mov", "mpeg4", "mov", "mpeg4")],
)  # fmt: skip
def test_other_containers_are_described(file_format: str, codec: str, container: str, named: str) -> None:
    """Codecs go by their own names, not by those of the libraries that decode them here."""
    data = video("moov last", file_format=file_format, codec=codec)

    facts = facts_of(data)

    assert (facts.container, facts.codec, facts.width, facts.frames) == (container, named, WIDTH, FRAMES)


@pytest.mark.parametrize(("file_format", "codec"), [("webm", "libvpx"), ("matroska", "libx264"), ("avi", "mpeg4")])
def test_some_containers_say_how_long_they_are(file_format: str, codec: str) -> None:
    """A cut is detected from the file alone, and bytes after the end are only odd."""
    data = video("moov last", file_format=file_format, codec=codec)

    assert judged(data[: len(data) // 2]).missing
    assert judged(data + b"\0\0").warnings == ("2 bytes follow its end.",)
    assert judged(data).length_known


def test_a_live_webm_does_not_say_how_long_it_is() -> None:
    """Its segment has no size; whether it was cut is for others to know."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            frame = Image.effect_noise((WIDTH, HEIGHT), 50 + number).convert("RGB")
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))

    found = judged(buffer.getvalue())

    assert (found.facts.frames, found.missing, found.length_known) == (FRAMES, None, False)


def turned(degrees: int) -> bytes:
    """A video whose left half is white, and that players turn."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.set_display_rotation(-degrees)
        frame = Image.new("RGB", (WIDTH, HEIGHT))
        frame.paste("white", (0, 0, WIDTH // 2, HEIGHT))
        container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("degrees", "white"), [(0, "left"), (90, "top"), (180, "right"), (270, "bottom")])
def test_a_rotated_video_is_shown_upright(degrees: int, white: str) -> None:
    """How far players turn it is a fact; its size is as stored; its first frame is as players show it."""
    found = judged(turned(degrees))

    assert (found.facts.rotation_degrees, found.facts.width, found.facts.height) == (degrees, WIDTH, HEIGHT)
    assert found.image is not None
    wide, high = found.image.size
    assert (wide > high) == (degrees % 180 == 0)
    at = {
        "left": (2, high // 2),
        "right": (wide - 3, high // 2),
        "top": (wide // 2, 2),
        "bottom": (wide // 2, high - 3),
    }
    bright = {side for side, place in at.items() if found.image.convert("L").getpixel(place) > 128}
    assert white in bright
    assert len(bright & {"left", "right"}) != 2 or white in ("top", "bottom")


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "gif", "bmp", "tiff", "avif"])
def test_images_are_decoded(name: str) -> None:
    """A still image is described, and known where it was cut."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(buffer, name)
    data = buffer.getvalue()

    assert facts_of(data) == MediaFacts(container=name, width=64, height=48, rotation_degrees=0)
    assert judged(data[: len(data) // 2]).missing


@pytest.mark.parametrize("name", ["gif", "webp", "png", "avif"])
def test_animations_are_images(name: str) -> None:
    """Animations are described by their first frame."""
    buffer = io.BytesIO()
    frames = [Image.effect_noise((64, 48), 60 + number).convert("RGB") for number in range(3)]
    frames[0].save(buffer, name, save_all=True, append_images=frames[1:])

    assert facts_of(buffer.getvalue()).width == 64


@pytest.mark.parametrize(
    "sample", [each for each in CORPUS if each.content_type == "image/png"], ids=lambda each: each.name
)
def test_what_is_beside_the_pixels_is_no_fault(sample: Sample) -> None:
    """ComfyUI writes its whole workflow into a PNG: larger texts than Pillow reads do not make it a cut one."""
    found = judged(sample.data)

    assert (found.missing, found.damage) == (None, None) and found.image is not None


@pytest.mark.parametrize("name", ["png", "gif", "bmp"])
def test_an_enormous_image_is_not_decoded(name: str) -> None:
    """A few bytes that promise gigabytes of pixels are kept, and cost nothing."""
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, name)
    data = bytearray(buffer.getvalue())
    if name == "png":
        data[16:24] = struct.pack(">II", 100_000, 100_000)
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    elif name == "gif":
        data[6:10] = struct.pack("<HH", 60_000, 60_000)
    else:
        data[18:26] = struct.pack("<ii", 100_000, 100_000)

    found = judged(bytes(data))

    assert found.missing is None
    assert "pixels" in found.warnings[0]


def test_broken_exif_is_no_fault() -> None:
    """What cannot be read beside the pixels costs the rotation only."""
    made = io.BytesIO()
    Image.new("RGB", (8, 8)).save(made, "PNG", exif=b"Exif\0\0no TIFF at all")

    assert facts_of(made.getvalue()).width == 8


def test_an_index_that_announces_billions_of_samples_is_not_read() -> None:
    """FFmpeg would make room for each of them."""
    data = video("moov first")
    at = data.index(b"stsz") + 8
    hostile = data[:at] + struct.pack(">II", 1, 2**31 - 1) + data[at + 8 :]

    found = judged(hostile)

    assert (found.missing, found.facts) == (None, MediaFacts(container="mp4"))
    assert "announces more" in found.warnings[0]


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>"


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (SVG, "svg"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?><!-- a <b> --><!DOCTYPE svg PUBLIC 'x' 'y'>\n" + SVG, "svg"),
        (b"PK\3\4" + bytes(30), "zip"), (b"glTF\2\0\0\0", "glb"), (b'{"asset": {"version": "2.0"}}', "gltf"),
        (b"WEBVTT\n\n00:01.000 --> 00:02.000\nHi", "vtt"), (b"1\r\n00:00:01,000 --> 00:00:02,000\r\nHi", "srt"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "heic"), (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1", "avif"),
        (b"\0\0\0\x14ftyp3gp5\0\0\0\0", "3gp"), (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"), (b"8BPS\0\1", "psd"),
        ((bytes(4) + b"G" + bytes(187)) * 3, "m2ts"), (b"MThd\0\0\0\6", "mid"), (bytes(257) + b"ustar\0", "tar"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "mov"), (b"OggS\0\2" + bytes(22) + b"\x80theora", "ogv"),
    ],
)  # fmt: skip
def test_many_kinds_are_known(data: bytes, extension: str) -> None:
    """Each has the extension that people expect."""
    kind = sniff(data)

    assert kind is not None
    assert kind.extension == extension


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "nothing at all"),
        (b" \r\n ", "nothing but spaces"),
        (b"\n <!DOCTYPE html><p>", "an HTML page"),
        (b"<!-- by a proxy --><html><body><svg/></body></html>", "an HTML page"),
        (b"<!doctype html><svg></svg>", "an HTML page"),
        (b"<HEAD><TITLE>502</TITLE></HEAD>", "an HTML page"),
        ("<html>caf\xe9</html>".encode("latin-1"), "an HTML page"),
        ("\ufeff<html></html>".encode("utf-16"), "an HTML page"),
        ('{"error": 1}'.encode("utf-16"), "a JSON document"),
        (b'{"error": 1}', "a JSON document"),
        (b'\xef\xbb\xbf[{"error": 1}]', "a JSON document"),
        (b"<?xml version='1.0'?><Error/>", "an XML document"),
        (b"<Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b"upstream connect error or disconnect/reset before headers", "plain text"),
        ("Die Datei ist nicht verf\xfcgbar".encode(), "plain text"),
        (b"null", "plain text"),
        (b"<!doctype html>" + bytes(99), "an HTML page"),
        (b'{"error": "' + bytes(99), "a JSON document"),
    ],
)
def test_a_file_that_is_no_media_is_named(data: bytes, said: str) -> None:
    """An error page is named as one."""
    assert (sniff(data), describe(data)) == (None, said)


@given(st.binary(max_size=600))
def test_any_bytes_are_named(data: bytes) -> None:
    """Whatever comes is a known kind, no media, or unknown; nothing crashes."""
    assert sniff(data) is None or describe(data) is not None or data


@pytest.mark.parametrize(
    ("path", "content_type", "extension", "stored_as"),
    [
        ("/out/model.safetensors", "application/octet-stream", "safetensors", "application/octet-stream"),
        ("/out/video.mp4", "", "mp4", "video/mp4"),
        ("/out/video", "video/mp4", "mp4", "video/mp4"),
        ("/out/index.php", "text/html", "bin", "application/octet-stream"),
        ("/out/a.b/c", "binary/octet-stream", "bin", "application/octet-stream"),
        ("/out/x.very-strange~name", "", "bin", "application/octet-stream"),
        ("/out/scene.USDZ", "", "usdz", "application/octet-stream"),
    ],
)
def test_unknown_bytes_get_a_sensible_name(path: str, content_type: str, extension: str, stored_as: str) -> None:
    """By the URL's name first, by the server's word where it means something, else `bin`."""
    kind = by_name(path, content_type)

    assert (kind.container, kind.extension) == ("unknown", extension)
    assert kind.content_type in (stored_as, "model/vnd.usdz+zip")


def test_nothing_reaches_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """FFmpeg's own complaints about a damaged file stay away from the user's terminal."""
    data = b"".join(box[:8] + b"\xff" * (len(box) - 8) if kind == b"mdat" else box for kind, box in boxes(video()))

    assert judged(data).damage
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("validation", "count"),
    [
        (OutputValidation(), 0),
        (OutputValidation(frames=81, frames_per_second=16, resolution="480p", aspect_ratio="16:9"), 0),
        (OutputValidation(frames=97), 1),
        (OutputValidation(frames_per_second=24), 1),
        (OutputValidation(resolution="720p"), 1),
        (OutputValidation(aspect_ratio="9:16"), 1),
        (OutputValidation(frames=1, frames_per_second=1, resolution="1p", aspect_ratio="1:1"), 4),
        (OutputValidation(resolution="auto", aspect_ratio="auto"), 0),
    ],
)
def test_a_difference_from_what_was_asked_is_a_warning(validation: OutputValidation, count: int) -> None:
    """Each difference gives one sentence; 832x480 passes for 480p at 16:9."""
    facts = MediaFacts(container="mp4", width=832, height=480, frames=81, frames_per_second=16.0)

    assert len(validation.warnings(facts)) == count


@pytest.mark.parametrize(("container", "count"), [("mp4", 0), ("mov", 0), ("webm", 0), ("avi", 1), ("mpegts", 1)])
def test_an_unusual_container_is_a_warning_where_a_video_was_asked_for(container: str, count: int) -> None:
    """It is kept, but browsers do not play it; no warning where it is unknown what was asked for."""
    facts = MediaFacts(container=container, codec="h264", width=832, height=480)

    assert len(OutputValidation(makes="video").warnings(facts, "video/x-any")) == count
    assert OutputValidation().warnings(facts, "video/x-any") == ()


def test_a_missing_fact_gives_no_warning() -> None:
    """A fact that a file does not have is not a difference."""
    asked = OutputValidation(frames=81, frames_per_second=16, resolution="480p", aspect_ratio="16:9")

    assert asked.warnings(MediaFacts(container="mp4")) == ()


def test_a_rotated_video_is_compared_as_players_show_it() -> None:
    """A portrait video that is stored in landscape has the requested aspect ratio."""
    lying = MediaFacts(container="mp4", width=832, height=480, rotation_degrees=90)

    assert OutputValidation(aspect_ratio="9:16", resolution="480p").warnings(lying) == ()


@pytest.mark.parametrize(
    ("facts", "content_type", "count"),
    [
        (MediaFacts(container="gif", width=8, height=8), "image/gif", 1),
        (MediaFacts(container="mp3", codec="mp3"), "audio/mpeg", 1),
        (MediaFacts(container="webm", codec="opus"), "video/webm", 1),
        (MediaFacts(container="unknown"), "application/octet-stream", 1),
        (MediaFacts(container="mp4", codec="h264", width=8, height=8), "video/mp4", 0),
        (MediaFacts(container="mp4"), "video/mp4", 0),
    ],
)
def test_a_file_that_is_not_the_requested_video_is_a_warning(facts: MediaFacts, content_type: str, count: int) -> None:
    """A still, an animation or sound is kept; without a warning if no video was requested."""
    assert len(OutputValidation(makes="video", frames=81).warnings(facts, content_type)) == count
    assert OutputValidation().warnings(facts, content_type) == ()


def test_a_sound_has_a_picture_of_its_loudness() -> None:
    """Its waveform: the same for the same sound, and higher where it is louder; none for what does not decode."""
    quiet, loud = sound("wav", "pcm_s16le"), io.BytesIO()
    with wave.open(loud, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 8000 + b"\xff\x7f\x00\x80" * 4000)
    pictures = [judged(data).image for data in (quiet, loud.getvalue(), loud.getvalue())]
    assert all(picture is not None and picture.size == (640, 160) for picture in pictures)
    silence, half, again = (picture.convert("L") for picture in pictures if picture is not None)

    assert half.tobytes() == again.tobytes() != silence.tobytes()
    left, right = (half.crop((x, 0, x + 320, 160)).histogram() for x in (0, 320))
    assert sum(right[:128]) > 20 * sum(left[:128])
    made = poster(half.convert("RGB"))
    assert made is not None and len(made) < 20_000

    broken = judged(sound("flac", "flac")[:60])
    assert broken.image is None


@given(st.binary(max_size=200), st.sampled_from(["mp3", "wav", "flac", "ogg"]))
def test_any_sound_file_gives_a_picture_or_none(noise: bytes, name: str) -> None:
    data = SOUNDS[name]
    at = len(data) // 2
    judged(data[:at] + noise + data[at + len(noise) :])


SOUNDS = {
    "mp3": sound("mp3", "libmp3lame"), "wav": sound("wav", "pcm_s16le"), "flac": sound("flac", "flac"),
    "ogg": sound("ogg", "libopus"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "media", "words"),
    [
        ({"duration": 5}, {"container": "mp3", "codec": "mp3", "duration_seconds": 9.0}, "lasts 9 s; 5 s"),
        ({"duration": "5"}, {"container": "mp3", "codec": "mp3", "duration_seconds": 5.4}, ""),
        ({"duration": "auto"}, {"container": "mp3", "codec": "mp3", "duration_seconds": 5.4}, ""),
        ({"duration": -1}, {"container": "mp3", "codec": "mp3", "duration_seconds": 5.4}, ""),
        ({"duration": True}, {"container": "mp3", "codec": "mp3", "duration_seconds": 5.4}, ""),
        ({"music_length_ms": 40000}, {"container": "mp3", "codec": "mp3", "duration_seconds": 12.0}, "40 s were asked"),
        ({"output_format": "wav_16khz"}, {"container": "mp3", "codec": "mp3"}, "a mp3 file; wav was asked for"),
        ({"output_format": "ogg_opus"}, {"container": "ogg", "codec": "opus"}, ""),
        ({"output_format": "pcm"}, {"container": "wav", "codec": "pcm_s16le"}, ""),
        ({"output_format": "jpg"}, {"container": "jpeg", "width": 8, "height": 8}, ""),
        ({"output_format": "png"}, {"container": "jpeg", "width": 8, "height": 8}, "a jpeg file; png was asked for"),
        ({"width": 1024, "height": 768}, {"container": "png", "width": 1024, "height": 1024}, "1024x768 were asked"),
        ({"width": 1024, "height": 768}, {"container": "png", "width": 1024, "height": 768}, ""),
        ({"size": "1024*768"}, {"container": "jpeg", "width": 768, "height": 1024, "rotation_degrees": 90}, ""),
        ({"image_size": "square_hd", "width": "1"}, {"container": "png", "width": 8, "height": 8}, ""),
        ({"duration": float("inf"), "size": [1], "n": "x"}, {"container": "png", "width": 8, "height": 8}, ""),
    ],
)
def test_what_came_is_compared_with_what_any_model_was_asked_for(
    asked: dict[str, object], media: dict[str, object], words: str
) -> None:
    facts = MediaFacts.model_validate(media)
    content_type = f"audio/{facts.container}" if facts.codec else f"image/{facts.container}"
    found = OutputValidation.of(asked, "").warnings(facts, content_type)
    assert len(found) == bool(words) and words in " ".join(found)


def test_the_number_of_files_is_compared() -> None:
    asked = OutputValidation.of({"num_images": 4}, "image")
    assert asked.count_warnings(3) == ("4 files were asked for; 3 came.",)
    assert asked.count_warnings(4) == () == OutputValidation.of({"num_images": "4"}, "image").count_warnings(3)
