"""A changed byte in any part of a signed file is found, our mark survives, and an input's own signature is kept.

What the standard leaves out is named here: the file type box of an MP4 (C2PA 2.2, "Hashing a BMFF-formatted asset",
mandatory exclusions), and the padding behind a signature. `verify` finds changes there too, by the file's digest.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import c2pa
import pytest

from runcomfy.content_credentials import Signing, SigningSettings, read_credentials
from runcomfy.content_credentials.signing import Ingredient
from runcomfy.media.mark_places import bytes_of, with_mark
from runcomfy.media.marking import DIGITAL_SOURCE_TYPE, ai_packet
from tests.runcomfy.content_credentials.certificates import Chain, make_chain
from tests.runcomfy.content_credentials.test_signing import FILES, PROGRAM, image, sign

CONTAINERS = {
    "image/jpeg": "jpeg", "image/png": "png", "image/webp": "webp", "audio/mpeg": "mp3", "audio/wav": "wav",
}  # fmt: skip
MANIFEST = {"uuid", "FFEB", "caBX", "C2PA", "GEOB"}
NOT_SIGNED = {"ftyp"}


class Part(NamedTuple):
    """A box, chunk, segment or frame of a file."""

    name: str
    start: int
    end: int


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="module")
def signing(chain: Chain) -> Signing:
    return Signing(SigningSettings(str(chain.certificate), str(chain.key)), PROGRAM)


def marked(content_type: str) -> bytes:
    """Return a good file with our mark in it, as it is when it is signed."""
    data = FILES[content_type]()
    if content_type == "video/mp4":
        return data
    pieces = with_mark(io.BytesIO(data), len(data), CONTAINERS[content_type], ai_packet("a/b"), DIGITAL_SOURCE_TYPE)
    assert pieces is not None
    return b"".join(bytes_of(io.BytesIO(data), pieces))


def parts(data: bytes) -> Iterator[Part]:
    """Yield all that a file is made of, at its top level."""
    at = 0
    if data[4:8] == b"ftyp":
        while at < len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            yield Part(kind.decode("latin-1"), at, at := at + size)
    elif data[:4] == b"RIFF":
        yield Part("RIFF", 0, at := 12)
        while at < len(data):
            kind, size = struct.unpack_from("<4sI", data, at)
            yield Part(kind.decode("latin-1"), at, at := at + 8 + size + (size & 1))
    elif data[:4] == b"\x89PNG":
        yield Part("PNG", 0, at := 8)
        while at < len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            yield Part(kind.decode("latin-1"), at, at := at + 12 + size)
    elif data[:2] == b"\xff\xd8":
        yield Part("SOI", 0, at := 2)
        while data[at + 1] != 0xDA:
            marker, size = struct.unpack_from(">HH", data, at)
            yield Part(f"{marker:X}", at, at := at + 2 + size)
        yield Part("scan", at, len(data))
    else:
        yield Part("ID3", 0, at := 10)
        end = at + _syncsafe(data[6:10])
        while at < end and data[at]:
            yield Part(data[at : at + 4].decode(), at, at := at + 10 + _syncsafe(data[at + 4 : at + 8]))
        yield Part("sound", end, len(data))


def _syncsafe(number: bytes) -> int:
    return sum(byte << shift for byte, shift in zip(number, (21, 14, 7, 0), strict=True))


def holds(data: bytes, content_type: str) -> bool:
    """Whether a signature is there and holds, by the library's own reader."""
    found = read_credentials(io.BytesIO(data), content_type)
    return found is not None and found.is_valid


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("content_type", FILES)
def test_a_change_of_any_part_is_found(signing: Signing, content_type: str) -> None:
    """Of each box, chunk, segment or frame: the mark is one of them."""
    data = sign(signing, content_type, marked(content_type))
    found = list(parts(data))
    ours = next(part for part in found if part.name in MANIFEST)
    missed = {
        (part.name, at - part.start)
        for part in found
        if part != ours and part.name not in NOT_SIGNED
        for at in {*range(part.start, min(part.start + 12, part.end)), (part.start + part.end) // 2, part.end - 1}
        if holds(flipped(data, at), content_type)
    }

    assert holds(data, content_type) and found[-1].end == len(data)
    assert missed == set()


@pytest.mark.parametrize("content_type", FILES)
def test_a_change_of_what_is_said_is_found(signing: Signing, content_type: str) -> None:
    """Of the statement, the action, the ingredient, the signer's certificate and the signature itself."""
    ingredient = Ingredient("input.jpg", "image/jpeg", lambda: image("JPEG"))
    data = sign(signing, content_type, FILES[content_type](), ingredients=(ingredient,))
    said = (b"request-1", b"trainedAlgorithmicMedia", b"input.jpg", b"runcomfy-prefect", b"Testing Pictures")
    padding = data.index(bytes(200))

    places = {word: data.rfind(word, 0, padding) + len(word) // 2 for word in said}
    signature = data.index(b"X@", padding) + 10  # of 64 bytes, behind the padding
    missed = [word for word, at in places.items() if holds(flipped(data, at), content_type)]

    assert all(data[:padding].count(word) for word in said) and missed == []
    assert not holds(flipped(data, signature), content_type)


@pytest.mark.parametrize("content_type", FILES)
def test_our_mark_survives(signing: Signing, content_type: str) -> None:
    """Whole, in the place where other programs look for it."""
    data = sign(signing, content_type, marked(content_type))

    assert ai_packet("a/b") in data
    if content_type in CONTAINERS:
        again = with_mark(io.BytesIO(data), len(data), CONTAINERS[content_type], ai_packet("a/b"), DIGITAL_SOURCE_TYPE)
        assert again is None  # what is signed is not changed


def test_a_signature_cannot_be_moved_to_another_file(signing: Signing) -> None:
    """Nor is the part that holds it valid in a file of other pixels."""
    mine, other = (sign(signing, "image/png", data) for data in (image("PNG"), image("PNG")))
    mark = next(part for part in parts(mine) if part.name == "caBX")
    place = next(part for part in parts(other) if part.name == "caBX")

    assert not holds(other[: place.start] + mine[mark.start : mark.end] + other[place.end :], "image/png")


def test_an_input_that_somebody_signed_is_kept_with_its_own_manifest(signing: Signing, tmp_path: Path) -> None:
    """Who made it can be read in what was made of it; and whether that was tampered with, too."""
    stranger = make_chain(tmp_path)
    theirs = Signing(SigningSettings(str(stranger.certificate), str(stranger.key)), ("a-camera", "2.0"))
    photo = sign(theirs, "image/jpeg", image("JPEG"))

    def read(photo: bytes) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
        made = sign(
            signing, "video/mp4", FILES["video/mp4"](), ingredients=(Ingredient("p", "image/jpeg", lambda: photo),)
        )
        assert holds(made, "video/mp4")
        with c2pa.Reader("video/mp4", io.BytesIO(made)) as reader:
            found = json.loads(reader.json())
        (ingredient,) = found["manifests"][found["active_manifest"]]["ingredients"]
        return ingredient, found["manifests"]

    ingredient, manifests = read(photo)
    camera = manifests[str(ingredient["active_manifest"])]

    assert ingredient["relationship"] == "inputTo" and len(manifests) == 2
    assert "a-camera" in json.dumps(camera["claim_generator_info"])
    changed, _ = read(flipped(photo, len(photo) - 40))
    assert "assertion.dataHash.mismatch" in json.dumps(changed)
