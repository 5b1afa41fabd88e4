"""A small picture of a video, for pages and dashboards: how it is made, where it stands, and how a page holds it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageOps

__all__ = ["POSTER_CONTENT_TYPE", "POSTER_PIXELS", "embedded_poster", "poster", "poster_key"]

POSTER_CONTENT_TYPE = "image/jpeg"
POSTER_PIXELS = 640
"""The longer side, at most."""


def poster_key(key: str) -> str:
    """Return where the poster of the file at a key stands."""
    return f"{key}.jpg"


def poster(picture: Image.Image) -> bytes | None:
    """Return a JPEG of the picture, 640 pixels at the longer side at most; `None` if it cannot be made.

    The same picture gives the same bytes, as long as the versions of the libraries are the same. The picture itself is
    used up: a copy of a large one would take hundreds of megabytes.
    """
    try:
        ImageOps.exif_transpose(picture, in_place=True)
        if picture.mode not in ("L", "RGB", "RGBA"):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        picture.thumbnail((POSTER_PIXELS, POSTER_PIXELS))
        if picture.has_transparency_data:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        made = io.BytesIO()
        picture.convert("RGB").save(made, "JPEG", quality=80, optimize=True, progressive=True)
    except Exception:  # what Pillow makes of a stranger's bytes raises what it likes, and a poster is only a poster
        return None
    return made.getvalue()


def embedded_poster(
    stored: bytes, *, pixels: int, qualities: Sequence[int], largest_bytes: int | None = None
) -> str | None:
    """Return a stored poster, made smaller, as a `data:` URL; `None` if it cannot be made so small. Blocks.

    Args:
        stored: The JPEG.
        pixels: The longer side of what is shown.
        qualities: Of the JPEG; the first that keeps within the limit is taken.
        largest_bytes: The limit, before base64 adds a third; `None` is any size.

    Raises:
        OSError: it is no JPEG.
    """
    with Image.open(io.BytesIO(stored), formats=["JPEG"]) as picture:
        picture.thumbnail((pixels, pixels))
        small = picture.convert("RGB")
    for quality in qualities:
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=quality, optimize=True)
        if largest_bytes is None or encoded.tell() <= largest_bytes:
            return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return None
