"""The posters of the gallery: read from the bucket, made smaller, and written into the page as `data:` URIs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from runcomfy.errors import StorageError
from runcomfy.media.poster import embedded_poster
from runcomfy.storage.store import Store

__all__ = ["small_posters"]

logger = logging.getLogger(__name__)

_AT_ONCE = 8
_MAX_BYTES = 2 * 1024 * 1024  # posters are some ten thousand bytes
_LONGER_SIDE, _QUALITY = 320, 72


def small_posters(store: Store, uris: Sequence[str]) -> dict[str, str]:
    """Return small images as `data:` URIs, by where the posters are. Blocks: one call for each.

    What is not there, is not of this bucket, or is no image, is left out: a page without one poster is still a page.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        images = threads.map(lambda uri: _small(store, uri), uris)
        return {uri: image for uri, image in zip(uris, images, strict=True) if image}


def _small(store: Store, uri: str) -> str | None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if bucket != store.bucket:
        return None
    try:
        body = store.read(key, limit_bytes=_MAX_BYTES)
        return embedded_poster(body, pixels=_LONGER_SIDE, qualities=(_QUALITY,))
    except (StorageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        logger.warning("The poster %s is left out of the report (%s)", uri, type(error).__name__)
        return None
