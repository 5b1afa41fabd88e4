"""Look after what nobody waits for: the journal's open generations, and what is left over in the bucket."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.client import RunComfyClient
from runcomfy.journal import (
    OPEN,
    DueIn,
    Entry,
    EntryState,
    Finding,
    Journal,
    Versioned,
    look_after,
    watched_entries,
    withdraw,
)
from runcomfy.polling.forecast import RunTimes
from runcomfy.polling.schedule import due_in
from runcomfy.sweeping import Swept, sweep
from tasks.abandoned import Known, cancelled_by_person, is_abandoned, known_of_runs, may_wait_too
from tasks.artifacts import show
from tasks.events import tell_event
from tasks.journal_page import journal_page, summed_up
from tasks.retrying import worth_retrying
from tasks.telemetry import found_late

__all__ = ["JournalLook", "look_over_journal", "report_findings", "sweep_store"]

_AT_ONCE = 8
_CANCELLED_RUN = "a person cancelled the run, whose process had ended by then"


@dataclass(frozen=True)
class JournalLook:
    """What a look over the journal found."""

    findings: list[Finding]
    """Of each generation that is open, or was until now."""
    trouble: Exception | None = None
    """Why Prefect did not say which runs have ended: then only what has not moved for long was looked at."""


@task(task_run_name="look over the journal", retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def look_over_journal(
    credentials: RunComfyCredentials, store: MediaStore, *, abandoned_after_seconds: float
) -> JournalLook:
    """Find out where every open generation is, and tell the journal; cancel what a person cancelled.

    What a run submitted that has ended, or waits to run again, is looked at without delay. A request whose run was
    cancelled by a person, and whose process was dead by then, is cancelled, unless its `on_interrupt` is "leave".

    Args:
        credentials: The account that the requests belong to.
        store: The bucket with the journal.
        abandoned_after_seconds: A submitted request whose entry has not moved for so long is looked at, where it is not
            known whether its run has ended.

    Raises:
        AuthenticationError: the service refuses the token.
        StorageError: the journal could not be read or written.
    """
    journal, logger = store.get_journal(), get_run_logger()
    here = store.get_store().uri(store.get_store().prefix)
    found = [version for version in await watched_entries(journal) if version.entry.store in ("", here)]
    known, trouble = await _known([version.entry for version in found])
    due = functools.partial(due_in, await RunTimes(journal).recall())
    gate = asyncio.Semaphore(_AT_ONCE)
    async with credentials.get_client() as client:

        async def look(version: Versioned) -> Finding:
            async with gate:
                finding = await look_after(
                    client,
                    journal,
                    version,
                    abandoned_after=timedelta(seconds=abandoned_after_seconds),
                    abandoned=is_abandoned(version.entry, known),
                    due_in=due,
                )
                return await _cancelled_for_person(client, journal, finding, known, due)

        findings = await asyncio.gather(*map(look, found))
    for before, finding in zip(found, findings, strict=True):
        found_late(before.entry.state, finding)
        _tell_of_end(before.entry.state, finding, store)
        if finding.news:
            level = logger.warning if finding.needs_person else logger.info
            level("Generation %s is %s: %s", finding.entry.generation_key[:12], finding.entry.state, finding.news)
    return JournalLook([each for each in findings if each.news or each.entry.state in OPEN], trouble)


async def _known(entries: Sequence[Entry]) -> tuple[Known, Exception | None]:
    try:
        return await known_of_runs(entries), None
    except Exception as error:  # whatever Prefect's client raises; what is old enough is looked at all the same
        get_run_logger().error("Prefect did not say which runs have ended (%s): %s", type(error).__name__, error)
        return Known({}), error


async def _cancelled_for_person(
    client: RunComfyClient, journal: Journal, finding: Finding, known: Known, due: DueIn
) -> Finding:
    """Do what the run's process would have done about its request, had it lived; one that is too late is looked at."""
    entry = finding.entry
    if finding.ready or finding.stuck or entry.request_id is None:
        return finding
    if not _nobody_wants(entry, known):
        return finding
    known, _ = await _known([entry])  # it may have been run again since all were read, or another run may want it
    if not _nobody_wants(entry, known):
        return finding
    await withdraw(client, journal, entry.generation_key, entry.request_id, reason=_CANCELLED_RUN)
    now = await journal.read(entry.generation_key)
    if now is None or now.entry.state is entry.state:
        return finding
    if now.entry.state is EntryState.DETACHED:
        finding = await look_after(client, journal, now, abandoned_after=timedelta(), abandoned=True, due_in=due)
        return finding if finding.news else replace(finding, news=now.entry.reason or _CANCELLED_RUN)
    return replace(finding, entry=now.entry, news=now.entry.reason or _CANCELLED_RUN, due=None)


def _nobody_wants(entry: Entry, known: Known) -> bool:
    return cancelled_by_person(entry, known, datetime.now(UTC)) and not may_wait_too(entry, known)


def _tell_of_end(before: EntryState, finding: Finding, store: MediaStore) -> None:
    """Tell whoever listens of an end that no run was there to see; what can be archived is told when it is."""
    entry = finding.entry
    if entry.state is before or entry.state in (EntryState.SUBMITTED, EntryState.ARCHIVED):
        return
    tell_event(
        entry.state,
        store,
        key=entry.generation_key,
        request_id=entry.request_id,
        model_id=entry.model_id,
        reason=entry.reason,
        error_type=entry.history[-1].error_type if entry.history else None,
    )


@task(task_run_name="sweep the bucket", retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def sweep_store(
    store: MediaStore,
    findings: Sequence[Finding],
    *,
    uploads_older_than: timedelta,
    images_older_than: timedelta | None,
) -> Swept:
    """Abort unfinished uploads and delete staged pictures that are old; what open generations need is kept.

    Raises:
        ConfigurationError: pictures would be deleted that may be in use.
        StorageError: the store refused.
    """
    keep = {finding.entry.image.key for finding in findings if finding.entry.image}
    swept = await asyncio.to_thread(
        sweep,
        store.get_store(),
        uploads_older_than=uploads_older_than,
        images_older_than=images_older_than,
        keep=keep,
        template=store.key_template(),
    )
    for what, keys in (("unfinished upload", swept.uploads), ("staged picture", swept.images)):
        if keys:
            get_run_logger().info("Removed %d %s(s): %s", len(keys), what, ", ".join(keys[:10]))
    return swept


@task(task_run_name="report", cache_policy=NO_CACHE)
async def report_findings(findings: Sequence[Finding], failures: dict[str, str], store: MediaStore) -> None:
    """Show on the run's page what was found, and what a person has to do."""
    await show(_page(findings, failures, store))


async def _page(findings: Sequence[Finding], failures: dict[str, str], store: MediaStore) -> None:
    page, said = journal_page(findings, failures, store), summed_up(findings)
    await acreate_markdown_artifact(page, key="runcomfy-journal", description=f"{said}.")
