"""The poster, a small image of a video for pages and dashboards: how it is made, its key, and how a page embeds it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageOps

__all__ = ["POSTER_CONTENT_TYPE", "POSTER_PIXELS", "contact_sheet_key", "embedded_poster", "poster", "poster_key"]

POSTER_CONTENT_TYPE = "image/jpeg"
POSTER_PIXELS = 640
"""The longer side, at most."""


def poster_key(key: str) -> str:
    """Return the key of the poster of a file, by the file's key."""
    return f"{key}.jpg"


def contact_sheet_key(key: str) -> str:
    """Return the key of the contact sheet of a video, by the video's key."""
    return f"{key}.sheet.jpg"


def poster(image: Image.Image) -> bytes | None:
    """Return a JPEG of the image, 640 pixels at the longer side at most; `None` if it cannot be made.

    The same image gives the same bytes, with the same versions of the libraries. The image itself is modified: a copy
    of a large one would take hundreds of megabytes.
    """
    try:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode not in ("L", "RGB", "RGBA"):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.thumbnail((POSTER_PIXELS, POSTER_PIXELS))
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        made = io.BytesIO()
        image.convert("RGB").save(made, "JPEG", quality=80, optimize=True, progressive=True)
    except Exception:  # Pillow raises anything on a stranger's bytes, and a poster is optional
        return None
    return made.getvalue()


def embedded_poster(
    stored: bytes, *, pixels: int, qualities: Sequence[int], largest_bytes: int | None = None
) -> str | None:
    """Return a stored poster, scaled down, as a `data:` URL; `None` if it does not get small enough. Blocks.

    Args:
        stored: The JPEG.
        pixels: The longer side of the result.
        qualities: JPEG qualities; the first one within the limit is used.
        largest_bytes: The limit, before base64 adds a third; `None` is any size.

    Raises:
        OSError: it is no JPEG.
    """
    with Image.open(io.BytesIO(stored), formats=["JPEG"]) as image:
        image.thumbnail((pixels, pixels))
        small = image.convert("RGB")
    for quality in qualities:
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=quality, optimize=True)
        if largest_bytes is None or encoded.tell() <= largest_bytes:
            return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return None
