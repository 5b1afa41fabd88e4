"""The images in a bucket's inbox, each with the sidecar files beside it; or the videos or sounds, for such a model."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from runcomfy.errors import ConfigurationError
from runcomfy.models.media_fields import MediaKind
from runcomfy.storage.keys import IMAGES, MEDIA, KeyTemplate
from runcomfy.storage.store import Store

__all__ = ["EXTENSIONS", "SIDECARS", "Found", "InboxImage", "Source"]

EXTENSIONS: Mapping[MediaKind, tuple[str, ...]] = {
    MediaKind.IMAGE: ("avif", "bmp", "gif", "heic", "heif", "jpeg", "jpg", "png", "tif", "tiff", "webp"),
    MediaKind.VIDEO: ("avi", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "webm"),
    MediaKind.AUDIO: ("aac", "flac", "m4a", "mp3", "oga", "ogg", "opus", "wav"),
}
"""By what they are taken for an arrival, before their content is looked at."""
SIDECARS = ("json", "txt")
"""The extensions of a sidecar, the one that takes precedence first."""
_DEFAULT_TEMPLATE = KeyTemplate()
_OWN = re.compile(
    rf"(?:{IMAGES}|{MEDIA})[0-9a-f]{{64}}\.[a-z0-9]+|quarantine/.*|journal/.*|batches/.*|catalogue/.*|reports/.*|"
    r"inbox/(?:[0-9a-f]{64}\.json|messages/.*)"
)
_BESIDE = re.compile(r"\.(?:json|(?:sheet\.)?jpg)\Z")
"""The ends of the keys of a file's provenance, poster and contact sheet, appended to its own."""


@dataclass(frozen=True)
class Found:
    """An object, as listed."""

    key: str
    etag: str
    size_bytes: int
    modified_at: datetime

    @property
    def stem(self) -> str:
        """The key without its extension: what an image shares with its sidecars."""
        return self.key.rpartition(".")[0]

    @property
    def extension(self) -> str:
        """The extension in lower case, without the dot; empty if there is none."""
        return self.key.rpartition("/")[2].rpartition(".")[2].lower() if self.stem else ""


@dataclass(frozen=True)
class InboxImage:
    """An image in the inbox, as it is now."""

    bucket: str
    object: Found
    sidecars: tuple[Found, ...] = ()
    """Those that exist, the one that takes precedence first."""
    purpose: str = ""
    """The model of the catalogue, and its input, that it is for; empty for image-to-video."""

    @property
    def uri(self) -> str:
        """The image as `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.object.key}"

    @property
    def identity(self) -> str:
        """A hash of this version of the image, of its sidecars, and of what it is for: 64 hexadecimal digits.

        The times are in it because other metadata, or the same bytes written again, leave an ETag as it was.
        """
        parts = [(found.key, found.etag, found.modified_at.isoformat()) for found in (self.object, *self.sidecars)]
        purpose = [self.purpose] if self.purpose else []  # as it was before there were others
        return hashlib.sha256(json.dumps([self.bucket, parts, *purpose]).encode()).hexdigest()


class Source:
    """Where images arrive: a folder of a bucket, without the objects that this project keeps there. All methods block.

    Args:
        uri: `s3://bucket`, or `s3://bucket/folder`.
        store: Its server and credentials reach the bucket; objects below its prefix may be our own.
        template: How our archived files are named.
        medium: What arrives there; files of other kinds are none of it.

    Raises:
        ConfigurationError: it is not such a URI.
    """

    def __init__(
        self, uri: str, store: Store, template: KeyTemplate = _DEFAULT_TEMPLATE, medium: MediaKind = MediaKind.IMAGE
    ) -> None:
        scheme, separator, rest = uri.strip().partition("://")
        self.bucket, _, folder = rest.partition("/")
        if scheme.lower() != "s3" or not separator or not self.bucket:
            raise ConfigurationError("The inbox is named s3://bucket, or s3://bucket/folder.")
        self.prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        self._store, self._template, self._extensions = store, template, EXTENSIONS[medium]
        self._purpose = ""

    def taking(self, medium: MediaKind, purpose: str = "") -> Source:
        """Return the same folder, where another kind of file arrives, or for another purpose.

        Args:
            medium: What arrives there.
            purpose: See `InboxImage`.
        """
        other = Source(self.uri, self._store, self._template, medium)
        other._purpose = purpose
        return other

    @property
    def uri(self) -> str:
        """The folder as `s3://bucket/folder/`."""
        return f"s3://{self.bucket}/{self.prefix}"

    def holds(self, bucket: str, key: str) -> bool:
        """Whether an object is in the inbox: below its prefix, and not one of those that we put there ourselves."""
        if bucket != self.bucket or not key.startswith(self.prefix):
            return False
        if bucket != self._store.bucket or not key.startswith(self._store.prefix):
            return True
        name = key.removeprefix(self._store.prefix)
        return not (_OWN.fullmatch(name) or self._template.matches(_BESIDE.sub("", name)))

    def images(self) -> list[InboxImage]:
        """Return every image, the oldest first; a call for each thousand objects.

        Raises:
            StorageError: the bucket could not be listed.
        """
        return self._images(self._listed(self.prefix))

    def images_of(self, key: str) -> list[InboxImage]:
        """Return the images that an arrival is about: the object itself, or those that it is a sidecar of.

        An empty list where it is neither, or where its image has not arrived yet or is gone.

        Raises:
            StorageError: the bucket could not be listed.
        """
        name, dot, extension = key.rpartition(".")
        extension = extension.lower()
        if not dot or extension not in (*self._extensions, *SIDECARS):
            return []
        around = self._images(found for found in self._listed(f"{name}.") if found.stem == name)
        return [image for image in around if extension in SIDECARS or image.object.key == key]

    def _listed(self, start: str) -> Iterator[Found]:
        for found in self._store.list(start, self.bucket):
            if self.holds(self.bucket, found.key):
                yield Found(found.key, found.etag, found.size_bytes, found.modified_at)

    def _images(self, objects: Iterable[Found]) -> list[InboxImage]:
        images: list[Found] = []
        sidecars: dict[str, list[Found]] = defaultdict(list)
        for found in objects:
            if found.extension in self._extensions:
                images.append(found)
            elif found.extension in SIDECARS:
                sidecars[found.stem].append(found)
        return [
            InboxImage(
                self.bucket,
                found,
                tuple(sorted(sidecars.get(found.stem, ()), key=lambda sidecar: SIDECARS.index(sidecar.extension))),
                self._purpose,
            )
            for found in sorted(images, key=lambda found: (found.modified_at, found.key))
        ]
