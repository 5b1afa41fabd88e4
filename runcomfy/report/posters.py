"""The posters and contact sheets of the gallery: read from the bucket, and written into the page as `data:` URIs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from runcomfy.errors import StorageError
from runcomfy.media.poster import embedded_poster
from runcomfy.storage.store import Store

__all__ = ["small_posters", "small_sheets"]

logger = logging.getLogger(__name__)

_AT_ONCE = 8
_MAX_BYTES = 2 * 1024 * 1024  # posters are some ten thousand bytes
_LONGER_SIDE, _QUALITY = 320, 72
_SHEET_SIDE, _SHEET_QUALITIES, _SHEET_BYTES = 800, (65, 50, 35), 60_000


def small_posters(store: Store, uris: Sequence[str]) -> dict[str, str]:
    """Return small images as `data:` URIs, by where the posters are. Blocks: one call for each.

    What is not there, is not of this bucket, or is no image, is left out: a page without one poster is still a page.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        images = threads.map(lambda uri: _small(store, uri), uris)
        return {uri: image for uri, image in zip(uris, images, strict=True) if image}


def small_sheets(store: Store, uris: Sequence[str]) -> dict[str, str]:
    """Return contact sheets as `data:` URIs, by where they are; larger than posters, to see defects."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        images = threads.map(lambda uri: _sheet(store, uri), uris)
        return {uri: image for uri, image in zip(uris, images, strict=True) if image}


def _small(store: Store, uri: str) -> str | None:
    return _embedded(store, uri, pixels=_LONGER_SIDE, qualities=(_QUALITY,))


def _sheet(store: Store, uri: str) -> str | None:
    return _embedded(store, uri, pixels=_SHEET_SIDE, qualities=_SHEET_QUALITIES, largest_bytes=_SHEET_BYTES)


def _embedded(store: Store, uri: str, **how: Any) -> str | None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if bucket != store.bucket:
        return None
    try:
        return embedded_poster(store.read(key, limit_bytes=_MAX_BYTES), **how)
    except (StorageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        logger.warning("The image %s is left out of the report (%s)", uri, type(error).__name__)
        return None
