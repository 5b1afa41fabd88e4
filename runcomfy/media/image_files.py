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
_AROUND = " \t\r\n\"'<>`\u00a0\u201c\u201d"
_ADDRESS = re.compile(r"(?:https?|s3)://", re.IGNORECASE)
_WITHOUT_SCHEME = re.compile(r"(?:https?//|//|www\.)", re.IGNORECASE)
_LONGEST_NAME = 300  # characters, in a message


def scheme_of(source: str | Path) -> str:
    """Return how an image is to be read: `s3`, `http`, `https`, `file` or `path`.

    Raises:
        InvalidInput: It is none of these.
    """
    scheme = _SCHEME.match(source) if isinstance(source, str) else None
    named = scheme[1].lower() if scheme else "path"
    if named in _SCHEMES:
        return named
    if not str(source).strip(_AROUND):
        refuse_image("No image is named. Name a path, https://… or s3://bucket/key.")
    if _is_there(source):
        return "path"  # also a file whose name has a colon in it
    if named == "path":
        _check_written(str(source))
        return named
    if named == "data":
        refuse_image("An image cannot be given as a data: URL. Decode it into a file, and name that.")
    if named in ("s3a", "s3n"):
        refuse_image(f"An image cannot be read from {named}:, which is Hadoop's name for S3. Write s3://bucket/key.")
    if named == "arn":
        refuse_image("An image cannot be named by an ARN. Write s3://bucket/key.")
    refuse_image(f"An image cannot be read from {named}:. Name a path, https://… or s3://bucket/key.")


def _is_there(source: str | Path) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # too long a name, or one that no file can have
        return False


def _check_written(source: str) -> None:
    """Refuse what is neither a path nor a URL, but was nearly written as one.

    Raises:
        InvalidInput: It is an address with something around it, or without its scheme.
    """
    plain = source.strip(_AROUND)
    if plain != source and _ADDRESS.match(plain):
        refuse_image("The image's address has blanks, quotes or brackets around it. Write it without them.")
    if _WITHOUT_SCHEME.match(source):
        refuse_image(
            f"There is no file {_shown(source)}, and it is no whole URL. If it is one, write https:// in front of it."
        )


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
    shown = _shown(path)
    try:
        path = path.expanduser()
        if path.is_dir():
            refuse_image(f"{shown} is a folder. Name the image in it.")
        if not path.is_file():
            refuse_image(f"There is no file {shown}. Check the path, and the machine that this runs on.")
        with path.open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except PermissionError:
        refuse_image(f"{shown} may not be read. Let the user who runs this read it (chmod).")
    except (OSError, RuntimeError, ValueError) as error:  # its own text repeats the path, and has a number in it
        why = (error.strerror if isinstance(error, OSError) else None) or (
            "there is no such user" if isinstance(error, RuntimeError) else "no file can have this name"
        )
        refuse_image(f"{shown} cannot be read: {why}. Check the path.")
    check_image_size(len(data))
    return data


def _shown(path: str | Path) -> str:
    """Return a path for a message: short enough to be read, and without characters that no terminal shows."""
    text = str(path)
    text = text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME // 2]}…{text[-_LONGEST_NAME // 2 :]}"
