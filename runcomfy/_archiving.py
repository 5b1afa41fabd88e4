"""One archiving of one output file, in a thread: what stands, the bytes, the poster, and the provenance last."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from urllib.parse import urlsplit

from runcomfy._transfer import CheckedSource, File, Stopped, digest_object
from runcomfy.download import Download, Patience, open_url
from runcomfy.errors import ArchiveConflict, RunComfyError, StorageError, StoreUnavailable, UnexpectedContent
from runcomfy.expectation import Expectation
from runcomfy.hosts import HostPolicy
from runcomfy.keys import KeyTemplate
from runcomfy.marking import DIGITAL_SOURCE_TYPE, ai_box
from runcomfy.media import MediaChecker, describe, sniff
from runcomfy.poster import POSTER_CONTENT_TYPE, poster, poster_key
from runcomfy.provenance import PROVENANCE_CONTENT_TYPE, ArchivedVideo, GenerationFacts, Provenance, archiver_name
from runcomfy.store import ObjectFacts, Store

__all__ = ["Archiving"]

_SNIFF_BYTES = 4096
_MAX_PROVENANCE_BYTES = 16 * 1024 * 1024


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
        expected: Expectation | None,
        patience: Patience,
        mark: bool,
    ) -> None:
        self._url = url
        self._index = index
        self._facts = facts
        self._store = store
        self._hosts = hosts
        self._template = template
        self._expected = expected or Expectation()
        self._patience = patience
        self._mark = mark
        self._stopping = threading.Event()
        self._download: Download | None = None
        self.opened = threading.Event()
        """Set once the store may be touched. A thread that was stopped earlier does nothing more."""

    def stop(self) -> None:
        """Ask the thread, from another one, to give up what is not complete."""
        self._stopping.set()
        if self._download is not None:
            self._download.unblock()

    def run(self) -> ArchivedVideo:
        """Do it all; blocks."""
        if self._stopping.is_set():
            raise Stopped
        try:
            with open_url(self._url, self._hosts, patience=self._patience) as download:
                self._download = download
                self.opened.set()
                return self._archive(download)
        except RunComfyError as error:
            error.facts.setdefault("request_id", self._facts.request_id)
            error.facts.setdefault("output_index", self._index)
            raise

    def _archive(self, download: Download) -> ArchivedVideo:
        source = CheckedSource(download, self._stopping)
        start = source.peek(_SNIFF_BYTES)
        kind = sniff(start)
        if kind is None:
            raise UnexpectedContent(
                f"The output host answered {describe(start)} (it says: {download.content_type or 'no type'}), "
                "not a video or a picture. Archive it again; if it stays so, look at the request's result."
            )
        key = self._key(kind.extension)
        standing = self._store.head(key)
        provenance = self._read_provenance(key)
        if standing and provenance:
            if standing.size_bytes != provenance.size_bytes:
                raise self._conflict(key, "its size is not the one that its provenance gives")
            return self._archived(key, provenance, already_archived=True)
        checker = MediaChecker(kind, length_known=download.length is not None)
        source.check(checker, box=ai_box(self._facts.model_id), add=self._mark)
        created = standing is None and self._store.upload_stream(
            key, source, content_type=kind.content_type, length_bytes=download.length, looked=True
        )
        if not created:
            source.drain()
        stands = source.file if created else self._compare(key, source)
        poster_uri = self._put_poster(key, checker, looked=created)
        alone = created and provenance is None  # nobody else has been at work on it
        provenance = self._commit(key, kind.content_type, source, stands, poster_uri, looked=alone)
        return self._archived(key, provenance, already_archived=not created)

    def _key(self, extension: str) -> str:
        inputs = self._facts.inputs or {}
        name = self._template.render(
            model=self._facts.model_id,
            request_id=self._facts.request_id,
            index=self._index,
            ext=extension,
            generation=self._facts.generation_key,
            prompt=str(inputs.get("prompt") or ""),
            seed=self._facts.seed,
        )
        return self._store.key(name)

    def _compare(self, key: str, source: CheckedSource) -> File:
        """Make sure that the object that stands there is the file that was read, and return it as it stands there."""
        standing: ObjectFacts | None = self._store.head(key)
        if standing is None:
            raise StoreUnavailable(
                f"The store said that {self._store.uri(key)} is there, and then that it is not. Archive it again.",
                key=key,
            )
        same_size = [file for file in (source.marked, source.came) if file and file.size_bytes == standing.size_bytes]
        digest = digest_object(self._store, key, self._stopping) if same_size else ""
        for file in same_size:
            if file.sha256 == digest:
                return file
        raise self._conflict(key, "it is another file than this output")

    def _put_poster(self, key: str, checker: MediaChecker, *, looked: bool) -> str | None:
        """Put a small picture beside the file, and return its URI. A video without one is still good.

        Beside a file that was created this moment (`looked`) there is none yet.
        """
        picture = poster(checker.picture) if checker.picture else None
        if picture is None:
            return None
        try:
            self._store.put_new(poster_key(key), picture, content_type=POSTER_CONTENT_TYPE, looked=looked)
        except StorageError:
            return None
        return self._store.uri(poster_key(key))

    def _commit(
        self, key: str, content_type: str, source: CheckedSource, stands: File, poster_uri: str | None, *, looked: bool
    ) -> Provenance:
        """Write the provenance, or return the one that another worker wrote for the same bytes meanwhile."""
        if source.media is None:
            raise AssertionError("the file is judged before it is committed")
        warnings = self._expected.warnings(source.media) if content_type.startswith("video/") else ()
        provenance = Provenance(
            **{name: getattr(self._facts, name) for name in GenerationFacts.model_fields},
            uri=self._store.uri(key),
            output_index=self._index,
            source_host=urlsplit(self._url).hostname or "",
            sha256=stands.sha256,
            size_bytes=stands.size_bytes,
            content_type=content_type,
            media=source.media,
            warnings=warnings,
            poster_uri=poster_uri,
            digital_source_type=DIGITAL_SOURCE_TYPE,
            marked=stands != source.came,
            source_sha256=source.came.sha256,
            archived_at=datetime.now(UTC),
            archiver=archiver_name(),
        )
        document = provenance.to_json()
        if not self._store.put_new(f"{key}.json", document, content_type=PROVENANCE_CONTENT_TYPE, looked=looked):
            other = self._read_provenance(key)
            if other is not None and other.sha256 == provenance.sha256:
                return other
            # It describes an object that somebody removed since, or that lost: stores that do not quite keep the
            # condition let the last of several racing uploads win, and that may be marked otherwise.
            stands = self._compare(key, source)
            if other is not None and other.sha256 == stands.sha256:
                return other
            marked = stands != source.came
            provenance = provenance.model_copy(update={**stands._asdict(), "marked": marked})
            self._store.put(f"{key}.json", provenance.to_json(), content_type=PROVENANCE_CONTENT_TYPE)
        return provenance

    def _read_provenance(self, key: str) -> Provenance | None:
        if self._store.head(f"{key}.json") is None:
            return None
        document = self._store.read(f"{key}.json", limit_bytes=_MAX_PROVENANCE_BYTES)
        try:
            provenance = Provenance.from_json(document)
        except ValueError:
            raise self._conflict(f"{key}.json", "it is not a provenance that this version can read") from None
        if (provenance.request_id, provenance.output_index) != (self._facts.request_id, self._index):
            raise self._conflict(f"{key}.json", "it belongs to another request or output")
        return provenance

    def _archived(self, key: str, provenance: Provenance, *, already_archived: bool) -> ArchivedVideo:
        return ArchivedVideo(
            bucket=self._store.bucket,
            key=key,
            provenance_key=f"{key}.json",
            sha256=provenance.sha256,
            size_bytes=provenance.size_bytes,
            content_type=provenance.content_type,
            index=self._index,
            request_id=self._facts.request_id,
            media=provenance.media,
            warnings=provenance.warnings,
            poster_key=poster_key(key) if provenance.poster_uri else None,
            digital_source_type=provenance.digital_source_type,
            already_archived=already_archived,
        )

    def _conflict(self, key: str, reason: str) -> ArchiveConflict:
        return ArchiveConflict(
            f"Something stands at {self._store.uri(key)} already, and {reason}. It was left as it is: look at it, then "
            "move it away or archive under another key template.",
            key=key,
        )
