"""An archived file and what is beside it: its copy to the usual place, its removal, and the two places it may be in.

A file that was set aside is below `quarantine/`, under its usual name. It counts until a whole one is at its usual
place. So a copy is made and completed first, and what is below `quarantine/` is deleted after that, its provenance
last.
"""

from __future__ import annotations

from runcomfy.archive.place import as_stored, stored_sha256
from runcomfy.archive.provenance import PROVENANCE_CONTENT_TYPE, Provenance
from runcomfy.archive.transfer import TransferStop, digest_object
from runcomfy.errors import ArchiveConflict
from runcomfy.media.poster import contact_sheet_key, poster_key
from runcomfy.storage.keys import usual_key
from runcomfy.storage.store import ObjectFacts, Store
from runcomfy.values import ArchivedVideo

__all__ = ["are_twins", "check_place_is_free", "copy_to_usual_place", "delete_copy", "read_provenance"]

MAX_PROVENANCE_BYTES = 16 * 1024 * 1024


def are_twins(store: Store, one: ArchivedVideo, other: ArchivedVideo) -> bool:
    """Whether two files are one output in its two places: set aside, and at its usual key."""
    same_bucket = one.bucket == other.bucket == store.bucket
    return same_bucket and usual_key(store.prefix, one.key) == usual_key(store.prefix, other.key)


def read_provenance(store: Store, key: str) -> tuple[Provenance, str] | None:
    """Return the provenance of the file at a key, with the tag of its version; `None` if there is none. Blocks.

    Raises:
        ArchiveConflict: it is no provenance that this version can read.
        StorageError: the store refused.
    """
    found = store.read_version(f"{key}.json", limit_bytes=MAX_PROVENANCE_BYTES)
    if found is None:
        return None
    try:
        return Provenance.from_json(found.body), found.etag
    except ValueError:
        raise _conflict(store, f"{key}.json", "this version cannot read it as a provenance") from None


def check_place_is_free(store: Store, key: str, described: Provenance) -> Provenance | None:
    """Check that nothing else is at the usual place of a file; return its provenance there if it is whole. Blocks.

    Args:
        store: Where it is.
        key: Its usual key.
        described: Its provenance.

    Raises:
        ArchiveConflict: another file, or a provenance of another one, is there.
        StorageError: the store refused.
    """
    there = read_provenance(store, key)
    existing = store.head(key)
    if there is not None and not _describe_one(there[0], described):
        raise _conflict(store, f"{key}.json", "it belongs to another request or output")
    if existing is None:
        return None
    if there is not None and existing.size_bytes == there[0].size_bytes:
        return there[0]
    _of_same_output(store, existing, described)
    return None


def copy_to_usual_place(store: Store, source: str, key: str, described: Provenance) -> None:
    """Copy a file with its poster and contact sheet, then write its provenance; nothing is overwritten. Blocks.

    Args:
        store: Where it is.
        source: Where it was set aside.
        key: Its usual key.
        described: The provenance as it is to be there.

    Raises:
        ArchiveConflict: another object is there.
        StorageError: the store refused.
    """
    original, existing = store.head(source), store.head(key)
    if original is not None and original.size_bytes != described.size_bytes:
        raise _conflict(store, source, "it is not the file that its provenance describes")
    if existing is None and not store.copy_new(source, key, known_absent=True):
        existing = store.head(key)
    if existing is not None:
        described = _of_same_output(store, existing, described)
    for beside, uri in ((poster_key, described.poster_uri), (contact_sheet_key, described.contact_sheet_uri)):
        if uri is not None and store.head(beside(source)) is not None:
            store.copy_new(beside(source), beside(key))
    if not store.put_new(f"{key}.json", described.to_json(), content_type=PROVENANCE_CONTENT_TYPE):
        there = read_provenance(store, key)
        if there is None or not _describe_one(there[0], described) or there[0].sha256 != described.sha256:
            raise _conflict(store, f"{key}.json", "it belongs to another file")


def delete_copy(store: Store, key: str) -> None:
    """Delete a file with what is beside it, its provenance last: a deletion that broke off is found by that. Blocks.

    Raises:
        StorageError: the store refused.
    """
    for each in (poster_key(key), contact_sheet_key(key), key, f"{key}.json"):
        store.delete(each)


def _describe_one(there: Provenance, described: Provenance) -> bool:
    """Whether two provenances are of one output."""
    ours, theirs = described.generation_key, there.generation_key
    same = (there.request_id, there.output_index) == (described.request_id, described.output_index)
    return same and (ours is None or theirs is None or ours == theirs)


def _of_same_output(store: Store, existing: ObjectFacts, described: Provenance) -> Provenance:
    """Return the provenance of an object that is the same output; where the store keeps no metadata, by its bytes."""
    if (found := as_stored(existing, described)) is not None:
        return found
    may_be = stored_sha256(existing) is None and existing.size_bytes == described.size_bytes
    if may_be and digest_object(store, existing.key, TransferStop()).sha256 == described.sha256:
        return described
    raise _conflict(store, existing.key, "it is another file than the one that was set aside")


def _conflict(store: Store, key: str, reason: str) -> ArchiveConflict:
    return ArchiveConflict(
        f"There is an object at {store.uri(key)}, and {reason}. It was not changed: look at it, and move it away; then "
        "decide again.",
        key=key,
    )
