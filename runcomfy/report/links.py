"""Where the page's media is: beside the page, below an address that the user gives, or behind a server on this machine.

No link is signed: a signature that is written into a page is a secret that many people get, and it expires.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from runcomfy.catalogue.values import Row
from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.storage.store import Store

__all__ = ["MediaLinks", "below", "beside_the_page", "gone_files", "key_in"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MediaLinks:
    """How the page links to objects of the bucket."""

    to: Callable[[str], str | None]
    """Return the link to an `s3://` URI; `None` if there is none."""
    source: str
    """Where the page may load media from, as a Content-Security-Policy says it."""
    about: str
    """A sentence that says where the media comes from."""
    otherwise: str
    """A sentence that says what to do if it does not play."""


_AT_ONCE = 8
_SET_ASIDE = ("waiting", "rejected")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")  # it goes into the policy as it is
_OPEN = "run `prefect-runcomfy report --open`, which signs each link when it is clicked"


def beside_the_page(store: Store, page_key: str) -> MediaLinks:
    """Return links that are relative to the page, which is in the bucket with the files.

    Args:
        store: The bucket.
        page_key: Where the page is, or would be.
    """

    def to(uri: str) -> str | None:
        key = key_in(store, uri)
        return quote(posixpath.relpath(key, posixpath.dirname(page_key))) if key else None

    return MediaLinks(
        to,
        source="'self'",
        about=f"The files are in the bucket {store.bucket}, as this page is: the links lead from its place "
        "there to theirs.",
        otherwise="They play where the bucket is published as a whole (a website, a CDN, a gateway). If you opened a "
        f"copy of this page, or a link that was signed for it alone, {_OPEN}.",
    )


def below(base_url: str, store: Store) -> MediaLinks:
    """Return links below an address at which the store's folder is published.

    Raises:
        ConfigurationError: it is no http:// or https:// address, or it has a query, which may hold a secret.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise ConfigurationError(
            "The media's base URL is an http:// or https:// address without user, query or fragment."
        )
    base = base_url.rstrip("/")

    def to(uri: str) -> str | None:
        key = key_in(store, uri)
        if key is None or not key.startswith(store.prefix):
            return None
        return f"{base}/{quote(key.removeprefix(store.prefix))}"

    return MediaLinks(
        to,
        source=f"{parts.scheme}://{parts.netloc}",
        about=f"The files come from {base}/.",
        otherwise=f"If they do not play, check whether that address is reachable, or {_OPEN}.",
    )


def key_in(store: Store, uri: str) -> str | None:
    """Return the key of an object of this bucket, if a link can lead to it."""
    key = uri.removeprefix(f"s3://{store.bucket}/")
    usable = key != uri and posixpath.normpath(key) == key and not key.startswith(("/", ".."))
    return key if usable else None


def gone_files(store: Store, rows: Iterable[Row]) -> set[str]:
    """Return the addresses of files that were set aside and are gone. Blocks: one call for each that was set aside.

    A person who rejects one, or a rule of the bucket, may delete it. Whatever the store does not say counts as there.
    """
    uris = [
        file["uri"]
        for row in rows
        for file, review in zip(row["outputs"] or (), row["file_reviews"] or (), strict=False)
        if review in _SET_ASIDE
    ]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return {
            uri for uri, gone in zip(uris, threads.map(lambda uri: _is_gone(store, uri), uris), strict=True) if gone
        }


def _is_gone(store: Store, uri: str) -> bool:
    key = key_in(store, uri)
    try:
        return key is not None and store.head(key) is None
    except StorageError as error:
        logger.warning("Whether %s is still there is unknown (%s)", uri, type(error).__name__)
        return False
