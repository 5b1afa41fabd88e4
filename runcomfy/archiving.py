"""Bring an output file into the bucket: exactly one whole, checked object with its provenance, whatever breaks.

The bytes stream from the output host into the store at constant memory. They are judged on the way, and the verdict
comes at the end of the stream but before the object becomes visible, so a bad file leaves nothing. The provenance is
written last and marks the object as done; a run that crashed in between is completed by repeating it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import anyio

from runcomfy._transfer import CheckedSource, Stopped, digest_object
from runcomfy.download import Download, Patience, open_url
from runcomfy.errors import ArchiveConflict, RunComfyError, StoreUnavailable, UnexpectedContent
from runcomfy.expectation import Expectation
from runcomfy.hosts import HostPolicy
from runcomfy.keys import KeyTemplate
from runcomfy.media import MediaChecker, describe, sniff
from runcomfy.provenance import PROVENANCE_CONTENT_TYPE, ArchivedVideo, GenerationFacts, Provenance, archiver_name
from runcomfy.store import ObjectFacts, Store

__all__ = [
    "ArchivedVideo",
    "Expectation",
    "GenerationFacts",
    "KeyTemplate",
    "Patience",
    "archive_output",
    "still_stands",
]

_DEFAULT_TEMPLATE = KeyTemplate()
_PATIENCE = Patience()
_SNIFF_BYTES = 4096
# Threads of their own: slow files must not hold up what else a process has to do, least of all a cancellation.
_TRANSFERS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="archive")
_MAX_PROVENANCE_BYTES = 16 * 1024 * 1024


async def archive_output(
    url: str,
    index: int,
    facts: GenerationFacts,
    store: Store,
    *,
    hosts: HostPolicy,
    template: KeyTemplate = _DEFAULT_TEMPLATE,
    expected: Expectation | None = None,
    patience: Patience = _PATIENCE,
) -> ArchivedVideo:
    """Copy one output file into the store, with its provenance, and return where it stands. May be repeated at will.

    A repetition finds the object and its provenance and reads no more than the first bytes of the file. Cancelling
    waits until the transfer has been undone, which is a matter of moments; what was complete by then stays.

    Args:
        url: Where the service says the file is. It is sent no token.
        index: Which of the request's outputs it is, from 0.
        facts: What is known of the generation; goes into the provenance.
        store: Where it goes.
        hosts: Where it may come from, redirects included.
        template: The key, under the store's prefix. The extension follows the content.
        expected: What was asked for; a file that is different is kept, with warnings.
        patience: How often a connection that breaks in the middle of the file is replaced, where the host allows it.

    Raises:
        DownloadError: The file could not be read to its end.
        UnexpectedContent: It is not a whole video or picture.
        HostNotAllowed: It is elsewhere than `hosts` allows.
        ArchiveConflict: Another object stands at its key; it was not touched.
        StorageError: The store refused or could not be reached.
        ConfigurationError: The template does not suit these facts.
    """
    archive = _Archive(url, index, facts, store, hosts, template, expected, patience)
    work = asyncio.get_running_loop().run_in_executor(_TRANSFERS, archive.run)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        archive.stop()
        # Prefect's time-outs cancel every further await; anyio's shield is what keeps them off.
        with anyio.CancelScope(shield=True):
            while archive.opened.is_set() and not work.done():
                with suppress(asyncio.CancelledError):  # once is enough: it is raised below
                    await asyncio.wait([work])
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise


def still_stands(videos: Sequence[ArchivedVideo], store: Store) -> bool:
    """Whether archived files and their provenance are where they were put; two small calls a file. Blocks.

    Raises:
        StorageError: The store refused or could not be reached.
    """
    for video in videos:
        standing = store.head(video.key, video.bucket)
        if standing is None or standing.size_bytes != video.size_bytes:
            return False
        if store.head(video.provenance_key, video.bucket) is None:
            return False
    return True


class _Archive:
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
    ) -> None:
        self._url = url
        self._index = index
        self._facts = facts
        self._store = store
        self._hosts = hosts
        self._template = template
        self._expected = expected or Expectation()
        self._patience = patience
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
        source.check(MediaChecker(kind, length_known=download.length is not None))
        created = standing is None and self._store.upload_stream(
            key, source, content_type=kind.content_type, length_bytes=download.length, looked=True
        )
        if not created:
            source.drain()
            self._compare(key, source)
        provenance = self._commit(key, kind.content_type, source)
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

    def _compare(self, key: str, source: CheckedSource) -> None:
        """Make sure that the object that stands there is the file that was read."""
        standing: ObjectFacts | None = self._store.head(key)
        if standing is None:
            raise StoreUnavailable(
                f"The store said that {self._store.uri(key)} is there, and then that it is not. Archive it again.",
                key=key,
            )
        if standing.size_bytes != source.size_bytes or digest_object(self._store, key, self._stopping) != source.sha256:
            raise self._conflict(key, "it is another file than this output")

    def _commit(self, key: str, content_type: str, source: CheckedSource) -> Provenance:
        """Write the provenance, or return the one that another worker wrote for the same bytes meanwhile."""
        if source.media is None:
            raise AssertionError("the file is judged before it is committed")
        warnings = self._expected.warnings(source.media) if content_type.startswith("video/") else ()
        provenance = Provenance(
            **{name: getattr(self._facts, name) for name in GenerationFacts.model_fields},
            uri=self._store.uri(key),
            output_index=self._index,
            source_host=urlsplit(self._url).hostname or "",
            sha256=source.sha256,
            size_bytes=source.size_bytes,
            content_type=content_type,
            media=source.media,
            warnings=warnings,
            archived_at=datetime.now(UTC),
            archiver=archiver_name(),
        )
        document = provenance.to_json()
        if not self._store.put_new(f"{key}.json", document, content_type=PROVENANCE_CONTENT_TYPE):
            other = self._read_provenance(key)
            if other is not None and other.sha256 == provenance.sha256:
                return other
            # It describes an object that somebody removed since, if ours is what stands there now. (Stores that do not
            # quite keep the condition let the last of several racing uploads win.)
            self._compare(key, source)
            self._store.put(f"{key}.json", document, content_type=PROVENANCE_CONTENT_TYPE)
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
            already_archived=already_archived,
        )

    def _conflict(self, key: str, reason: str) -> ArchiveConflict:
        return ArchiveConflict(
            f"Something stands at {self._store.uri(key)} already, and {reason}. It was left as it is: look at it, then "
            "move it away or archive under another key template.",
            key=key,
        )
