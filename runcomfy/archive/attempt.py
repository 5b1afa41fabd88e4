"""One attempt to archive one output file, in a thread: what exists, the bytes, the poster, and the provenance last."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from typing import NamedTuple
from urllib.parse import urlsplit

from runcomfy.archive.place import Kept, Place
from runcomfy.archive.receive import Arrived, arrive, decoding, early_kind, warnings_of
from runcomfy.archive.signing import has_mark, recognised, signed
from runcomfy.archive.temporary_file import Digest, Room, ScratchFile, folder
from runcomfy.archive.transfer import TransferStop, fetch_object, receive
from runcomfy.content_credentials import Signing
from runcomfy.download.hosts import HostPolicy
from runcomfy.download.stream import Download, RetryBudget, open_url
from runcomfy.errors import (
    ArchiveConflict,
    DownloadError,
    RunComfyError,
    StorageError,
    StoreUnavailable,
    TemporaryFileError,
    UnexpectedContent,
)
from runcomfy.media.kinds import SNIFF_BYTES, MediaKind, by_name, sniff
from runcomfy.media.mark_places import bytes_of, with_mark
from runcomfy.media.marking import DIGITAL_SOURCE_TYPE, ai_box, ai_packet
from runcomfy.media.quality import Judged, judge
from runcomfy.media.validation import OutputValidation
from runcomfy.storage.keys import KeyTemplate
from runcomfy.storage.store import ObjectFacts, Store
from runcomfy.storage.upload import Body
from runcomfy.values import ArchivedVideo, GenerationFacts

__all__ = ["Archiving"]

_ROOM = Room()


class _Refused(NamedTuple):
    """An upload that the store refused, because an object exists at the key."""

    key: str
    existing: ObjectFacts


class Archiving:
    """One call of `archive_output`, in its thread."""

    def __init__(
        self,
        url: str,
        index: int,
        facts: GenerationFacts,
        store: Store,
        hosts: HostPolicy,
        template: KeyTemplate,
        validation: OutputValidation | None,
        retry_budget: RetryBudget,
        mark: bool,
        room: Room = _ROOM,
        signing: Signing | None = None,
        contact_sheet: bool = False,
        set_aside: bool = False,
    ) -> None:
        self._url, self._index, self._facts, self._store = url, index, facts, store
        self._hosts, self._retry_budget, self._mark, self._room = hosts, retry_budget, mark, room
        self._signing = signing
        self._sheet, self._set_aside = contact_sheet, set_aside
        self._place = Place(index, facts, store, template, validation, urlsplit(url).hostname or "")
        self._stop = TransferStop()
        self._downloads: list[Download] = []
        self._absent = set[str]()
        self._found: dict[Digest, tuple[str, bool]] = {}
        self.opened = threading.Event()
        """Set once the store may be used. A thread that is stopped before that does nothing more."""

    def stop(self) -> None:
        """Ask the thread, from another one, to abandon what is not complete."""
        self._stop.set()
        for download in self._downloads:
            download.unblock()

    def run(self) -> ArchivedVideo:
        """Archive the file; blocks.

        Raises:
            Stopped: `stop` was called.
        """
        self._stop.check()
        try:
            try:
                return self._download(alone=False)
            except TemporaryFileError as error:
                if not error.is_shared:
                    raise
            return self._download(alone=True)  # the disk was full, and other files were on it too
        except RunComfyError as error:
            error.request_id = error.request_id or self._facts.request_id
            error.output_index = self._index
            raise

    def _download(self, *, alone: bool) -> ArchivedVideo:
        try:
            with open_url(self._url, self._hosts, retry_budget=self._retry_budget, packed=True) as download:
                self._downloads.append(download)
                self.opened.set()
                done = self._archive(download, alone)
        except (DownloadError, UnexpectedContent):
            self._stop.check()
            if (left := self._earlier_attempt()) is None:
                raise
            done = left
        if isinstance(done, ArchivedVideo):
            return done
        return self._adopt(done)

    def _earlier_attempt(self) -> ArchivedVideo | _Refused | None:
        """Find what an earlier attempt brought into the bucket: its host may not give the file twice."""
        try:
            return self._existing(self._place.alike() or ())
        except StorageError:
            return None  # the host's error is the one to report

    def _done(self, key: str, existing: ObjectFacts | None) -> ArchivedVideo | None:
        provenance = self._place.provenance(key)
        if provenance is not None and provenance.is_rejected:  # whether or not its file is still there
            return self._place.archived(key, provenance, already_archived=True)
        if existing is None or provenance is None:
            return None
        if existing.size_bytes != provenance.size_bytes:
            raise self._place.conflict(key, "its size is not the one in its provenance")
        return self._place.archived(key, provenance, already_archived=True)

    def _archive(self, download: Download, alone: bool) -> ArchivedVideo | _Refused:
        start = self._stop.read(download, SNIFF_BYTES)
        kind = early_kind(start, download, self._url)
        if (done := self._under_any_name(kind)) is not None:
            return done
        with self._room.file(download.length, check=self._stop.check, alone=alone) as file:
            try:
                with arrive(file, start, download, self._url, self._download_again, self._stop, self._sheet) as arrived:
                    done = self._existing(self._keys(arrived.kind)) if arrived.kind != kind else None
                    return done or self._store_it(arrived)
            except TemporaryFileError as error:
                if error.is_full and self._room.is_shared():
                    error.is_shared = True
                raise

    def _download_again(self, file: ScratchFile) -> Download:
        with open_url(self._url, self._hosts, retry_budget=self._retry_budget, packed=True) as download:
            self._downloads.append(download)
            receive(download, b"", file, self._stop)
            return download

    def _under_any_name(self, kind: MediaKind | None) -> ArchivedVideo | _Refused | None:
        """Search for this output as another kind of file too: its host may have sent that the last time."""
        keys, alike = self._keys(kind) if kind is not None else (), self._place.alike()
        if alike is None:
            return self._existing(keys)
        self._absent = set(keys) - set(alike)
        return self._existing(alike)

    def _keys(self, kind: MediaKind) -> tuple[str, str]:
        """Return where a file of this kind is, and where it is when it is set aside."""
        key = self._place.key(kind.extension)
        return key, self._place.aside(key)

    def _existing(self, keys: Iterable[str]) -> ArchivedVideo | _Refused | None:
        """Return what exists of this output: the first that is complete, or the first file without its provenance."""
        left: _Refused | None = None
        for key in keys:
            existing = self._store.head(key)
            if existing is None:
                self._absent.add(key)
            else:
                self._absent.discard(key)
            if (done := self._done(key, existing)) is not None:
                return done
            if left is None and existing is not None and self._place.is_ours(existing):
                left = _Refused(key, existing)
        return left

    def _store_it(self, arrived: Arrived) -> ArchivedVideo | _Refused:
        file, kind, judged, warnings = arrived
        key, aside = self._keys(kind)
        quality = self._place.judged(judged.facts, kind.content_type, judged.quality)
        is_bad = self._set_aside and quality.is_bad
        if is_bad and (done := self._existing((key,))) is not None:  # meanwhile another worker judged it differently
            return done
        box = ai_box(self._facts.model_id)
        source = file.digest
        candidates = [file.with_more(box), source]  # another version may have judged, and so marked, it differently
        full = "It is not marked as made by a model: this machine's disk was full."
        with ExitStack() as files:
            try:
                if judged.takes_another_box and self._mark:
                    file.write(box)
                elif (marked := self._marked(file, judged, files)) is not None:
                    candidates.insert(0, marked.digest)
                    file = marked if self._mark else file
            except TemporaryFileError:  # what was paid for is here, and the provenance says how it came about
                warnings += (full,) if self._mark else ()
            is_marked = file.digest != source
            file, by, unsigned = signed(
                self._signing, file, kind.content_type, self._facts, self._index, source, self._store, files, self._stop
            )
            stored = file.digest
            candidates = [stored, *candidates] if by else candidates
            self._place.recognise = lambda at: self._recognised(at, kind, source)
            key = self._chosen(key, aside, candidates, is_bad=is_bad)
            created = self._store.put_file(
                key, Body(file.file, 0, file.size_bytes, file.crc, self._stop.check),
                content_type=kind.content_type, metadata=self._place.metadata(stored, source, by),
                known_absent=key in self._absent,
            )  # fmt: skip
        if not created:
            existing = self._store.head(key)
            if existing is not None and self._place.is_ours(existing):
                return _Refused(key, existing)
        if not created:
            stored = self._place.compare(key, candidates, self._stop)
            by, is_marked = self._found.get(stored, (by if stored == candidates[0] else None, is_marked))
        kept = Kept(
            kind,
            judged.facts,
            (*warnings, *unsigned),
            stored,
            source.sha256,
            judged.quality,
            by,
            is_marked if by else None,
            judged.sheet,
        )
        return self._place.commit(key, kept, judged.image, candidates=candidates, stop=self._stop, created=created)

    def _chosen(self, key: str, aside: str, candidates: Collection[Digest], *, is_bad: bool) -> str:
        """Return where the file goes: where it is already, on a store that keeps no metadata, or by its verdict."""
        if key not in self._absent or aside in self._absent:
            return aside if is_bad and key in self._absent else key
        try:
            self._place.compare(aside, candidates, self._stop)
        except (ArchiveConflict, StoreUnavailable):
            return aside if is_bad else key
        return aside

    def _marked(self, file: ScratchFile, judged: Judged, files: ExitStack) -> ScratchFile | None:
        """Return the file with the mark around its media data, where it has a place for it and is whole."""
        if judged.takes_another_box or judged.missing or judged.damage:
            return None
        packet = ai_packet(self._facts.model_id)
        pieces = with_mark(file.file, file.size_bytes, judged.facts.container, packet, DIGITAL_SOURCE_TYPE)
        if pieces is None:
            return None
        marked = files.enter_context(ScratchFile(folder()))
        for part in bytes_of(file.file, pieces):
            self._stop.check()
            marked.write(part)
        return marked

    def _recognised(self, key: str, kind: MediaKind, source: Digest) -> Digest | None:
        """Return the digest of an object that another attempt signed, on a store that keeps no metadata."""
        existing = self._store.head(key)
        if existing is None:
            return None
        with ScratchFile(folder()) as file:  # not one that waits for room: the file that is held would be in its way
            fetch_object(self._store, key, file, self._stop)
            by = recognised(file, kind.content_type, self._facts, self._index, source.sha256)
            if by is None:
                return None
            self._found[file.digest] = by, has_mark(file, self._facts.model_id)
            return file.digest

    def _adopt(self, found: _Refused) -> ArchivedVideo:
        """Complete what an earlier attempt, or another worker, left: by the object's metadata, not by the host."""
        key, existing = found
        with self._room.file(existing.size_bytes, check=self._stop.check) as file:
            fetch_object(self._store, key, file, self._stop)
            source_sha256 = self._place.source_sha256(existing, file.digest)
            file.file.seek(0)
            kind = sniff(file.file.read(SNIFF_BYTES)) or by_name(key, existing.content_type)
            judged = judge(file.file, file.size_bytes, kind, decoding(self._stop, self._sheet))
            by = self._place.signed_by(existing)
            marked = has_mark(file, self._facts.model_id) if by else None
            kept = Kept(
                kind,
                judged.facts,
                warnings_of(judged),
                file.digest,
                source_sha256,
                judged.quality,
                by,
                marked,
                judged.sheet,
            )
            return self._place.commit(key, kept, judged.image, candidates=[file.digest], stop=self._stop, created=False)
