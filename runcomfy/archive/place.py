"""The place of one output in the bucket: its key, whether an existing object is this output, and its provenance."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote

from PIL import Image

from runcomfy.archive.provenance import PROVENANCE_CONTENT_TYPE, Provenance, archiver_name
from runcomfy.archive.temporary_file import Digest
from runcomfy.archive.transfer import TransferStop, digest_object
from runcomfy.errors import ArchiveConflict, StorageError, StoreUnavailable
from runcomfy.media.kinds import MediaKind
from runcomfy.media.marking import DIGITAL_SOURCE_TYPE
from runcomfy.media.poster import POSTER_CONTENT_TYPE, contact_sheet_key, poster, poster_key
from runcomfy.media.validation import OutputValidation
from runcomfy.media.verdict import with_differences
from runcomfy.storage.commands import StoreOptions, shell_command
from runcomfy.storage.keys import KeyTemplate, aside_key, is_aside
from runcomfy.storage.store import ObjectFacts, Store
from runcomfy.texts import prompt_of
from runcomfy.values import ArchivedVideo, GenerationFacts, MediaFacts, Quality

__all__ = ["METADATA", "Kept", "Place", "archived_as", "as_stored", "made_for", "stored_sha256"]

_MAX_PROVENANCE_BYTES = 16 * 1024 * 1024
_REQUEST, _INDEX, _GENERATION = "runcomfy-request-id", "runcomfy-output-index", "runcomfy-generation-key"
_SHA256, _SOURCE_SHA256, _SIGNED_BY = "runcomfy-sha256", "runcomfy-source-sha256", "runcomfy-signed-by"
METADATA = frozenset({_REQUEST, _INDEX, _GENERATION, _SHA256, _SOURCE_SHA256, _SIGNED_BY})
"""The names in the metadata of archived files; a copy of one has them too."""
_LONGEST_NAME = 256
_ANY = "anyextension"
_MOST_ALIKE = 100


class Kept(NamedTuple):
    """A file that is in the bucket, and what its provenance will say of it."""

    kind: MediaKind
    media: MediaFacts
    warnings: tuple[str, ...]
    stored: Digest
    source_sha256: str
    quality: Quality
    signed_by: str | None = None
    """Who signed it, if anybody did: then its bytes differ each time."""
    is_marked: bool | None = None
    """Whether the mark was added; where nothing is signed, that follows from the two digests."""
    sheet: bytes | None = None


class Place:
    """Where one output of a request is kept: at its usual key, or below `quarantine/` where it was set aside."""

    def __init__(
        self, index: int, facts: GenerationFacts, store: Store, template: KeyTemplate,
        validation: OutputValidation | None, source_host: str,
    ) -> None:  # fmt: skip
        self._index, self._facts, self._store, self._template = index, facts, store, template
        self._validation, self._host = validation or OutputValidation(), source_host
        self.recognise: Callable[[str], Digest | None] = lambda _: None
        """Whether the object at a key is this output though its bytes are none that are known, and which it has."""

    def key(self, extension: str) -> str:
        """Return the output's key, for a file with this extension."""
        inputs = self._facts.inputs or {}
        name = self._template.render(
            model=self._facts.model_id,
            request_id=self._facts.request_id,
            index=self._index,
            ext=extension,
            generation=self._facts.generation_key,
            prompt=prompt_of(inputs) or "",
            seed=self._facts.seed,
        )
        return self._store.key(name)

    def aside(self, key: str) -> str:
        """Return where the file with this key is when it is set aside."""
        return aside_key(self._store.prefix, key)

    def alike(self) -> list[str] | None:
        """Return the keys of this output with any extension, in both places; `None` if they cannot be found out.

        The usual ones come first. Of a file that was set aside, the provenance alone may be left. Where the extension
        comes early in the template, any number of other names may begin alike.
        """
        usual = self._listed("")
        aside = self._listed(self.aside("")) if usual is not None else None
        return [*usual, *aside] if usual is not None and aside is not None else None

    def _listed(self, folder: str) -> list[str] | None:
        start, _, end = self.key(_ANY).partition(_ANY)
        if not start.removeprefix(self._store.prefix).strip("/"):
            return None
        start = self.aside(start) if folder else start
        try:
            found = [each.key for each in itertools.islice(self._store.list(start), _MOST_ALIKE)]
        except StorageError:
            return None  # listing needs a permission that nothing else here needs
        if len(found) == _MOST_ALIKE:
            return None
        files = dict.fromkeys(key.removesuffix(".json") if folder else key for key in found)
        extensions = {key: key.removeprefix(start).removesuffix(end) for key in files}
        made = {key: self.key(each) for key, each in extensions.items() if each.isalnum()}
        return [key for key, usual in made.items() if key == (self.aside(usual) if folder else usual)]

    def judged(self, media: MediaFacts, content_type: str, quality: Quality) -> Quality:
        """Return the verdict on a file, with how it differs from what was asked for."""
        return with_differences(quality, self._validation.defects(media, content_type))

    def metadata(self, stored: Digest, source: Digest, signed_by: str | None = None) -> Mapping[str, str]:
        """Return the metadata by which an object is recognised without its provenance."""
        metadata = {
            _REQUEST: _named(self._facts.request_id), _INDEX: str(self._index),
            _SHA256: stored.sha256, _SOURCE_SHA256: source.sha256,
        }  # fmt: skip
        if signed_by is not None:
            metadata[_SIGNED_BY] = _named(signed_by)
        return metadata | ({_GENERATION: self._facts.generation_key} if self._facts.generation_key else {})

    def is_ours(self, existing: ObjectFacts) -> bool:
        """Whether an object is this output by its metadata, which older versions and some stores do not keep.

        Raises:
            ArchiveConflict: It is this request's, but was made for another generation.
        """
        metadata = {name.lower(): value for name, value in existing.metadata.items()}
        if (metadata.get(_REQUEST), metadata.get(_INDEX)) != (_named(self._facts.request_id), str(self._index)):
            return False
        self._check_generation(existing.key, metadata.get(_GENERATION))
        return _SHA256 in metadata and _SOURCE_SHA256 in metadata

    def source_sha256(self, existing: ObjectFacts, stored: Digest) -> str:
        """Return the source's digest of an object that is this output, after its bytes were read.

        Raises:
            ArchiveConflict: They are not what was stored.
        """
        metadata = {name.lower(): value for name, value in existing.metadata.items()}
        if metadata[_SHA256] != stored.sha256:
            raise self.conflict(existing.key, "its bytes are not those that were stored")
        return metadata[_SOURCE_SHA256]

    def signed_by(self, existing: ObjectFacts) -> str | None:
        """Return who signed an object that is this output, as its metadata says."""
        return unquote({name.lower(): value for name, value in existing.metadata.items()}.get(_SIGNED_BY, "")) or None

    def provenance(self, key: str) -> Provenance | None:
        """Return the provenance of the file at a key, if there is one.

        Raises:
            ArchiveConflict: It cannot be read, or belongs to another request, output or generation.
        """
        if self._store.head(f"{key}.json") is None:
            return None
        document = self._store.read(f"{key}.json", limit_bytes=_MAX_PROVENANCE_BYTES)
        try:
            provenance = Provenance.from_json(document)
        except ValueError:
            raise self.conflict(f"{key}.json", "this version cannot read it as a provenance") from None
        if (provenance.request_id, provenance.output_index) != (self._facts.request_id, self._index):
            raise self.conflict(f"{key}.json", "it belongs to another request or output")
        self._check_generation(key, provenance.generation_key)
        return provenance

    def compare(self, key: str, candidates: Iterable[Digest], stop: TransferStop) -> Digest:
        """Check, by its bytes, that an object is one of these files, and return which."""
        existing = self._store.head(key)
        if existing is None:
            raise StoreUnavailable(
                f"The store said that {self._store.uri(key)} exists, and then that it does not. Archive it again.",
                key=key,
            )
        same_size = [file for file in candidates if file.size_bytes == existing.size_bytes]
        digest = digest_object(self._store, key, stop) if same_size else None
        for file in same_size:
            if file == digest:
                return file
        if (found := self.recognise(key)) is not None:
            return found
        raise self.conflict(key, "it is another file than this output")

    def _put_poster(self, key: str, image: Image.Image | None, *, known_absent: bool) -> str | None:
        """Put a small image beside the file, and return its URI. A video without one is still good.

        There is none yet beside a file that was just created (`known_absent`).
        """
        made = poster(image) if image else None
        if made is None:
            return None
        try:
            self._store.put_new(poster_key(key), made, content_type=POSTER_CONTENT_TYPE, known_absent=known_absent)
        except StorageError:
            return None
        return self._store.uri(poster_key(key))

    def _put_sheet(self, key: str, sheet: bytes | None, *, known_absent: bool) -> str | None:
        """Put the contact sheet beside the file, and return its URI. A video without one is still good."""
        if sheet is None:
            return None
        place = contact_sheet_key(key)
        try:
            self._store.put_new(place, sheet, content_type=POSTER_CONTENT_TYPE, known_absent=known_absent)
        except StorageError:
            return None
        return self._store.uri(place)

    def commit(
        self,
        key: str,
        kept: Kept,
        image: Image.Image | None,
        *,
        candidates: Collection[Digest],
        stop: TransferStop,
        created: bool,
    ) -> ArchivedVideo:
        """Complete a file that is in the bucket: poster first, provenance last.

        Args:
            key: Where the file is.
            kept: What is known of it.
            image: Its first frame.
            candidates: What else the file may be, if another worker was faster.
            stop: Ends the work when it is set.
            created: Whether this call created it, so that there is nothing beside it yet.
        """
        poster_uri = self._put_poster(key, image, known_absent=created)
        sheet_uri = self._put_sheet(key, kept.sheet, known_absent=created)
        provenance = self._write(key, self._described(key, kept, poster_uri, sheet_uri), candidates, stop, created)
        provenance = self._settled(key, provenance, candidates, stop)
        return self.archived(key, provenance, already_archived=not created)

    def _described(self, key: str, kept: Kept, poster_uri: str | None, sheet_uri: str | None) -> Provenance:
        return Provenance(
            **{name: getattr(self._facts, name) for name in GenerationFacts.model_fields},
            uri=self._store.uri(key),
            output_index=self._index,
            source_host=self._host,
            sha256=kept.stored.sha256,
            size_bytes=kept.stored.size_bytes,
            content_type=kept.kind.content_type,
            media=kept.media,
            quality=self.judged(kept.media, kept.kind.content_type, kept.quality),
            set_aside=is_aside(self._store.prefix, key),
            warnings=(
                *self._validation.answer_warnings,
                *kept.warnings,
                *self._validation.warnings(kept.media, kept.kind.content_type),
            ),
            poster_uri=poster_uri,
            contact_sheet_uri=sheet_uri,
            digital_source_type=DIGITAL_SOURCE_TYPE,
            marked=kept.stored.sha256 != kept.source_sha256 if kept.is_marked is None else kept.is_marked,
            signed_by=kept.signed_by,
            source_sha256=kept.source_sha256,
            archived_at=datetime.now(UTC),
            archiver=archiver_name(),
        )

    def _write(
        self, key: str, provenance: Provenance, candidates: Iterable[Digest], stop: TransferStop, known_absent: bool
    ) -> Provenance:
        """Write the provenance, or return the one that another worker has just written for the same bytes."""
        document = provenance.to_json()
        if not self._store.put_new(
            f"{key}.json", document, content_type=PROVENANCE_CONTENT_TYPE, known_absent=known_absent
        ):
            other = self.provenance(key)
            if other is not None and other.sha256 == provenance.sha256:
                return other
            # It describes an object that was removed since, or replaced: stores with weak conditional writes let the
            # last of several racing uploads win, which may be marked differently.
            current = self.compare(key, candidates, stop)
            if other is not None and other.sha256 == current.sha256:
                return other
            marked = provenance.marked if provenance.signed_by else current.sha256 != provenance.source_sha256
            provenance = provenance.model_copy(update={**current._asdict(), "marked": marked})
            self._store.put(f"{key}.json", provenance.to_json(), content_type=PROVENANCE_CONTENT_TYPE)
        return provenance

    def _settled(
        self, key: str, provenance: Provenance, candidates: Collection[Digest], stop: TransferStop
    ) -> Provenance:
        """Write a signed file's provenance again for as long as it describes another worker's signature.

        On a store without conditional writes, or with weak ones, the last of several files stays, and so does the last
        of their provenances, which may be of another one. The worker that wrote the last provenance comes here next.
        """
        while provenance.signed_by and (existing := self._store.head(key)) is not None:
            named = stored_sha256(existing)
            current = Digest(existing.size_bytes, named) if named else self.compare(key, candidates, stop)
            if current.sha256 == provenance.sha256:
                break
            provenance = provenance.model_copy(update=current._asdict())
            self._store.put(f"{key}.json", provenance.to_json(), content_type=PROVENANCE_CONTENT_TYPE)
        return provenance

    def archived(self, key: str, provenance: Provenance, *, already_archived: bool) -> ArchivedVideo:
        """Return the archived file as its provenance describes it."""
        return archived_as(self._store, key, provenance, already_archived=already_archived)

    def conflict(self, key: str, reason: str) -> ArchiveConflict:
        """Return the error for an object that is not what should be there."""
        return ArchiveConflict(
            f"There is already an object at {self._store.uri(key)}, and {reason}. It was not changed: look at it, then "
            "move it away or archive under another key template.",
            key=key,
        )

    def _check_generation(self, key: str, other: str | None) -> None:
        """Refuse another generation's. A fetch by request id alone knows none, nor do some older provenances."""
        ours = self._facts.generation_key
        if ours is None or other is None or ours == other:
            return
        where = StoreOptions(self._store.uri(self._store.prefix), settings=self._store.settings).for_journal
        raise ArchiveConflict(
            f"RunComfy answered the submissions of two generations with one request id. Its video at "
            f"{self._store.uri(key)} was archived for generation {other}, and is not used for this one, {ours}. Both "
            "submissions were accepted, so both may be billed, and no video of this one is known. Look at the two with "
            f"`{shell_command('journal', 'show', ours, *where)}` and ask RunComfy about the request; "
            f"`{shell_command('journal', 'release', ours, *where)}` lets this one be paid for again.",
            key=key, generation_key=ours, other_generation_key=other,
        )  # fmt: skip


def made_for(existing: ObjectFacts, request_ids: Collection[str], generation_key: str) -> bool:
    """Whether an object says in its metadata that it is an output of one of these requests of a generation."""
    metadata = {name.lower(): value for name, value in existing.metadata.items()}
    is_its = metadata.get(_REQUEST) in {_named(request_id) for request_id in request_ids}
    return is_its and metadata.get(_GENERATION) in (None, generation_key)


def archived_as(store: Store, key: str, provenance: Provenance, *, already_archived: bool) -> ArchivedVideo:
    """Return the archived file at a key as its provenance describes it."""
    return ArchivedVideo(
        bucket=store.bucket,
        key=key,
        provenance_key=f"{key}.json",
        sha256=provenance.sha256,
        size_bytes=provenance.size_bytes,
        content_type=provenance.content_type,
        index=provenance.output_index,
        request_id=provenance.request_id,
        media=provenance.media,
        quality=provenance.quality,
        set_aside=provenance.set_aside,
        review=provenance.review,
        warnings=provenance.warnings,
        poster_key=poster_key(key) if provenance.poster_uri else None,
        contact_sheet_key=contact_sheet_key(key) if provenance.contact_sheet_uri else None,
        digital_source_type=provenance.digital_source_type,
        already_archived=already_archived,
    )


def as_stored(existing: ObjectFacts, described: Provenance) -> Provenance | None:
    """Return the provenance of an object that is the same output as a described one; `None` if it is another file.

    Its bytes may differ: another worker may have signed or marked what the service sent. Metadata says so.

    Args:
        existing: The object.
        described: The provenance of the other one.
    """
    metadata = {name.lower(): value for name, value in existing.metadata.items()}
    output = (metadata.get(_REQUEST), metadata.get(_INDEX), metadata.get(_SOURCE_SHA256))
    if output != (_named(described.request_id), str(described.output_index), described.source_sha256):
        return None
    if metadata.get(_GENERATION) not in (None, described.generation_key) or _SHA256 not in metadata:
        return None
    sha256, by = metadata[_SHA256], unquote(metadata.get(_SIGNED_BY, "")) or None
    if sha256 == described.sha256:
        return described
    return described.model_copy(
        update={
            "sha256": sha256, "size_bytes": existing.size_bytes, "signed_by": by,
            "marked": described.marked if by else sha256 != described.source_sha256,
        }
    )  # fmt: skip


def stored_sha256(existing: ObjectFacts) -> str | None:
    """Return the SHA-256 that an object's metadata names; `None` if it is not ours, or its store keeps no metadata."""
    metadata = {name.lower(): value for name, value in existing.metadata.items()}
    return metadata.get(_SHA256) if _REQUEST in metadata else None


def _named(text: str) -> str:
    """Return a name in a form that a header can hold."""
    quoted = quote(text, safe="")
    return quoted if len(quoted) <= _LONGEST_NAME else hashlib.sha256(text.encode()).hexdigest()
