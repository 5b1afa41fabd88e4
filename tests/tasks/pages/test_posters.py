"""The poster on the page of a run: small, complete, and never a reason for a failure."""

from __future__ import annotations

import base64
import io
import os

import pytest
from PIL import Image

from blocks import MediaStore
from tasks.pages.artifacts import poster_image


def jpeg(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=95)
    return encoded.getvalue()


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (640, 640)])
async def test_the_most_complex_poster_is_small_enough(media_store: MediaStore, size: tuple[int, int]) -> None:
    """Noise, which compresses worst, still becomes a JPEG of at most 320 pixels and 10,000 bytes."""
    noise = Image.frombytes("RGB", size, os.urandom(size[0] * size[1] * 3))

    key = media_store.get_store().key("video.mp4.jpg")
    media_store.get_store().put(key, jpeg(noise), content_type="image/jpeg")

    image = await poster_image(media_store.get_store(), key, "video")

    assert image.startswith("![video](") and image.endswith(")")
    kind, _, data = image.removeprefix("![video](").removesuffix(")").partition(",")
    shown = base64.b64decode(data)
    assert kind == "data:image/jpeg;base64" and len(shown) <= 10_000
    with Image.open(io.BytesIO(shown)) as picture:
        assert max(picture.size) == 320
        assert (picture.width > picture.height) == (size[0] > size[1])


async def test_a_poster_is_read_from_the_store(media_store: MediaStore) -> None:
    """It is in the text itself, so nobody needs access to the bucket to see it."""
    key = media_store.get_store().key("video.mp4.jpg")
    media_store.get_store().put(key, jpeg(Image.new("RGB", (64, 36), "teal")), content_type="image/jpeg")

    assert (await poster_image(media_store.get_store(), key, "video")).startswith("![video](data:image/jpeg;base64,")


@pytest.mark.parametrize(
    "stored", [None, b"", b"no picture at all", b"\xff\xd8\xff\xe0 cut short", b"\x00" * 1_000_001]
)
async def test_an_unreadable_poster_is_left_out(media_store: MediaStore, stored: bytes | None) -> None:
    """Missing, broken or far too large: the page is complete without it."""
    key = media_store.get_store().key("video.mp4.jpg")
    if stored is not None:
        media_store.get_store().put(key, stored, content_type="image/jpeg")

    assert await poster_image(media_store.get_store(), key, "video") == ""
    assert await poster_image(media_store.get_store(), None, "video") == ""
