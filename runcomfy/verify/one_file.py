"""Check one archived file: its bytes against its provenance, and that against metadata, mark and journal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import BinaryIO

from runcomfy.archive.place import stored_sha256
from runcomfy.archive.provenance import Provenance
from runcomfy.archive.temporary_file import ScratchFile, folder
from runcomfy.content_credentials import read_credentials, statement_sha256
from runcomfy.content_credentials.reading import is_installed
from runcomfy.errors import StorageError
from runcomfy.journal import Entry, EntryState
from runcomfy.media.marking import ai_box
from runcomfy.media.poster import contact_sheet_key, poster_key
from runcomfy.storage.keys import aside_key, usual_key
from runcomfy.storage.store import Store
from runcomfy.verify.findings import Finding, Problem
from runcomfy.verify.listing import Group
from runcomfy.verify.looking import JournalReader, read_range

__all__ = ["Checked", "check_file"]

_MAX_PROVENANCE_BYTES = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_P = Problem


@dataclass(frozen=True)
class Checked:
    """What was found about one file."""

    findings: tuple[Finding, ...]
    is_ours: bool
    read_bytes: int = 0
    signature: bool | None = None
    """Whether its signature was checked; `None` if it is not signed."""


def check_file(store: Store, journal: JournalReader | None, group: Group, *, quick: bool) -> Checked:
    """Check a file and what is beside it. Blocks.

    Args:
        store: Where it is.
        journal: The journal, if there is one.
        group: What the listing has of it.
        quick: Whether its bytes are left unread, but for the mark at their end.

    Raises:
        StorageError: the store could not be read.
        TemporaryFileError: a signed file has no room on this machine.
    """
    document = _read(store, f"{group.key}.json") if group.has_provenance else None
    try:
        provenance = Provenance.from_json(document) if document is not None else None
    except ValueError:
        provenance = None
    if group.size_bytes is None:
        if provenance is None or (_may_go(provenance) and not _is_lost(store, group.key, provenance)):
            return Checked((), is_ours=False)
        gone = Finding(
            _P.FILE_MISSING, store.uri(group.key), "its provenance is there, and it is not", provenance.generation_key
        )
        return Checked((gone,), is_ours=True)
    if provenance is None:
        facts = store.head(group.key)
        if facts is None or stored_sha256(facts) is None:
            return Checked((), is_ours=False)
        if not group.has_provenance and store.head(f"{group.key}.json") is not None:  # written since it was listed
            complete = replace(
                group, has_provenance=True, has_poster=store.head(poster_key(group.key)) is not None,
                has_contact_sheet=store.head(contact_sheet_key(group.key)) is not None,
            )  # fmt: skip
            return check_file(store, journal, complete, quick=quick)
        problem = _P.PROVENANCE_UNREADABLE if group.has_provenance else _P.PROVENANCE_MISSING
        said = "it cannot be read" if group.has_provenance else "the file has none: it was not completed"
        if not group.has_provenance and store.head(f"{aside_key(store.prefix, group.key)}.json") is not None:
            said = "the file has none: its acceptance broke off. Accept it again"
        return Checked((Finding(problem, store.uri(f"{group.key}.json"), said),), is_ours=True)
    read = 0 if quick or group.size_bytes != provenance.size_bytes else group.size_bytes  # its size says enough
    try:
        bad = list(_against_bytes(store, group, provenance, quick=quick))
    except StorageError as error:
        if error.http_status != 404:
            raise
        bad = [Finding(_P.FILE_MISSING, store.uri(group.key), "it went away while the bucket was checked")]
    signature = (not quick and is_installed()) if provenance.signed_by else None
    is_kept = not _may_go(provenance)
    if provenance.poster_uri and not group.has_poster and is_kept:
        bad.append(Finding(_P.POSTER_MISSING, store.uri(poster_key(group.key)), "its provenance names it"))
    if provenance.contact_sheet_uri and not group.has_contact_sheet and is_kept:
        sheet = store.uri(contact_sheet_key(group.key))
        bad.append(Finding(_P.CONTACT_SHEET_MISSING, sheet, "its provenance names it"))
    if journal is not None and provenance.generation_key:
        bad += _against_journal(store, journal, group, provenance)
    named = [Finding(each.problem, each.uri, each.found, provenance.generation_key) for each in bad]
    return Checked(tuple(named), is_ours=True, read_bytes=read, signature=signature)


def _against_bytes(store: Store, group: Group, provenance: Provenance, *, quick: bool) -> Iterator[Finding]:
    uri = store.uri(group.key)
    if group.size_bytes != provenance.size_bytes:
        yield Finding(_P.SIZE_DIFFERS, uri, f"{group.size_bytes:,} bytes, not {provenance.size_bytes:,}")
        return
    box = ai_box(provenance.model_id) if _is_marked(provenance) else b""
    if quick:
        tail = read_range(store, group.key, -len(box)) if box else b""
    else:
        digest, tail = hashlib.sha256(), b""
        with ExitStack() as opened:
            is_signed = provenance.signed_by is not None and is_installed()
            copy = opened.enter_context(ScratchFile(folder())) if is_signed else None
            body = opened.enter_context(store.open(group.key))
            while piece := body.read(_READ_BYTES):
                digest.update(piece)
                tail = (tail + piece)[-len(box) :] if box else b""
                if copy is not None:
                    copy.write(piece)
            signature = list(_against_signature(uri, copy.file, provenance)) if copy is not None else []
        if digest.hexdigest() != provenance.sha256:
            yield Finding(_P.BYTES_DIFFER, uri, f"SHA-256 {digest.hexdigest()}, not {provenance.sha256}")
            return
        yield from signature
    if tail != box:
        yield Finding(
            _P.MARK_MISSING, uri, "its provenance says that the file is marked, and the mark is not at its end"
        )
    facts = store.head(group.key)
    named = stored_sha256(facts) if facts else None
    if named is not None and named != provenance.sha256:
        yield Finding(
            _P.METADATA_DIFFERS, uri, f"its metadata names SHA-256 {named}, its provenance {provenance.sha256}"
        )


def _against_signature(uri: str, file: BinaryIO, provenance: Provenance) -> Iterator[Finding]:
    found = read_credentials(file, provenance.content_type)
    if found is None:
        yield Finding(_P.SIGNATURE_MISSING, uri, f"its provenance says that {provenance.signed_by} signed it")
    elif not found.is_valid:
        yield Finding(_P.SIGNATURE_INVALID, uri, f"its signature does not hold: {', '.join(found.problems)}")
    elif (said := found.statement) is None:
        yield Finding(_P.SIGNATURE_DIFFERS, uri, f"it is signed by {found.signer}, and not with our statement")
    else:
        signed = (said.request_id, said.output_index, said.source_sha256, said.generation_sha256)
        known = (provenance.request_id, provenance.output_index, provenance.source_sha256, statement_sha256(provenance))
        if signed != known:
            yield Finding(_P.SIGNATURE_DIFFERS, uri, "ids, inputs or source are not those that were signed")


def _may_go(provenance: Provenance) -> bool:
    """Whether a file is one that was set aside and decided about: rejected, it may be deleted; accepted, it moves."""
    return provenance.set_aside and provenance.review is not None


def _is_lost(store: Store, key: str, provenance: Provenance) -> bool:
    """Whether a file that was accepted is in neither of its places; a rejected one may be gone."""
    return not provenance.is_rejected and store.head(usual_key(store.prefix, key)) is None


def _is_marked(provenance: Provenance) -> bool:
    return provenance.marked and provenance.content_type == "video/mp4"


def _against_journal(store: Store, journal: JournalReader, group: Group, provenance: Provenance) -> Iterator[Finding]:
    uri, key = store.uri(group.key), provenance.generation_key or ""
    entry = journal.entry(key)
    if entry is None:
        if not journal.is_unreadable(key):
            yield Finding(_P.NOT_IN_JOURNAL, uri, f"the journal has no generation {key[:12]}")
        return
    if entry.state is EntryState.ERASED:
        yield Finding(_P.ERASED_FOUND, uri, "its generation was erased: erase it again")
    elif provenance.request_id not in entry.request_ids:
        yield Finding(
            _P.PROVENANCE_DIFFERS, uri, f"the journal has no request {provenance.request_id} of its generation"
        )
    elif provenance.request_id == entry.request_id:
        yield from _of_current_request(uri, group, provenance, entry)


def _of_current_request(uri: str, group: Group, provenance: Provenance, entry: Entry) -> Iterator[Finding]:
    if entry.state is not EntryState.ARCHIVED or entry.archive is None:
        yield Finding(
            _P.NOT_ARCHIVED, uri, f"it is whole, and its generation is {entry.state}: `reconcile` collects it"
        )
        return
    known = {
        (video.sha256, video.size_bytes) for video in entry.archive.videos if video.index == provenance.output_index
    }
    if (provenance.sha256, provenance.size_bytes) not in known:
        yield Finding(_P.PROVENANCE_DIFFERS, uri, "size or SHA-256 are not those in the journal")


def _read(store: Store, key: str) -> bytes | None:
    try:
        return store.read(key, limit_bytes=_MAX_PROVENANCE_BYTES)
    except StorageError as error:
        if error.retryable or error.http_status not in (404, None):  # gone since it was listed, or far too large
            raise
        return None
