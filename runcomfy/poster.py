"""A small picture of a video, for pages and dashboards."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

__all__ = ["POSTER_CONTENT_TYPE", "POSTER_PIXELS", "poster"]

POSTER_CONTENT_TYPE = "image/jpeg"
POSTER_PIXELS = 640
"""The longer side, at most."""


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
