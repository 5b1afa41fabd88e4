"""Erase one generation: what is removed, in which order, and what remains.

The journal's entry becomes a tombstone first, so that nothing is made or collected again from here on; its words are
cut out of it last, since everything else is found by them. So it can be killed between any two writes and repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from runcomfy.erasure.documents import FOLDERS, NotCleaned, cleaned, needs_extra
from runcomfy.erasure.files import archived_objects, outputs_staged, staged_objects
from runcomfy.erasure.rows import blank_rows, has_catalogue
from runcomfy.erasure.traces import Traces
from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable
from runcomfy.generation.destination import Destination
from runcomfy.journal import OPEN, Entry, EntryState, Versioned
from runcomfy.journal.journal import Journal, worker_name
from runcomfy.redaction import strip_query
from runcomfy.storage.commands import shell_command
from runcomfy.storage.store import Store
from runcomfy.storage.versions import delete_for_good, delete_old, old_versions, read_old, why_unlisted

__all__ = ["Erasure", "ErasurePlan", "carry_out", "prepare"]

_LARGEST_BYTES = 512 * 1024 * 1024
_MOST_CONFLICTS = 20


@dataclass(frozen=True)
class ErasurePlan:
    """What would be removed of one generation."""

    found: Versioned
    destination: Destination = field(repr=False)
    files: tuple[str, ...]
    """What is deleted, `s3://bucket/key`: files, posters, provenances, staged inputs."""
    documents: tuple[str, ...]
    """What holds others too, and is written without it; a page for people is deleted."""
    left: dict[str, str]
    """What is left, by URI, and why."""
    out_of_reach: tuple[str, ...]
    """Where else it may be, one sentence each."""

    @property
    def entry(self) -> Entry:
        """The generation."""
        return self.found.entry


@dataclass(frozen=True)
class Erasure:
    """What was removed."""

    entry: Entry
    """What is left of the generation."""
    files: tuple[str, ...]
    documents: tuple[str, ...]
    left: dict[str, str]
    out_of_reach: tuple[str, ...]


async def prepare(destination: Destination, key: str) -> ErasurePlan:
    """Find what belongs to a generation; nothing is changed.

    Args:
        destination: The bucket whose journal has it.
        key: The generation, or at least eight digits of its key.

    Raises:
        ConfigurationError: there is no such generation, it is under way, or an extra is missing that a file needs.
        StorageError: the journal or the bucket could not be read.
    """
    found = await destination.journal.find(key)
    _refuse_open(found.entry, destination)
    there = destination.at(found.entry.store)
    used, unreadable = await _used_by_others(destination.journal, found.entry, there.store)
    return await asyncio.to_thread(_planned, there, found, used, unreadable)


def _planned(there: Destination, found: Versioned, used: Collection[str], unreadable: int) -> ErasurePlan:
    store, entry = there.store, found.entry
    why = why_unlisted(store)
    if entry.store in ("", there.uri):
        has_catalogue(store)
    archived = [each.uri for each in archived_objects(store, entry, there.template, versions=not why)]
    staged, left = staged_objects(store, entry, used)
    if unreadable and staged:
        reason = f"{unreadable} entries of the journal cannot be read, and may have it as their input"
        left |= {store.uri(key): reason for key in staged}
        staged = []
    traces, documents = Traces.of(entry), []
    for key in _documents(store):
        needs_extra(key)
        body = _read(store, key)
        try:
            if body is not None and cleaned(key, body, traces) is not body:
                documents.append(store.uri(key))
        except NotCleaned:
            left[store.uri(key)] = (
                "it names the generation, and cannot be read here: look at it, and delete it yourself"
            )
    return ErasurePlan(
        found, there, (*archived, *(store.uri(key) for key in staged)), tuple(documents), left,
        tuple(_out_of_reach(entry, why)),
    )  # fmt: skip


async def carry_out(plan: ErasurePlan) -> Erasure:
    """Remove what was found, and leave a tombstone in the journal.

    Raises:
        ConfigurationError: it has changed since.
        StorageError: the store refused something: the rest is removed, and the words stay in the journal until it is
            repeated.
    """
    there, journal = plan.destination, plan.destination.journal
    store, entry = there.store, plan.entry
    versions = not await asyncio.to_thread(why_unlisted, store)
    if entry.state is not EntryState.ERASED:
        marked = entry.moved(EntryState.ERASED, worker=worker_name(), reason="being erased by a person")
        if await journal.replace(plan.found, marked) is None:
            raise ConfigurationError(
                f"Generation {entry.generation_key[:12]} has changed in the meantime, and was not erased: check it "
                "again."
            )
        entry = marked
    used, unreadable = await _used_by_others(journal, entry, store)
    refused = await asyncio.to_thread(_remove, there, entry, () if not unreadable else None, used, versions=versions)
    if refused:
        raise StorageError(
            f"{len(refused)} objects of generation {entry.generation_key[:12]} could not be removed, the first "
            f"because: {refused[0].message} The rest is removed, and nothing is paid for again. Erase it again when "
            "that is fixed.",
            error_code=refused[0].error_code, generation_key=entry.generation_key, key=refused[0].key,
        )  # fmt: skip
    blank = await _blanked(journal, entry)
    await asyncio.to_thread(_forget_versions_of_entry, there, blank)
    rows = []
    if await asyncio.to_thread(has_catalogue, store):
        rows = await blank_rows(store, blank, versions=versions)
    documents = (*plan.documents, *map(store.uri, rows))
    return Erasure(blank, plan.files, documents, plan.left, plan.out_of_reach)


def _remove(
    there: Destination, entry: Entry, may_stage: tuple[()] | None, used: Collection[str], *, versions: bool
) -> list[StorageError]:
    """Delete what belongs to it, and cut it out of what does not; return what the store refused."""
    store, traces, refused = there.store, Traces.of(entry), list[StorageError]()

    def tried(work: Callable[[], None]) -> None:
        try:
            work()
        except StorageError as error:
            if error.retryable:
                raise
            refused.append(error)

    def delete(key: str, bucket: str) -> None:
        tried(lambda: delete_for_good(store, key, bucket, versions=versions))

    for key in _documents(store):
        tried(lambda key=key: _clean(store, key, traces))  # type: ignore[misc]  # it is called at once
    if versions:
        for folder in FOLDERS:
            for old in list(old_versions(store, store.key(folder))):
                if old.is_marker or old.size_bytes > _LARGEST_BYTES:
                    continue
                body = read_old(store, old, limit_bytes=_LARGEST_BYTES)
                if _is_of_it(old.key, body, traces):
                    tried(lambda old=old: delete_old(store, old))  # type: ignore[misc]
    if may_stage is not None:
        for key in staged_objects(store, entry, used)[0]:
            delete(key, store.bucket)
    for each in archived_objects(store, entry, there.template, versions=versions):
        delete(each.key, each.bucket)
    return refused


def _is_of_it(key: str, body: bytes, traces: Traces) -> bool:
    try:
        return cleaned(key, body, traces) is not body
    except NotCleaned:  # an old version, which nobody reads any more
        return True


def _clean(store: Store, key: str, traces: Traces) -> None:
    for _ in range(_MOST_CONFLICTS):
        found = store.read_version(key, limit_bytes=_LARGEST_BYTES)
        if found is None:
            return
        try:
            new = cleaned(key, found.body, traces)
        except NotCleaned:
            return  # the plan says so
        if new is found.body:
            return
        if new is None:
            store.delete(key)
            return
        facts = store.head(key)
        content_type = facts.content_type if facts else "application/octet-stream"
        if store.replace_if(key, new, etag=found.etag, content_type=content_type) is not None:
            return
    raise StoreUnavailable(f"Other writers came first {_MOST_CONFLICTS} times in a row at {store.uri(key)}.", key=key)


async def _blanked(journal: Journal, entry: Entry) -> Entry:
    """Cut the words out of the entry."""
    while True:
        found = await journal.find(entry.generation_key)
        if found.entry.state is not EntryState.ERASED:
            raise ConfigurationError(
                f"Generation {entry.generation_key[:12]} was released while it was erased. Erase it again if it still "
                "has to be."
            )
        blank = found.entry.blanked(worker=worker_name())
        if _is_blank(found.entry):
            return found.entry
        if await journal.replace(found, blank) is not None:
            return blank


def _is_blank(entry: Entry) -> bool:
    words = entry.inputs or entry.files or entry.archive or entry.variation or entry.flow_run
    return not words and not any(event.reason for event in entry.history[:-1])


def _forget_versions_of_entry(there: Destination, entry: Entry) -> None:
    """Delete what the bucket of the journal keeps of the entry's earlier versions."""
    store = there.journal_elsewhere() or there.store
    if why_unlisted(store):
        return
    for old in list(old_versions(store, store.key(f"journal/{entry.generation_key}.json"))):
        delete_old(store, old)


def _refuse_open(entry: Entry, destination: Destination) -> None:
    if entry.state not in OPEN:
        return
    show = shell_command("journal", "show", entry.generation_key[:12], *destination.options.for_journal)
    raise ConfigurationError(
        f"Generation {entry.generation_key[:12]} is {entry.state}: it may still be under way, and its files would "
        f"arrive after it was erased. Nothing was changed. End it first, as `{show}` says, or wait for it.",
        generation_key=entry.generation_key, request_id=entry.request_id,
    )  # fmt: skip


async def _used_by_others(journal: Journal, entry: Entry, store: Store) -> tuple[set[str], int]:
    """Return the staged files of this generation that others have too, and how many entries cannot be read."""
    mine, used, unreadable = {file.uri for file in entry.files}, set[str](), list[str]()
    mine |= {store.uri(key) for key in await asyncio.to_thread(outputs_staged, store, entry)}
    if mine:
        async for other in journal.entries(unreadable=unreadable.append):
            if other.entry.generation_key != entry.generation_key:
                used |= mine & {file.uri for file in other.entry.files}
    with suppress(ValueError):
        unreadable.remove(entry.generation_key)
    return used, len(unreadable)


def _documents(store: Store) -> list[str]:
    return [found.key for folder in FOLDERS for found in store.list(store.key(folder))]


def _read(store: Store, key: str) -> bytes | None:
    found = store.read_version(key, limit_bytes=_LARGEST_BYTES)
    return found.body if found else None


def _out_of_reach(entry: Entry, why_no_versions: str) -> Iterable[str]:
    run = entry.flow_run.get("id")
    yield (
        "Prefect's database: parameters, results, artifacts, events and logs of its flow runs"
        + (f", such as {run}" if run else "")
        + ". Delete the runs there."
    )
    yield "Logs of workers, terminals and collectors; traces and metrics."
    sources = sorted({strip_query(file.source) for file in entry.files})
    yield (
        "Manifests, images and sidecar files of your own"
        + (f", such as {', '.join(sources)}" if sources else "")
        + ", and what others have downloaded or replicated."
    )
    if entry.request_ids:
        yield f"RunComfy: its request {', '.join(entry.request_ids)}, with inputs and output files. Ask RunComfy."
    if why_no_versions:
        yield (
            f"Old versions of the bucket's objects, which cannot be listed here ({why_no_versions}): allow "
            "s3:ListBucketVersions and s3:DeleteObjectVersion, and erase it again, or let a rule of the bucket expire "
            "them."
        )
