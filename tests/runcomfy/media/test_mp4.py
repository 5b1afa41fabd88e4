from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.media.mp4 import Boxes, indexed_samples, walk


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


MOOV = box(b"moov", b"m" * 40)
MDAT = box(b"mdat", b"d" * 100)
WHOLE = box(b"ftyp", b"isom\0\0\0\0") + MOOV + box(b"free") + MDAT


def walked(data: bytes) -> Boxes:
    return walk(io.BytesIO(data), len(data))


def test_a_whole_file_can_take_another_box() -> None:
    """It has no problem, and its index is found."""
    boxes = walked(WHOLE)

    assert (boxes.cut, boxes.extra_bytes, boxes.foreign, boxes.takes_another) == (None, 0, [], True)
    assert boxes.indexes == [(16, len(MOOV))]


@given(st.binary(max_size=300))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    """Whatever follows a whole file, or is a file itself, is read without an error."""
    assert walked(WHOLE + data).cut is None or len(data) >= 8
    assert not walked(data).takes_another


@pytest.mark.parametrize("end", range(16, len(WHOLE)))
def test_every_cut_before_the_data_end_is_seen(end: int) -> None:
    """No proper start of a file whose data come last passes for the file."""
    assert walked(WHOLE[:end]).cut


@pytest.mark.parametrize(
    "extra",
    [b"\n", b"\0" * 16, b"<html>", b"<html><body>", b"\0\0\0\x04free", b"\0\0\0\x00free", b"\0\0\0\x01free" + b"\0" * 7,
     b"\xff" * 50, MOOV, WHOLE],
)  # fmt: skip
def test_bytes_after_the_end_are_counted(extra: bytes) -> None:
    """Bytes after the last box do no harm; but no box can be found after them, so none is added."""
    boxes = walked(WHOLE + extra)

    assert (boxes.cut, boxes.extra_bytes, boxes.takes_another) == (None, len(extra), False)


@pytest.mark.parametrize("kind", [b"Xtra", b"ID32", b"abcd", b"\xa9nam"])
def test_an_unknown_box_is_named(kind: bytes) -> None:
    """A box that is whole, and that the format does not have at the top, is stepped over."""
    boxes = walked(WHOLE + box(kind, b"x" * 20))

    assert (boxes.foreign, boxes.extra_bytes, boxes.takes_another) == ([kind.decode("latin-1")], 0, True)


def test_a_known_box_that_is_cut_is_seen_behind_the_data() -> None:
    """A `free` box that lacks a byte was cut; a strange one that does is something that was added."""
    assert walked(WHOLE + box(b"free", b"x" * 9)[:-1]).cut
    assert walked(WHOLE + box(b"junq", b"x" * 9)[:-1]).cut is None


def test_a_box_may_have_a_64_bit_size() -> None:
    """A large box says 1 and then its size in 64 bits."""
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"ddddd"

    assert walked(MOOV + large).takes_another
    assert walked(MOOV + large[:-1]).cut


def test_data_may_run_to_the_end_of_the_file() -> None:
    """A last mdat of size 0 has whatever follows, so nothing is added to it."""
    boxes = walked(MOOV + b"\0\0\0\0mdat" + b"moov" * 10)

    assert (boxes.cut, boxes.takes_another) == (None, False)


def test_a_fragment_needs_its_data() -> None:
    """A movie fragment is followed by the data that it describes."""
    assert walked(MOOV + box(b"moof") + MDAT + box(b"moof") + MDAT).cut is None
    assert walked(MOOV + box(b"moof") + MDAT + box(b"moof")).cut


def test_a_file_of_a_million_boxes_is_not_walked_to_its_end() -> None:
    """Tiny boxes without end cost a bounded time; nothing is added behind them."""
    boxes = walked(WHOLE + box(b"free") * 1_000_000)

    assert (boxes.all_seen, boxes.cut, boxes.takes_another) == (False, None, False)


@pytest.mark.parametrize(
    ("table", "promised"),
    [
        (box(b"stsz", struct.pack(">III", 0, 100, 2**32 - 1)), 2**32 - 1),
        (box(b"stts", struct.pack(">IIIIII", 0, 2, 2**32 - 1, 1, 5, 1)), 2**32 + 4),
        (box(b"ctts", struct.pack(">IIII", 0, 1, 2**31, 1)), 2**31),
        (box(b"stsz", b"\0"), 0),
    ],
)
def test_the_sample_count_is_read_from_the_index(table: bytes, promised: int) -> None:
    """Its tables say how many samples there are in a few bytes; FFmpeg would make room for all of them."""
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        table = box(kind, table)
    data = box(b"ftyp", b"isom\0\0\0\0") + table + MDAT

    assert indexed_samples(io.BytesIO(data), walked(data)) == promised
