"""Update the catalogue, and show what is new in it on the run's page."""

from __future__ import annotations

from urllib.parse import quote

from prefect import get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from blocks import MediaStore
from runcomfy.catalogue import Day, Update
from tasks.pages.artifacts import show
from tasks.runtime.hooks import worth_retrying

__all__ = ["report_catalogue", "update_catalogue"]

_MOST_DAYS = 100


@task(
    task_run_name="update the catalogue",
    retries=2,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
async def update_catalogue(store: MediaStore, *, prompts: bool | None, everything: bool) -> Update:
    """Read what has changed in the journal and the archive, and replace the days that changed.

    Args:
        store: The bucket with the archive.
        prompts: Whether prompts are written as they are; `None`: as the last time.
        everything: Whether everything is read again.

    Raises:
        ConfigurationError: the store has no conditional writes, a later version wrote the catalogue, or the extra
            `parquet` is not installed.
        StorageError: the store or the journal could not be read or written.
    """
    from runcomfy.catalogue import update  # late: flows are loaded where the extra is not installed, too

    logger = get_run_logger()
    journal = None if store.journal == "none" else store.get_journal()
    found = await update(store.get_store(), journal, prompts=prompts, everything=everything)
    logger.info("%s: %s", found.table, found.sentence)
    for name in found.unreadable:
        logger.warning("%s cannot be read by this version, and is skipped until it can", name)
    return found


@task(task_run_name="report", cache_policy=NO_CACHE)
async def report_catalogue(found: Update, store: MediaStore) -> None:
    """Show the days that changed, each with its total counts and cost."""
    lines = [f"{found.sentence}. The table: {_link(found, store)}\n"]
    if found.days:
        lines += ["| day | generations | outcomes | USD | requests without cost |", "|---|---:|---|---:|---:|"]
        lines += [_line(day) for day in sorted(found.days, key=lambda day: day.day, reverse=True)[:_MOST_DAYS]]
    if len(found.days) > _MOST_DAYS:
        lines.append(f"\nThe last {_MOST_DAYS} of {len(found.days):,} days are shown.")
    if found.unreadable:
        lines.append(f"\n**{len(found.unreadable):,}** documents cannot be read by this version; the log names them.")
    await show(acreate_markdown_artifact("\n".join(lines), key="runcomfy-catalogue", description=f"{found.sentence}."))


def _line(day: Day) -> str:
    return f"| {day.day} | {day.rows:,} | {day.counted} | {day.cost_usd:.2f} | {day.requests_without_cost:,} |"


def _link(found: Update, store: MediaStore) -> str:
    """Return the table's folder: a link to the AWS console, or just its name if the store is another one."""
    bucket, _, key = found.table.removeprefix("s3://").partition("/")
    if store.get_store().endpoint_url is not None:
        return f"`{found.table}`"
    return f"[`{found.table}`](https://console.aws.amazon.com/s3/buckets/{bucket}?prefix={quote(key)})"
