from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from runcomfy.errors import InvalidInput
from runcomfy.media.images import MAX_IMAGE_BYTES, inspect_image, usable_image
from runcomfy.values import image_warnings
from tests.corpus.images import CORPUS, Sample, heic


def image_bytes(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("sample", CORPUS, ids=lambda sample: sample.name)
def test_every_file_is_read_or_called_by_its_name(sample: Sample) -> None:
    """Whole images are read by their content, whatever else is in them; others are refused with what they are."""
    if sample.content_type is not None:
        assert inspect_image(sample.data).content_type == sample.content_type
        return
    with pytest.raises(InvalidInput) as refused:
        inspect_image(sample.data)

    assert [word for word in sample.words if word not in refused.value.message] == []
    assert refused.value.violations == [("image", refused.value.message)]


def test_what_is_converted_looks_as_it_was_shown() -> None:
    """Upright, with its colour profile, without place and camera; a PNG where it is transparent."""
    left = Image.new("RGB", (64, 32), "red")
    left.paste("blue", (32, 0, 64, 32))
    shown = Image.Exif()
    shown[0x0112], shown[0x010F] = 6, "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    left.save(file, "AVIF", quality=100, exif=shown.tobytes(), icc_profile=profile)

    data, facts = usable_image(file.getvalue())

    made = Image.open(io.BytesIO(data))
    assert (facts.content_type, facts.converted_from, facts.orientation) == ("image/jpeg", "image/avif", 1)
    assert made.size == (facts.width, facts.height) == (32, 64)
    assert made.info["icc_profile"] == profile and not made.getexif()
    top, bottom = made.getpixel((16, 8)), made.getpixel((16, 56))
    assert isinstance(top, tuple) and isinstance(bottom, tuple) and top[0] > 200 > 50 > bottom[0]
    file = io.BytesIO()
    Image.new("RGBA", (64, 32), (255, 0, 0, 99)).save(file, "AVIF")
    assert usable_image(file.getvalue()).facts.content_type == "image/png"


def test_an_image_that_is_not_converted_is_passed_on_as_it_is() -> None:
    """Byte by byte, with its texts, although nobody looks at them."""
    for sample in CORPUS:
        if sample.content_type is not None and not sample.name.endswith((".avif", ".heic")):
            assert usable_image(sample.data).data is sample.data


def test_a_photo_that_nothing_reads_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra that reads HEIC, with what to install and how to convert it elsewhere."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)

    with pytest.raises(InvalidInput, match=r"HEIC.*prefect-runcomfy\[heic\].*sips.*magick"):
        inspect_image(heic())


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


def test_the_bound_is_fifty_million_bytes() -> None:
    """An image of exactly the bound passes, one byte more does not."""
    data = image_bytes("PNG")

    assert inspect_image(data.ljust(MAX_IMAGE_BYTES, b"\0")).content_type == "image/png"
    with pytest.raises(InvalidInput, match="50,000,000"):
        inspect_image(data.ljust(MAX_IMAGE_BYTES + 1, b"\0"))


HEADS = [image_bytes(kind)[:60] for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")] + [heic()[:60]]


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
