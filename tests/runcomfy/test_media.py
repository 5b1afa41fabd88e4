from __future__ import annotations

import io
import struct
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runcomfy.errors import UnexpectedContent
from runcomfy.expectation import Expectation
from runcomfy.media import HEAD_BYTES, MediaChecker, MediaFacts, describe, sniff
from runcomfy.probing import SparseFile

LAYOUTS = {
    "moov first": {"movflags": "faststart"},
    "moov last": {},
    "fragmented": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
}
FRAMES, RATE, WIDTH, HEIGHT = 12, 16, 96, 64
VIDEO = {"codec": "h264", "width": WIDTH, "height": HEIGHT, "frames": FRAMES, "frames_per_second": RATE}


@cache
def video(layout: str = "moov first", *, file_format: str = "mp4", codec: str = "libx264") -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        with av.open(str(path), "w", format=file_format, options=LAYOUTS[layout]) as container:
            stream = container.add_stream(codec, rate=RATE)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(FRAMES):
                picture = Image.effect_noise((WIDTH, HEIGHT), 50 + number).convert("RGB")
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
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


def check(data: bytes, *cuts: int, length_known: bool = False) -> MediaFacts:
    kind = sniff(data)
    if kind is None:
        raise UnexpectedContent("unknown")
    checker = MediaChecker(kind, length_known=length_known)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        checker.feed(data[start:end])
    return checker.finish()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_mp4_is_described(layout: str) -> None:
    """Wherever its index stands, a whole video is accepted and its facts are read from it."""
    assert check(video(layout)) == MediaFacts(container="mp4", duration_seconds=FRAMES / RATE, **VIDEO)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(min_value=0), max_size=20))
def test_chunks_do_not_matter(layout: str, cuts: list[int]) -> None:
    """The same bytes get the same verdict however they arrive."""
    assert check(video(layout), *cuts) == check(video(layout))


@pytest.mark.parametrize("layout", ["moov first", "moov last"])
@settings(deadline=None, max_examples=200)
@given(end=st.integers(min_value=0))
def test_a_cut_mp4_is_refused(layout: str, end: int) -> None:
    """No start of a video is taken for the video, though nobody told its length."""
    data = video(layout)

    with pytest.raises(UnexpectedContent):
        check(data[: end % len(data)])


@settings(deadline=None, max_examples=200)
@given(end=st.integers(min_value=0))
def test_a_cut_fragmented_mp4_is_refused_unless_between_boxes(end: int) -> None:
    """A fragmented video that was cut inside a box is refused; a cut between fragments is a shorter video."""
    whole = boxes(video("fragmented"))
    data = b"".join(box for _, box in whole)
    end %= len(data)
    without_trailer = len(data) - len(whole[-1][1])

    if end == without_trailer:
        assert check(data[:end]).frames == FRAMES
    else:
        with pytest.raises(UnexpectedContent):
            check(data[:end])


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None, max_examples=100)
@given(extra=st.binary(min_size=1, max_size=64))
def test_an_mp4_with_something_glued_to_it_is_refused(layout: str, extra: bytes) -> None:
    """Bytes behind the end of a video make it another file than the one that was made."""
    with pytest.raises(UnexpectedContent):
        check(video(layout) + extra)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=400), layout=st.sampled_from(sorted(LAYOUTS)), at=st.integers(min_value=0))
def test_damage_never_crashes(data: bytes, layout: str, at: int) -> None:
    """Whatever bytes replace a part of a video, the answer is facts or a refusal."""
    whole = video(layout)
    at %= len(whole)
    damaged = whole[:at] + data + whole[at + len(data) :]

    try:
        facts = check(damaged)
    except UnexpectedContent:
        return
    assert facts.container in {"mp4", "mov"}


@pytest.mark.parametrize(
    "start",
    [b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF....WEBP"],
)
@settings(deadline=None, max_examples=50)
@given(data=st.binary(max_size=400))
def test_a_good_beginning_is_not_enough(start: bytes, data: bytes) -> None:
    """Random bytes behind the mark of a known format are refused."""
    with pytest.raises(UnexpectedContent):
        check(start + data, length_known=True)


def test_data_of_zeros_is_refused() -> None:
    """A video whose boxes are right but whose first picture does not decode is not good."""
    data = b"".join(box[:8] + bytes(len(box) - 8) if kind == b"mdat" else box for kind, box in boxes(video()))

    with pytest.raises(UnexpectedContent, match="damaged"):
        check(data)


def test_an_open_ended_mdat_that_was_cut_is_refused() -> None:
    """Data that run to the end of the file have no size of their own; the index knows where they should end."""
    data = b"".join(b"\0\0\0\0" + box[4:] if kind == b"mdat" else box for kind, box in boxes(video()))

    assert check(data).frames == FRAMES
    with pytest.raises(UnexpectedContent, match="cut off"):
        check(data[:-1])


def test_sound_alone_is_refused() -> None:
    """An MP4 without pictures is not a video."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000)
        stream.layout = "mono"
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate = 48000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    with pytest.raises(UnexpectedContent, match="no video"):
        check(buffer.getvalue())


@pytest.mark.parametrize("layout", ["moov first", "moov last"])
@pytest.mark.parametrize("padding", [3_000_000, 20_000_000])
def test_padding_behind_the_video_changes_nothing(layout: str, padding: int) -> None:
    """A large file is described as well as a small one, though most of it is not kept."""
    data = video(layout) + free(padding)

    assert check(data, *range(0, len(data), 1_000_000)) == check(video(layout))


@pytest.mark.parametrize("where", range(4))
def test_an_index_behind_what_is_kept_is_found(where: int) -> None:
    """In a large file the index is read wherever it stands, and its facts are right."""
    parts = [box for _, box in boxes(video("moov last"))]
    inner = [box for kind, box in boxes(video("moov last")) if kind == b"moov"]
    data = b"".join([*parts[:-1], *[free(HEAD_BYTES // 2)] * where, *inner, free(8)])

    assert check(data).frames == FRAMES


def test_pictures_behind_what_is_kept_are_not_decoded() -> None:
    """Where the pictures themselves were not kept, the index alone has to do."""
    start, data = dict(boxes(video("moov last"))), free(HEAD_BYTES)
    index = start[b"moov"]
    table = index.index(b"stco") + 12
    for entry in range(table, table + 4 * int.from_bytes(index[table - 4 : table], "big"), 4):
        moved = int.from_bytes(index[entry : entry + 4], "big") + len(data)
        index = index[:entry] + moved.to_bytes(4, "big") + index[entry + 4 :]

    facts = check(start[b"ftyp"] + start[b"free"] + data + start[b"mdat"] + index)

    assert (facts.frames, facts.width) == (FRAMES, WIDTH)


def test_a_large_fragmented_video_does_not_guess() -> None:
    """What only the parts that were not kept would tell is left open."""
    facts = check(video("fragmented") + free(HEAD_BYTES))

    assert (facts.width, facts.frames, facts.duration_seconds) == (WIDTH, None, None)


@pytest.mark.parametrize(
    ("file_format", "codec", "container"), [("webm", "libvpx-vp9", "webm"), ("matroska", "libx264", "matroska")]
)
def test_a_webm_is_whole_by_its_own_account(file_format: str, codec: str, container: str) -> None:
    """WebM and Matroska are accepted whole and refused cut or with something glued to them."""
    data = video("moov last", file_format=file_format, codec=codec)

    facts = check(data)

    assert (facts.container, facts.width, facts.frames) == (container, WIDTH, FRAMES)
    for broken in (data[:-1], data[: len(data) // 2], data + b"\0"):
        with pytest.raises(UnexpectedContent):
            check(broken)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "gif"])
def test_pictures_are_decoded(name: str) -> None:
    """A still picture is accepted whole and refused cut."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 60).convert("RGB").save(buffer, name)
    data = buffer.getvalue()

    assert check(data) == MediaFacts(container=name, width=64, height=48)
    with pytest.raises(UnexpectedContent):
        check(data[: len(data) // 2])


def test_an_enormous_picture_is_refused_on_the_way() -> None:
    """A picture is held in memory, so it has a limit."""
    checker = MediaChecker(sniff(b"\xff\xd8\xff") or pytest.fail(), length_known=True)

    with pytest.raises(UnexpectedContent, match="more than"):
        for _ in range(60):
            checker.feed(b"\xff" * 1_000_000)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "nothing at all"),
        (b"\n <!DOCTYPE html><p>", "an HTML page"),
        (b'{"error": 1}', "a JSON document"),
        (b"<?xml version='1.0'?><Error/>", "an XML document"),
        (b"PK\3\4", "bytes of an unknown kind"),
    ],
)
def test_what_is_no_media_is_named(data: bytes, said: str) -> None:
    """An error page is called what it is."""
    assert (sniff(data), describe(data)) == (None, said)


def test_nothing_reaches_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """FFmpeg's own complaints about a damaged file stay away from the user's terminal."""
    data = b"".join(box[:8] + b"\xff" * (len(box) - 8) if kind == b"mdat" else box for kind, box in boxes(video()))

    with pytest.raises(UnexpectedContent):
        check(data)

    assert capfd.readouterr() == ("", "")


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=20)), max_size=3), st.integers(0, 80), st.data())
def test_a_sparse_file_reads_as_the_file_with_zeros(
    pieces: list[tuple[int, bytes]], size: int, data: st.DataObject
) -> None:
    """What was not kept reads as zeros, at any position and in any amounts."""
    whole = bytearray(100)
    for offset, piece in reversed(pieces):
        whole[offset : offset + len(piece)] = piece
    file, at = SparseFile(pieces, size), data.draw(st.integers(0, 90))

    file.seek(at)
    got = b""
    while piece := file.read(data.draw(st.integers(1, 30))):
        got += piece

    assert got == bytes(whole[at:size])


def test_of_pieces_that_overlap_the_earlier_one_wins() -> None:
    """Also where the later one begins before it."""
    file = SparseFile([(3, b"B"), (2, b"aaa")], 6)

    assert [file.read(2) for _ in range(6)] == [b"\0\0", b"a", b"B", b"a", b"\0", b""]


@pytest.mark.parametrize(
    ("expectation", "count"),
    [
        (Expectation(), 0),
        (Expectation(frames=81, frames_per_second=16, resolution="480p", aspect_ratio="16:9"), 0),
        (Expectation(frames=97), 1),
        (Expectation(frames_per_second=24), 1),
        (Expectation(resolution="720p"), 1),
        (Expectation(aspect_ratio="9:16"), 1),
        (Expectation(frames=1, frames_per_second=1, resolution="1p", aspect_ratio="1:1"), 4),
        (Expectation(resolution="auto", aspect_ratio="auto"), 0),
    ],
)
def test_a_difference_from_what_was_asked_is_a_warning(expectation: Expectation, count: int) -> None:
    """Each thing that is other than asked gives one sentence; 832x480 passes for 480p at 16:9."""
    facts = MediaFacts(container="mp4", width=832, height=480, frames=81, frames_per_second=16.0)

    assert len(expectation.warnings(facts)) == count


def test_what_the_file_does_not_tell_gives_no_warning() -> None:
    """Nothing is held against a file that does not tell it."""
    asked = Expectation(frames=81, frames_per_second=16, resolution="480p", aspect_ratio="16:9")

    assert asked.warnings(MediaFacts(container="mp4")) == ()
