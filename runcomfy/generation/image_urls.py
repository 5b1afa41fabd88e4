"""Fetch an image that is given as a URL, and say in the words of an input what is wrong with it."""

from __future__ import annotations

import io
import zlib
from typing import NoReturn

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from runcomfy.download.hosts import HostPolicy
from runcomfy.download.stream import open_url
from runcomfy.errors import DownloadError, HostNotAllowed, ImageUnavailable
from runcomfy.media.image_files import check_image_size
from runcomfy.media.image_parts import image_format
from runcomfy.media.images import MAX_IMAGE_BYTES, refuse_image
from runcomfy.media.not_images import PAGE, refusal_of

__all__ = ["ANY_PUBLIC_HOST", "download_image"]

_OTHERWISE = "Or give the image as a file or as s3://bucket/key."
ANY_PUBLIC_HOST = HostPolicy(
    allowed=("*",),
    advice="An image is read from an https:// URL that anyone on the internet can open. " + _OTHERWISE,
)
_READ_BYTES = 1024 * 1024
_STATUSES = {
    400: "does not understand the URL. Check that it was copied whole",
    401: "wants a login. Use a URL that works without one, such as a signed one",
    402: "wants to be paid. Use a URL that works without that",
    403: "does not let it be read: it is private, its signed URL has expired, or programs are kept out. Make the image "
    "public, or sign the URL again",
    404: "has no such image. Check the URL: it may be misspelt, removed, or private",
    410: "had the image and removed it. Use another URL",
    451: "may not show it, for legal reasons. Use another one",
}
_WITH_A_SIGNATURE = ("x-amz-signature=", "x-goog-signature=", "signature=", "sig=", "token=", "expires=")
_GZIP, _DEFLATE = ("gzip", "x-gzip"), ("deflate",)

_SHARES: tuple[tuple[str, str], ...] = (
    ("drive.google.com", "drive.google.com/uc?export=download&id=ID is the file itself, if anyone may see it"),
    ("docs.google.com", "drive.google.com/uc?export=download&id=ID is the file itself, if anyone may see it"),
    ("photos.google.com", "Google Photos has no link to the file: download it"),
    ("photos.app.goo.gl", "Google Photos has no link to the file: download it"),
    ("dropbox.com", "put raw=1 in the place of dl=0 at the end of the link"),
    ("sharepoint.com", "put download=1 at the end of the link, or download the file"),
    ("onedrive.live.com", "download the file"),
    ("1drv.ms", "download the file"),
    ("icloud.com", "download the file"),
    ("box.com", "ask for the shared link's direct link, or download the file"),
    ("we.tl", "download the file"),
    ("wetransfer.com", "download the file"),
    ("github.com", "use the link of its button Raw"),
    ("gitlab.com", "put /-/raw/ in the place of /-/blob/"),
    ("huggingface.co", "put /resolve/ in the place of /blob/"),
    ("imgur.com", "use the image's address, which begins with https://i.imgur.com/"),
    ("wikipedia.org", "use the link of Original file, which begins with https://upload.wikimedia.org/"),
    ("wikimedia.org", "use the link of Original file, which begins with https://upload.wikimedia.org/"),
    ("flickr.com", "use the link of Download"),
    ("unsplash.com", "use the link of its button Download"),
)  # fmt: skip
"""Where links are shared that lead to a page, and how the image itself is had: as these services' help pages say."""


def download_image(url: str, hosts: HostPolicy = ANY_PUBLIC_HOST) -> bytes:
    """Return what is at the URL, 50 MB at most, unpacked if the server packed it without being asked.

    Raises:
        InvalidInput: The URL cannot lead to an image, or its server says no: the same will happen again.
        ImageUnavailable: It could not be read this time.
    """
    try:
        with open_url(url, hosts, packed=True) as download:
            check_image_size(download.length or 0)
            buffer = io.BytesIO()  # returns its content without another copy
            while buffer.tell() <= MAX_IMAGE_BYTES and (piece := download.read(_READ_BYTES)):
                buffer.write(piece)
            host, encoding = download.host, download.encoding
    except HostNotAllowed as error:
        refuse_image(error.message)
    except DownloadError as error:
        _refuse(error, url)
    check_image_size(buffer.tell())
    data = _unpacked(buffer.getvalue(), encoding, host)
    check_image_size(len(data))
    if image_format(data) is None and refusal_of(data)[0] == PAGE:
        refuse_image(
            f"The URL leads to {PAGE} of {host}, not to an image: a page that shows it, or that wants a login. "
            f"{_direct_link(url, host)} {_OTHERWISE}"
        )
    return data


def _refuse(error: DownloadError, url: str) -> NoReturn:
    status = error.http_status
    if status is None or status >= 500 or status in (408, 425, 429):
        raise ImageUnavailable(f"{error.message} Nothing was paid for.", **error.facts) from None
    signed = any(mark in url.lower() for mark in _WITH_A_SIGNATURE)
    words = _STATUSES.get(status, "sends something else than the image. Open the URL in a browser, without a login")
    if signed and status in (400, 401, 403, 404, 410):
        words = "does not accept the URL. It is a signed one, which ends after a while: sign a new one"
    refuse_image(f"The host {error.host} answered {status}: it {words}. {_OTHERWISE}")


def _unpacked(data: bytes, encoding: str, host: str) -> bytes:
    """Undo gzip or deflate; it was not asked for, but some servers send it, or only say so."""
    if encoding in ("", "identity") or image_format(data) is not None:
        return data
    if encoding in (*_GZIP, *_DEFLATE):
        for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # with a header of either kind, or with none
            unpacking = zlib.decompressobj(window)
            try:
                plain = unpacking.decompress(data, MAX_IMAGE_BYTES + 1)
            except zlib.error:
                continue
            if unpacking.eof or len(plain) > MAX_IMAGE_BYTES:
                return plain
    refuse_image(
        f"The host {host} sent the image packed ({encoding[:40]}), which was not asked for and cannot be undone here. "
        f"Download it with a browser. {_OTHERWISE}"
    )


def _direct_link(url: str, host: str) -> str:
    """Return how to link to the file itself, by the host that was asked or by the one that a redirect led to."""
    try:
        asked = parse_url(url).host or ""
    except LocationParseError:
        asked = ""
    for share, advice in _SHARES:
        if any(name == share or name.endswith(f".{share}") for name in (asked.lower(), host.lower())):
            return f"For links of {share}: {advice}."
    return "Use the address of the image itself: open the page, and copy the image's address."
