from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.errors import UnexpectedContent
from runcomfy.mp4 import MAX_MOOV_BYTES, BoxWalker


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


MOOV = box(b"moov", b"m" * 40)
MDAT = box(b"mdat", b"d" * 100)
WHOLE = box(b"ftyp", b"isom\0\0\0\0") + MOOV + box(b"free") + MDAT


def walk(data: bytes, *cuts: int) -> BoxWalker:
    walker = BoxWalker()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        walker.feed(data[start:end])
    walker.finish()
    return walker


def refused(data: bytes, *cuts: int) -> bool:
    try:
        walk(data, *cuts)
    except UnexpectedContent:
        return True
    return False


@given(st.lists(st.integers(min_value=0), max_size=30))
def test_any_chunking_gives_the_same_verdict(cuts: list[int]) -> None:
    """A whole file is whole, and its index is found, however it was cut into chunks."""
    walker = walk(WHOLE, *cuts)

    assert (walker.size_bytes, walker.moov, WHOLE[walker.moov_offset :][: len(MOOV)]) == (len(WHOLE), MOOV, MOOV)


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=10))
def test_any_bytes_get_a_verdict_that_chunking_does_not_change(data: bytes, cuts: list[int]) -> None:
    """Random bytes after a whole file are judged, never crash, and are judged alike in any chunks."""
    assert refused(WHOLE + data, *cuts) == refused(WHOLE + data)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    """Bytes without an index and without data are no video."""
    assert refused(data) == (not (b"moov" in data and b"mdat" in data))


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_every_truncation_is_refused(end: int) -> None:
    """No proper start of a file whose data come last is taken for the file."""
    assert refused(WHOLE[:end])


@pytest.mark.parametrize(
    "extra",
    [
        b"\0",
        b"<html>",
        b"\0" * 8,
        b"\0\0\0\x08abcd",
        b"\0\0\0\x04free",
        b"\0\0\0\x00free",
        b"\0\0\0\x01free\0\0\0\0\0\0\0\x08",
        MOOV,
        WHOLE,
    ],
)
def test_what_is_glued_to_the_end_is_refused(extra: bytes) -> None:
    """Bytes behind the last box are not part of a video, and neither is a second video."""
    assert refused(WHOLE + extra)


def test_a_box_may_have_a_64_bit_size() -> None:
    """A large box says 1 and then its size in 64 bits."""
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"ddddd"

    assert not refused(MOOV + large)
    assert refused(MOOV + large[:-1])


def test_data_may_run_to_the_end_of_the_file() -> None:
    """A last mdat of size 0 has whatever follows."""
    assert not refused(MOOV + b"\0\0\0\0mdat" + b"moov" * 10)


def test_a_fragment_needs_its_data() -> None:
    """A movie fragment is followed by the data that it describes."""
    assert not refused(MOOV + box(b"moof") + MDAT + box(b"moof") + MDAT)
    assert refused(MOOV + box(b"moof") + MDAT + box(b"moof"))


def test_an_enormous_index_is_refused_before_it_is_read() -> None:
    """The index is held in memory, so it has a limit."""
    with pytest.raises(UnexpectedContent, match="index of"):
        BoxWalker().feed(struct.pack(">I4s", MAX_MOOV_BYTES + 1, b"moov"))
