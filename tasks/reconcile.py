"""The tasks of `reconcile`: check the journal's open generations, and remove garbage from the bucket."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from prefect import get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.doctor.drift import Drift, drift_of_pins
from runcomfy.generation import reconcile
from runcomfy.generation.reconcile import JournalCheck
from runcomfy.journal import Finding
from runcomfy.storage.garbage import Collected
from tasks.pages.artifacts import show
from tasks.pages.journal import journal_page, summed_up
from tasks.runtime.abandoned import FlowRuns
from tasks.runtime.hooks import open_service, worth_retrying

__all__ = ["look_over_journal", "look_over_pins", "report_findings", "sweep_store"]


@task(task_run_name="look over the journal", retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def look_over_journal(
    credentials: RunComfyCredentials, store: MediaStore, *, abandoned_after_seconds: float
) -> JournalCheck:
    """Find out the state of every open generation, and record it: `runcomfy.generation.reconcile.check_journal`."""
    async with open_service(credentials, store) as engine:
        return await reconcile.check_journal(engine, FlowRuns(), abandoned_after_seconds=abandoned_after_seconds)


@task(task_run_name="compare pinned models with the catalogue", cache_policy=NO_CACHE)
async def look_over_pins(credentials: RunComfyCredentials, store: MediaStore) -> list[Drift]:
    """Find out what the catalogue says otherwise of the pinned models: `runcomfy.doctor.drift.drift_of_pins`.

    Without an answer of the catalogue nothing is known of them, which is no failure.
    """
    async with open_service(credentials, store) as engine:
        return await drift_of_pins(engine.client, engine.journal)


@task(task_run_name="sweep the bucket", retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def sweep_store(
    store: MediaStore,
    findings: Sequence[Finding],
    *,
    uploads_older_than: timedelta,
    images_older_than: timedelta | None,
) -> Collected:
    """Abort old unfinished uploads and delete old staged images: `runcomfy.generation.reconcile.tidy_bucket`."""
    return await reconcile.tidy_bucket(
        store.destination(),
        findings,
        get_run_logger(),
        uploads_older_than=uploads_older_than,
        images_older_than=images_older_than,
    )


@task(task_run_name="report", cache_policy=NO_CACHE)
async def report_findings(
    findings: Sequence[Finding], failures: dict[str, str], store: MediaStore, drifts: Sequence[Drift] = ()
) -> None:
    """Show on the run's page what was found, and what a person has to do."""
    await show(_page(findings, failures, store, drifts))


async def _page(
    findings: Sequence[Finding], failures: dict[str, str], store: MediaStore, drifts: Sequence[Drift]
) -> None:
    page, summary = journal_page(findings, failures, store, drifts), summed_up(findings)
    await acreate_markdown_artifact(page, key="runcomfy-journal", description=f"{summary}.")
