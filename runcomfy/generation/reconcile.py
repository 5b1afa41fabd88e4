"""Collect what no run waits for: poll the journal's open generations, archive what is finished, and tidy up."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from runcomfy.errors import OutputRejected, RunComfyError
from runcomfy.generation.destination import Destination
from runcomfy.generation.engine import Engine
from runcomfy.generation.hooks import Log, StateChange
from runcomfy.generation.phases import found_late
from runcomfy.journal import (
    OPEN,
    DueIn,
    Entry,
    EntryState,
    Finding,
    Versioned,
    cancel_or_detach,
    reconcile_entry,
    watched_entries,
)
from runcomfy.polling.schedule import due_in
from runcomfy.storage.garbage import Collected, collect_garbage, delete_probes
from runcomfy.values import ArchivedVideo

__all__ = [
    "JournalCheck",
    "KnownRuns",
    "Reconciliation",
    "check_journal",
    "collect",
    "need_a_person",
    "tidy_bucket",
]

_POLLING_AT_ONCE = 8
_ARCHIVING_AT_ONCE = 4
_CANCELLED_RUN = "a person cancelled the run, whose process had ended by then"


class Reconciliation(BaseModel):
    """What was found, collected and removed; generations by their keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    open: int
    """How many generations were open before this."""
    collected: dict[str, list[ArchivedVideo]]
    failures: dict[str, str]
    """Finished generations that could not be archived this time, and why."""
    need_a_person: dict[str, str]
    """Uncertain, expired and stuck generations, and what is known of each."""
    aborted_uploads: list[str]
    removed_images: list[str]
    freed_slots: dict[str, int] = {}
    """How many slots were freed that no run held any more, by the name of their limit."""
    next_look_at: datetime | None = None
    """When this runs again because something is due then; `None` if nothing is, or if nothing runs it again."""


class KnownRuns:
    """What is known of the runs that submitted generations: nothing, where no server keeps them."""

    trouble: Exception | None = None
    """Why it could not be found out: then only what has not changed for long is polled."""

    async def load(self, entries: Sequence[Entry]) -> None:
        """Find out about the runs that these entries name; if that fails, `trouble` says why."""

    def abandoned(self, entry: Entry) -> bool | None:
        """Whether the run of a generation is known not to be working; `None` if that is unknown."""
        return None

    async def unwanted(self, entry: Entry) -> bool:
        """Whether a person cancelled its run, intended to cancel the request too, and no other run waits for it."""
        return False


@dataclass(frozen=True)
class JournalCheck:
    """What a check of the journal found."""

    findings: list[Finding]
    """One for each generation that was open before this."""
    trouble: Exception | None = None
    """Why it is unknown which runs have ended: then only what has not changed for long was polled."""


async def check_journal(engine: Engine, runs: KnownRuns, *, abandoned_after_seconds: float) -> JournalCheck:
    """Find out the state of every open generation, and record it in the journal; cancel what a person cancelled.

    A request whose run has ended, or waits to run again, is polled without delay. A request whose run was cancelled by
    a person, and whose process was dead by then, is cancelled, unless its `on_interrupt` is "leave".

    Args:
        engine: The account that the requests belong to, and the bucket with the journal.
        runs: What is known of the runs.
        abandoned_after_seconds: A submitted request whose entry has not changed for this long is polled, if it is
            unknown whether its run has ended.

    Raises:
        AuthenticationError: the service refuses the token.
        StorageError: the journal could not be read or written.
    """
    here = engine.destination.uri
    found = [version for version in await watched_entries(engine.journal) if version.entry.store in ("", here)]
    await runs.load([version.entry for version in found])
    due = functools.partial(due_in, await engine.run_times.load())
    gate = asyncio.Semaphore(_POLLING_AT_ONCE)

    async def reconciled(version: Versioned) -> Finding:
        async with gate:
            finding = await reconcile_entry(
                engine.client,
                engine.journal,
                version,
                abandoned_after=timedelta(seconds=abandoned_after_seconds),
                abandoned=runs.abandoned(version.entry),
                due_in=due,
            )
            return await _cancelled_for_person(engine, finding, runs, due)

    findings = await asyncio.gather(*map(reconciled, found))
    for before, finding in zip(found, findings, strict=True):
        found_late(before.entry.state, finding, engine.hooks)
        _emit_end(before.entry.state, finding, engine)
        if finding.news:
            level = engine.hooks.log.warning if finding.needs_person else engine.hooks.log.info
            level("Generation %s is %s: %s", finding.entry.generation_key[:12], finding.entry.state, finding.news)
    return JournalCheck([each for each in findings if each.news or each.entry.state in OPEN], runs.trouble)


async def collect(
    findings: Sequence[Finding], archive_one: Callable[[Entry], Awaitable[list[ArchivedVideo]]]
) -> tuple[dict[str, list[ArchivedVideo]], dict[str, str]]:
    """Archive what is finished, a few at a time; the failure of one does not affect the others.

    Args:
        findings: What was found.
        archive_one: Archives the files of one generation's request.

    Returns:
        The files, by the generation's key; and of those that could not be archived, why.
    """
    gate, collected, failures = asyncio.Semaphore(_ARCHIVING_AT_ONCE), {}, {}

    async def archive(entry: Entry) -> None:
        async with gate:
            try:
                collected[entry.generation_key] = await archive_one(entry)
            except OutputRejected:
                pass  # a person had decided before the journal knew of the file; it does now, and nothing is left to do
            except RunComfyError as error:
                failures[entry.generation_key] = str(error)

    await asyncio.gather(*(archive(finding.entry) for finding in findings if finding.ready))
    return collected, failures


def need_a_person(findings: Sequence[Finding]) -> dict[str, str]:
    """Return what is known of each generation that does not continue by itself, by its key."""
    return {
        finding.entry.generation_key: finding.news or finding.entry.reason or str(finding.entry.state)
        for finding in findings
        if finding.needs_person
    }


async def tidy_bucket(
    destination: Destination,
    findings: Sequence[Finding],
    log: Log,
    *,
    uploads_older_than: timedelta,
    images_older_than: timedelta | None,
) -> Collected:
    """Abort unfinished uploads and delete staged images that are old; what open generations need is kept.

    Raises:
        ConfigurationError: images would be deleted that may be in use.
        StorageError: the store refused.
    """
    if journal := destination.journal_elsewhere():
        await asyncio.to_thread(delete_probes, journal, older_than=uploads_older_than)
    removed = await asyncio.to_thread(
        collect_garbage,
        destination.store,
        uploads_older_than=uploads_older_than,
        images_older_than=images_older_than,
        keep={file.key for finding in findings for file in finding.entry.files},
        template=destination.template,
    )
    for what, keys in (("unfinished upload", removed.uploads), ("staged image", removed.images)):
        if keys:
            log.info("Removed %d %s(s): %s", len(keys), what, ", ".join(keys[:10]))
    return removed


async def _cancelled_for_person(engine: Engine, finding: Finding, runs: KnownRuns, due: DueIn) -> Finding:
    """Cancel the request as the run's process would have done had it lived; poll it if that is too late."""
    entry, journal = finding.entry, engine.journal
    if finding.ready or finding.stuck or entry.request_id is None or not await runs.unwanted(entry):
        return finding
    await cancel_or_detach(engine.client, journal, entry.generation_key, entry.request_id, reason=_CANCELLED_RUN)
    now = await journal.read(entry.generation_key)
    if now is None or now.entry.state is entry.state:
        return finding
    if now.entry.state is EntryState.DETACHED:
        finding = await reconcile_entry(
            engine.client, journal, now, abandoned_after=timedelta(), abandoned=True, due_in=due
        )
        return finding if finding.news else replace(finding, news=now.entry.reason or _CANCELLED_RUN)
    return replace(finding, entry=now.entry, news=now.entry.reason or _CANCELLED_RUN, due=None)


def _emit_end(before: EntryState, finding: Finding, engine: Engine) -> None:
    """Emit an end that no run saw; what can be archived is emitted when it is archived."""
    entry = finding.entry
    if entry.state is before or entry.state in (EntryState.SUBMITTED, EntryState.ARCHIVED):
        return
    engine.hooks.changed(
        StateChange(
            entry.state,
            engine.destination.uri,
            key=entry.generation_key,
            request_id=entry.request_id,
            model_id=entry.model_id,
            reason=entry.reason,
            error_type=entry.history[-1].error_type if entry.history else None,
        )
    )
