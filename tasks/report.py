"""Write reports into the bucket, and link them on the run's page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date

from prefect import get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_UI_URL
from prefect.tasks import exponential_backoff

from blocks import MediaStore
from runcomfy.catalogue import Day
from runcomfy.errors import RunComfyError
from runcomfy.report.making import make_report, write_report
from runcomfy.report.options import ReportSettings, Selection
from runcomfy.report.reading import last_day
from runcomfy.storage.commands import shell_command
from runcomfy.storage.store import Store
from tasks.pages.artifacts import address, show
from tasks.pages.markdown import code
from tasks.runtime.hooks import worth_retrying

__all__ = ["report_days", "report_selection"]

_MOST_DAYS = 2


@task(
    task_run_name="write the report",
    retries=2,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
async def report_selection(store: MediaStore, selection: Selection, settings: ReportSettings) -> str:
    """Make the page of a selection, put it into the bucket, and return its URI.

    Args:
        store: The bucket with the catalogue and the archive.
        selection: Which generations.
        settings: How the page is made.

    Raises:
        ConfigurationError: there is no catalogue, or the libraries that render the page are not installed.
        StorageError: the catalogue could not be read, or the page could not be written.
    """
    (uri,) = await _written(store, [selection], settings)
    return uri


@task(task_run_name="write the reports of what is new", cache_policy=NO_CACHE)
async def report_days(store: MediaStore, days: Sequence[Day], settings: ReportSettings) -> list[str]:
    """Make the pages of the newest days that have changed, two at most, and return their URIs.

    It never fails the run: the table matters more, and the next change of the day, or the flow `report`, makes the page
    again.

    Args:
        store: The bucket with the catalogue and the archive.
        days: The days that were updated.
        settings: How the pages are made.
    """
    changed = sorted(day.day for day in days if day.written)[-_MOST_DAYS:]
    try:
        return await _written(store, [Selection(since=day, until=day) for day in changed], settings)
    except Exception as error:
        why = str(error) if isinstance(error, RunComfyError) else type(error).__name__
        get_run_logger().warning("There is no new report: %s", why)
        return []


async def _written(store: MediaStore, selections: Sequence[Selection], settings: ReportSettings) -> list[str]:
    """Write the pages one after the other, and link each in an artifact, without any signature."""
    bucket, uris = store.get_store(), []
    if settings.prefect_ui_url is None:
        settings = settings.model_copy(update={"prefect_ui_url": PREFECT_UI_URL.value()})
    newest = await asyncio.to_thread(last_day, bucket) if selections else None
    for selection in selections:
        uri, sentence, quality = await asyncio.to_thread(_write, bucket, selection, settings, newest, store.journal)
        get_run_logger().info("%s: %s", uri, sentence)
        page = address(bucket.bucket, uri.removeprefix(f"s3://{bucket.bucket}/"), bucket)
        again = shell_command("report", "--bucket", bucket.uri(bucket.prefix).rstrip("/"), "--open")
        judged = f"{quality}.\n\n" if quality else ""
        text = f"{sentence}.\n\n{judged}The page: [{code(uri)}]({page})\n\n"
        text += f"On your own machine, with videos that play: {code(again)}"
        await show(acreate_markdown_artifact(text, key="runcomfy-report", description=f"{sentence}."))
        uris.append(uri)
    return uris


def _write(
    store: Store, selection: Selection, settings: ReportSettings, newest: date | None, journal: str
) -> tuple[str, str, str]:
    made = make_report(store, selection, settings, journal=journal)
    return write_report(store, made, latest=made.is_day(newest)), made.sentence, made.figures.quality.sentence
