"""The first picture of an archived video, small enough to stand in an artifact.

A page of Prefect cannot read a private bucket, and a signed URL must not get into its database; so the picture itself
stands there, as a `data:` URL.
"""

from __future__ import annotations

import asyncio
import base64
import io

from PIL import Image

from blocks import MediaStore

__all__ = ["embedded_poster", "poster_image"]

_LARGEST_POSTER_BYTES = 1_000_000
_LARGEST_EMBEDDED_BYTES = 10_000  # Prefect repeats it in two events
_QUALITIES = (75, 60, 45, 30, 15)


async def poster_image(store: MediaStore, key: str | None, name: str, *, pixels: int = 320) -> str:
    """Return a poster as an image in Markdown, or nothing where there is none or it cannot be had.

    Args:
        store: Where it stands.
        key: Its full key.
        name: What is shown where pictures are not; Markdown.
        pixels: Its longer side.
    """
    if key is None:
        return ""
    try:
        poster = await asyncio.to_thread(store.get_store().read, key, limit_bytes=_LARGEST_POSTER_BYTES)
        url = await asyncio.to_thread(embedded_poster, poster, pixels=pixels)
    except Exception:  # a picture of a run must never break what is paid for, and a page reads well without it
        return ""
    return f"![{name}]({url})" if url else ""


def embedded_poster(poster: bytes, *, pixels: int = 320) -> str | None:
    """Return a JPEG as a `data:` URL of at most 14,000 characters; `None` if it cannot be made so small. Blocks.

    Args:
        poster: The JPEG.
        pixels: The longer side of what is shown.

    Raises:
        OSError: it is no JPEG.
    """
    with Image.open(io.BytesIO(poster), formats=["JPEG"]) as picture:
        picture.thumbnail((pixels, pixels))
        small = picture.convert("RGB")
    for quality in _QUALITIES:
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=quality, optimize=True)
        if encoded.tell() <= _LARGEST_EMBEDDED_BYTES:
            return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return None
