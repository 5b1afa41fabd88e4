"""The first picture of an archived video, small enough to stand in an artifact.

A page of Prefect cannot read a private bucket, and a signed URL must not get into its database; so the picture itself
stands there, as a `data:` URL.
"""

from __future__ import annotations

import asyncio

from runcomfy.media.poster import embedded_poster
from runcomfy.storage.store import Store

__all__ = ["poster_image"]

_LARGEST_POSTER_BYTES = 1_000_000
_LARGEST_EMBEDDED_BYTES = 10_000  # Prefect repeats it in two events
_QUALITIES = (75, 60, 45, 30, 15)


async def poster_image(store: Store, key: str | None, name: str, *, pixels: int = 320) -> str:
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
        poster = await asyncio.to_thread(store.read, key, limit_bytes=_LARGEST_POSTER_BYTES)
        url = await asyncio.to_thread(
            embedded_poster, poster, pixels=pixels, qualities=_QUALITIES, largest_bytes=_LARGEST_EMBEDDED_BYTES
        )
    except Exception:  # a picture of a run must never break what is paid for, and a page reads well without it
        return ""
    return f"![{name}]({url})" if url else ""
