from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runcomfy.errors import InvalidInput
from runcomfy.media.images import MAX_IMAGE_BYTES, inspect_image
from runcomfy.values import image_warnings


def image_bytes(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (image_bytes("JPEG"), ("image/jpeg", "jpg", 40, 30)),
        (image_bytes("JPEG", "CMYK"), ("image/jpeg", "jpg", 40, 30)),
        (image_bytes("PNG", "RGBA"), ("image/png", "png", 40, 30)),
        (image_bytes("PNG", "I;16"), ("image/png", "png", 40, 30)),
        (image_bytes("PNG", "1"), ("image/png", "png", 40, 30)),
        (image_bytes("WEBP"), ("image/webp", "webp", 40, 30)),
        (image_bytes("GIF", "P"), ("image/gif", "gif", 40, 30)),
        (
            image_bytes("GIF", "P", save_all=True, append_images=[Image.new("P", (40, 30), 3)]),
            ("image/gif", "gif", 40, 30),
        ),
        (image_bytes("TIFF", "CMYK"), ("image/tiff", "tiff", 40, 30)),
        (image_bytes("BMP"), ("image/bmp", "bmp", 40, 30)),
    ],
)
def test_a_whole_image_is_recognised_by_its_content(data: bytes, expected: tuple[str, str, int, int]) -> None:
    """Format, extension and size come from the bytes; the name does not matter."""
    facts = inspect_image(data)

    assert (facts.content_type, facts.extension, facts.width, facts.height) == expected


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + b"\0" * 100,
        b"a text that was named image.png",
        b"<!doctype html><title>Sign in</title>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\0" * 1000,
    ],
)
def test_a_file_that_is_no_image_is_refused(data: bytes) -> None:
    """Other files are refused with the field and what to use instead."""
    with pytest.raises(InvalidInput, match="JPEG, PNG or WebP") as refused:
        inspect_image(data)

    assert refused.value.violations[0][0] == "image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_cut_image_is_refused(kind: str, part: float) -> None:
    """An image of which the end is missing is refused before it is paid for."""
    data = image_bytes(kind, size=(200, 150))

    with pytest.raises(InvalidInput):
        inspect_image(data[: int(len(data) * part)])


def test_a_damaged_png_is_refused() -> None:
    """A flipped bit that the checksum of a chunk reveals is refused."""
    data = bytearray(image_bytes("PNG"))
    data[len(data) // 2] ^= 0x10

    with pytest.raises(InvalidInput, match="damaged"):
        inspect_image(bytes(data))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_000, 8_001), (12_000, 12_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_unopened(size: tuple[int, int]) -> None:
    """A small file that claims a huge image is refused by its header."""
    with pytest.raises(InvalidInput, match="pixels"):
        inspect_image(png_header(*size))


def test_an_empty_file_is_refused() -> None:
    """No bytes are no image."""
    with pytest.raises(InvalidInput, match="empty"):
        inspect_image(b"")


def test_the_bound_is_fifty_million_bytes() -> None:
    """An image of exactly the bound passes, one byte more does not."""
    data = image_bytes("PNG")

    assert inspect_image(data.ljust(MAX_IMAGE_BYTES, b"\0")).content_type == "image/png"
    with pytest.raises(InvalidInput, match="50,000,000"):
        inspect_image(data.ljust(MAX_IMAGE_BYTES + 1, b"\0"))


HEADS = [image_bytes(kind)[:60] for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")]


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.sampled_from([b"", *HEADS]), st.binary(max_size=400))
def test_any_bytes_are_an_image_or_refused(head: bytes, rest: bytes) -> None:
    """No bytes crash the inspection, also not those that begin like an image."""
    try:
        inspect_image(head + rest)
    except InvalidInput as refused:
        assert refused.violations


@pytest.mark.parametrize(
    "size", [(1, 1), (15, 15), (16, 15), (1, 500), (500, 1), (2, 2), (321, 16), (16, 321), (2001, 100)]
)
def test_a_size_of_which_no_video_can_be_made_is_refused(size: tuple[int, int]) -> None:
    """Less than a block of pixels, and strips."""
    with pytest.raises(InvalidInput, match=f"{size[0]} x {size[1]} pixels"):
        inspect_image(image_bytes("PNG", size=size))


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((640, 360), []), ((720, 240), []), ((240, 720), []), ((1280, 720), []), ((640, 239), ["small"]),
        ((16, 16), ["small"]), ((1000, 300), ["strip"]), ((320, 16), ["small", "strip"]), ((16, 320), ["small",
        "strip"]),
    ],
)  # fmt: skip
def test_a_size_that_may_spoil_the_video_is_a_warning(size: tuple[int, int], said: list[str]) -> None:
    """It can be made, and the payer is warned."""
    facts = inspect_image(image_bytes("PNG", size=size))

    warnings = image_warnings(facts.width, facts.height, facts.orientation)
    assert len(warnings) == len(said)
    assert all(word in warning for word, warning in zip(said, warnings, strict=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 0, 9])
def test_an_image_that_is_to_be_rotated_is_a_warning(kind: str, orientation: int) -> None:
    """Cameras store pixels as the sensor has them, and note how to rotate them; not every program does."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    facts = inspect_image(image_bytes(kind, size=(640, 360), exif=exif))

    assert {facts.width, facts.height} == {640, 360}
    assert facts.orientation == (orientation if 1 < orientation < 9 else 1)
    warnings = image_warnings(facts.width, facts.height, facts.orientation)
    assert [f"EXIF orientation {orientation}" in warning for warning in warnings] == [True] * (1 < orientation < 9)


def test_damaged_exif_data_is_ignored() -> None:
    """The pixels are whole."""
    assert inspect_image(image_bytes("PNG", size=(640, 360), exif=b"Exif\0\0no TIFF at all")).orientation == 1
