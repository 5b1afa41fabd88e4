"""Look after what nobody waits for: the journal's open generations, and what is left over in the bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from prefect import get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.journal import OPEN, EntryState, Finding, look_after, watched_entries
from runcomfy.sweeping import Swept, sweep
from tasks.artifacts import show
from tasks.events import tell_event
from tasks.journal_page import journal_page, summed_up
from tasks.retrying import worth_retrying
from tasks.telemetry import found_late

__all__ = ["look_over_journal", "report_findings", "sweep_store"]

_AT_ONCE = 8


@task(task_run_name="look over the journal", retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def look_over_journal(
    credentials: RunComfyCredentials, store: MediaStore, *, abandoned_after_seconds: float
) -> list[Finding]:
    """Find out where every open generation is, and tell the journal.

    Args:
        credentials: The account that the requests belong to.
        store: The bucket with the journal.
        abandoned_after_seconds: A submitted request whose entry has not moved for so long is looked at.

    Returns:
        What was found of each generation that is open, or was until now.

    Raises:
        AuthenticationError: the service refuses the token.
        StorageError: the journal could not be read or written.
    """
    journal, logger = store.get_journal(), get_run_logger()
    here = store.get_store().uri(store.get_store().prefix)
    found = [version for version in await watched_entries(journal) if version.entry.store in ("", here)]
    gate = asyncio.Semaphore(_AT_ONCE)
    async with credentials.get_client() as client:

        async def look(number: int) -> Finding:
            async with gate:
                return await look_after(
                    client, journal, found[number], abandoned_after=timedelta(seconds=abandoned_after_seconds)
                )

        findings = await asyncio.gather(*map(look, range(len(found))))
    for before, finding in zip(found, findings, strict=True):
        found_late(before.entry.state, finding)
        _tell_of_end(before.entry.state, finding, store)
        if finding.news:
            level = logger.warning if finding.needs_person else logger.info
            level("Generation %s is %s: %s", finding.entry.generation_key[:12], finding.entry.state, finding.news)
    return [finding for finding in findings if finding.news or finding.entry.state in OPEN]


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
