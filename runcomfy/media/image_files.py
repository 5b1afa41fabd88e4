"""Where an image is, by its name, and the bytes of one that is a file on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from runcomfy.media.images import MAX_IMAGE_BYTES, inspect_image, refuse_image

__all__ = ["check_image_file", "check_image_size", "path_of", "read_image_file", "scheme_of"]

_SCHEMES = ("s3", "http", "https", "file")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)  # two letters at least: C:\ is a path


def scheme_of(source: str | Path) -> str:
    """Return how an image is to be read: `s3`, `http`, `https`, `file` or `path`.

    Raises:
        InvalidInput: It is none of these.
    """
    scheme = _SCHEME.match(source) if isinstance(source, str) else None
    named = scheme[1].lower() if scheme else "path"
    if named in ("path", *_SCHEMES):
        return named
    if Path(source).exists():
        return "path"  # a file whose name has a colon in it
    if named == "data":
        refuse_image("An image cannot be given as a data: URL. Decode it into a file, and name that.")
    refuse_image(f"An image cannot be read from {named}:. Name a path, https://… or s3://bucket/key.")


def read_image_file(source: str | Path) -> bytes:
    """Return the bytes of a file on this machine, named by its path or by `file://`.

    Raises:
        InvalidInput: There is none, or it cannot be read, or it is too large.
    """
    return _read_file(path_of(source))


def check_image_file(source: str | Path) -> None:
    """Check an image that is a file on this machine, before anything else is done; others are not read.

    Raises:
        InvalidInput: There is none, or it is not an image that the service would accept.
    """
    if scheme_of(source) in ("file", "path"):
        inspect_image(read_image_file(source))


def check_image_size(size_bytes: int) -> None:
    """Raise `InvalidInput` for more bytes than an image may have."""
    if size_bytes > MAX_IMAGE_BYTES:
        refuse_image(f"The image has more than {MAX_IMAGE_BYTES:,} bytes. Make it smaller.")


def path_of(source: str | Path) -> Path:
    """Return the path of a file on this machine, named by its path or by `file://`.

    Raises:
        InvalidInput: The URL names another machine.
    """
    if scheme_of(source) != "file":
        return Path(source)
    parts = urlsplit(str(source))
    if parts.netloc not in ("", "localhost"):
        refuse_image("A file:// URL names a file on this machine: file:///folder/image.png.")
    return Path(url2pathname(parts.path))


def _read_file(path: Path) -> bytes:
    try:
        path = path.expanduser()
        if path.is_dir():
            refuse_image(f"{path} is a folder. Name the image in it.")
        if not path.is_file():
            refuse_image(f"There is no file {path}. Check the path, and the machine that this runs on.")
        with path.open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        refuse_image(f"{path} cannot be read: {error}.")
    check_image_size(len(data))
    return data
