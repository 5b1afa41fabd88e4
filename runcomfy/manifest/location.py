"""Where a manifest is: its bytes, its format, and the images that it names relative to itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn

from runcomfy.errors import InvalidInput
from runcomfy.manifest.foreign import NOT_READ
from runcomfy.manifest.rows import ManifestFormat
from runcomfy.redaction import redact
from runcomfy.storage.store import Store

__all__ = ["MAX_MANIFEST_BYTES", "Location", "locate", "refuse_manifest", "within_memory"]

MAX_MANIFEST_BYTES = 100_000_000

_FORMATS: dict[str, ManifestFormat] = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".xlsx": "xlsx", ".xlsm": "xlsx",
}  # fmt: skip
_OBJECT = re.compile(r"s3://([^/]+)/(.+)", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://|(data):", re.IGNORECASE)  # two letters at least: C:// is a path
_IMAGE_SCHEMES = ("s3", "http", "https", "file")


@dataclass(frozen=True)
class Location:
    """The place of a manifest, and the format that its extension names."""

    uri: str
    """For people: without secrets."""
    format: ManifestFormat
    path: Path | None
    """`None` for an object in S3."""
    bucket: str = ""
    key: str = ""

    def read(self, store: Store) -> bytes:
        """Return the file's bytes.

        Raises:
            InvalidInput: There is no such file, or it is empty, too large or not readable.
            StorageError: The store could not be read.
        """
        if self.path:
            return self.read_file()
        return self._whole(self._read_object(store))

    def read_file(self) -> bytes:
        """Return the bytes of a file of this machine; see `read`."""
        return self._whole(_read_file(self.path or Path(), self.uri))

    def _whole(self, data: bytes) -> bytes:
        if not data.strip():
            refuse_manifest(self.uri, "is empty. Check the program that wrote it.")
        return data

    def file(self, name: str, called: str = "a file") -> str:
        """Return the file that a row names; a relative name starts at the manifest's folder.

        Args:
            name: A path, `https://…` or `s3://bucket/key`.
            called: What it is, for the errors.

        Raises:
            ValueError: No file can be read there; the text says why.
        """
        if scheme := _SCHEME.match(name):
            named = (scheme[1] or scheme[2]).lower()
            if named not in _IMAGE_SCHEMES:
                raise ValueError(f"{called} cannot be read from {named}:; name a path, https://… or s3://bucket/key")
            if named != "file":
                return name
        absolute = bool(scheme) or name.startswith(("/", "~")) or bool(PureWindowsPath(name).drive)
        if self.path:
            return name if absolute else str(self.path.parent / name)
        if absolute:
            raise ValueError(
                "this is a file of one machine, and a manifest in S3 is read on any; upload it, and name it "
                "s3://bucket/key, or relative to the manifest"
            )
        return f"s3://{self.bucket}/{_beside(self.key, name)}"

    def _read_object(self, store: Store) -> bytes:
        found = store.head(self.key, self.bucket)
        if found is None:
            refuse_manifest(self.uri, "does not exist, or there is no such bucket. Check the name.")
        _check_size(self.uri, found.size_bytes)
        return store.read(self.key, self.bucket, limit_bytes=MAX_MANIFEST_BYTES)


def locate(source: str) -> Location:
    """Return where a manifest is: a path, or `s3://bucket/key`.

    Raises:
        InvalidInput: It is neither, or its extension is not that of a manifest.
    """
    uri = redact(source)
    extension = PurePosixPath(source).suffix.lower()
    kind = _FORMATS.get(extension)
    scheme = _SCHEME.match(source)
    found = _OBJECT.fullmatch(source)
    if scheme and found is None:
        refuse_manifest(uri, "cannot be read. A manifest is a file of this machine, or s3://bucket/key.")
    if kind is None and extension in NOT_READ:
        refuse_manifest(uri, NOT_READ[extension])
    if kind is None:
        refuse_manifest(
            uri, f"does not have the extension of a manifest: {', '.join(_FORMATS)}. Save it as one of these."
        )
    if found:
        return Location(uri, kind, None, found[1], found[2])
    try:
        return Location(uri, kind, Path(source).expanduser().absolute())
    except (OSError, RuntimeError) as error:
        refuse_manifest(uri, f"cannot be read: {error}.")


def refuse_manifest(uri: str, sentence: str) -> NoReturn:
    """Raise `InvalidInput` for a manifest as a whole."""
    raise InvalidInput(f"{uri} {sentence} Nothing was paid for.", violations=[("manifest", sentence)]) from None


@contextmanager
def within_memory(uri: str) -> Iterator[None]:
    """Refuse a manifest that this process has not the memory for, whichever library noticed.

    Raises:
        InvalidInput: The body ran out of memory.
    """
    # what the body held is free again before a sentence is made; an extension without memory may say SystemError
    with suppress(MemoryError, SystemError):
        yield
        return
    refuse_manifest(uri, "needs more memory than this process may use. Split it, or give the process more.")


def _read_file(path: Path, uri: str) -> bytes:
    try:
        if path.is_dir():
            refuse_manifest(uri, "is a folder. Name the manifest in it.")
        if not path.is_file():
            refuse_manifest(uri, "does not exist. Check the path, and the machine that this runs on.")
        _check_size(uri, path.stat().st_size)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        refuse_manifest(uri, f"cannot be read: {error}.")


def _check_size(uri: str, size_bytes: int) -> None:
    if size_bytes > MAX_MANIFEST_BYTES:
        refuse_manifest(uri, f"has {size_bytes:,} bytes; {MAX_MANIFEST_BYTES:,} are allowed. Split it.")


def _beside(key: str, name: str) -> str:
    # Not by a library for paths or URLs: a key may hold `?`, `#` and empty folders.
    parts = key.split("/")[:-1]
    for part in name.split("/"):
        if part == ".." and not parts:
            raise ValueError("this leads out of the bucket; check the number of ../")
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
