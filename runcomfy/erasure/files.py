"""Find the objects of one generation: what was archived of each of its requests, and what was staged for it alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from runcomfy.archive.place import made_for
from runcomfy.archive.provenance import Provenance
from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.journal import Entry
from runcomfy.storage.garbage import STAGED_FILE
from runcomfy.storage.keys import IMAGES, MEDIA, QUARANTINE, RESERVED, KeyTemplate, safe_name
from runcomfy.storage.store import Store
from runcomfy.storage.versions import OldVersion, old_versions, read_old

__all__ = ["Archived", "archived_objects", "outputs_staged", "staged_objects"]

_MAX_PROVENANCE_BYTES = 16 * 1024 * 1024
_MOST_OUTPUTS = 100
_EXTENSION = re.compile(r"[a-z0-9]{1,12}")


@dataclass(frozen=True)
class Archived:
    """An object that belongs to a generation."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """The object as `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


def archived_objects(store: Store, entry: Entry, template: KeyTemplate, *, versions: bool) -> list[Archived]:
    """Return every file, poster and provenance of a generation, also of its earlier requests, provenances last. Blocks.

    The journal names the files of the request that it archived. Others have the request's id in their key, as every
    template demands, and say in metadata or provenance whose they are; a name alone does where a store keeps neither.

    Args:
        store: Where the archive is.
        entry: The generation.
        template: How archived files are named.
        versions: Whether old versions of objects can be listed, and so what was deleted a moment ago is found too.

    Raises:
        StorageError: the store could not be listed or read.
    """
    known = [video.key for video in entry.archive.videos] if entry.archive else []
    found = {
        key for key, old in _candidates(store, entry, known, versions=versions)
        if _is_named(store, key, known) or _is_of(store, key, entry, template, old)
    }  # fmt: skip
    objects = [Archived(store.bucket, key) for key in found]
    if entry.archive:
        elsewhere = [video for video in entry.archive.videos if video.bucket != store.bucket]
        for video in elsewhere:
            keys = [listed.key for listed in store.list(video.key, video.bucket)]
            objects += [
                Archived(video.bucket, key) for key in keys if key == video.key or key.startswith(f"{video.key}.")
            ]
    return sorted(objects, key=lambda each: (each.key.endswith(".json"), each.key))


def staged_objects(store: Store, entry: Entry, used: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """Return the keys of what was staged for a generation alone, and why the rest is left, by URI.

    Args:
        store: Where the archive is.
        entry: The generation.
        used: The URIs of staged files that other generations have.
    """
    alone, left = [], {}
    for file in entry.files:
        name = file.key.removeprefix(store.prefix)
        if file.bucket != store.bucket or not file.key.startswith(store.prefix) or not STAGED_FILE.fullmatch(name):
            left[file.uri] = "it is no file that was staged here"
        elif file.uri in used:
            left[file.uri] = "other generations have it as their input"
        else:
            alone.append(file.key)
    for key in outputs_staged(store, entry):
        if (uri := store.uri(key)) in used:
            left[uri] = "it is a file of this generation, and others have it as their input"
        elif key not in alone and uri not in left:
            alone.append(key)
    return alone, left


def outputs_staged(store: Store, entry: Entry) -> list[str]:
    """Return the keys of staged files that are what this generation made: somebody went on with it. Blocks.

    Raises:
        StorageError: the store could not be listed.
    """
    videos = entry.archive.videos if entry.archive else ()
    starts = [store.key(f"{folder}{video.sha256}.") for video in videos for folder in (IMAGES, MEDIA)]
    return [listed.key for start in starts for listed in store.list(start)]


def _candidates(
    store: Store, entry: Entry, known: list[str], *, versions: bool
) -> Iterator[tuple[str, OldVersion | None]]:
    """Yield each key of the archive that may be its, with an old version where the object itself is gone."""
    ids = {safe_name(request_id) for request_id in entry.request_ids}
    seen = set[str]()

    def may_be(key: str) -> bool:
        name = key.removeprefix(store.prefix)
        folder, slash, _ = name.partition("/")
        if slash and folder in RESERVED and f"{folder}/" != QUARANTINE:
            return False
        return any(each in name for each in ids) or _is_named(store, key, known)

    if not (ids or known):
        return
    for listed in store.list(store.prefix):
        if may_be(listed.key):
            seen.add(listed.key)
            yield listed.key, None
    for old in old_versions(store, store.prefix) if versions else ():
        if old.key not in seen and may_be(old.key):
            yield old.key, old


def _is_named(store: Store, key: str, known: list[str]) -> bool:
    """Whether a key is that of a file that the journal names, or of what is beside it; also if it was set aside."""
    name = key.removeprefix(store.prefix).removeprefix(QUARANTINE)
    names = [each.removeprefix(store.prefix).removeprefix(QUARANTINE) for each in known]
    return any(name == each or name.startswith(f"{each}.") for each in names)


def _is_of(store: Store, key: str, entry: Entry, template: KeyTemplate, old: OldVersion | None) -> bool:
    name = key.removeprefix(store.prefix).removeprefix(QUARANTINE)
    if _is_rendered(name, entry, template):
        return True
    if old is not None:
        return not old.is_marker and key.endswith(".json") and _describes(_read_old(store, old), entry)
    bases = [key, *(key[: at.start()] for at in re.finditer(r"\.", key))]
    for base in bases:
        if (facts := store.head(base)) is not None and made_for(facts, entry.request_ids, entry.generation_key):
            return True
        if store.head(f"{base}.json") is not None and _describes(_read(store, f"{base}.json"), entry):
            return True
    return False


def _is_rendered(name: str, entry: Entry, template: KeyTemplate) -> bool:
    """Whether a file of one of its requests has this name, or it is that of a poster or a provenance beside one."""
    extensions = [part for part in name.split(".")[1:] if _EXTENSION.fullmatch(part)]
    for request_id in entry.request_ids:
        for extension in dict.fromkeys(extensions):
            for index in range(_MOST_OUTPUTS):
                try:
                    made = template.render(
                        model=entry.model_id, request_id=request_id, index=index, ext=extension,
                        generation=entry.generation_key,
                    )  # fmt: skip
                except ConfigurationError:
                    return False
                if name == made or name.startswith(f"{made}."):
                    return True
    return False


def _describes(document: bytes, entry: Entry) -> bool:
    try:
        found = Provenance.from_json(document)
    except ValueError:
        return False
    return found.request_id in entry.request_ids and found.generation_key in (None, entry.generation_key)


def _read(store: Store, key: str) -> bytes:
    try:
        return store.read(key, limit_bytes=_MAX_PROVENANCE_BYTES)
    except StorageError as error:
        if error.retryable:
            raise
        return b""


def _read_old(store: Store, old: OldVersion) -> bytes:
    try:
        return read_old(store, old, limit_bytes=_MAX_PROVENANCE_BYTES)
    except StorageError as error:
        if error.retryable:
            raise
        return b""
