"""Keep the catalogue of everything that was made: on a schedule, or at once for anyone who cannot wait."""

from __future__ import annotations

from blocks import MediaStore
from runcomfy.catalogue import Update
from runcomfy.report.options import ReportSettings
from tasks.catalogue import report_catalogue, update_catalogue
from tasks.report import report_days
from tasks.runtime.flow import flow
from tasks.runtime.naming import fact, flow_name

__all__ = ["catalogue"]


@flow(
    name="catalogue",
    flow_run_name=flow_name(lambda given: f"catalogue-{fact(given['store'], 'bucket')}", otherwise="catalogue"),
)
async def catalogue(
    store: MediaStore,
    prompts: bool | None = None,
    everything: bool = False,
    report: ReportSettings | None = None,
) -> Update:
    """Bring the table of all generations up to date: Parquet files in the bucket, one a day, for any tool to query.

    Args:
        store: The bucket with the archive and its journal; the table is there too, in catalogue/generations/.
        prompts: Whether to write prompts as they are, or only their SHA-256. Empty: as the last time; at first they
            are written. To change this rewrites all rows.
        everything: Read everything again, not only what has changed since the last time.
        report: Settings of the pages, one for each of the last two changed days, below reports/ in the bucket. Empty:
            none is made.
    """
    found = await update_catalogue(store, prompts=prompts, everything=everything)
    await report_catalogue(found, store)
    if report is not None and found.days:
        await report_days(store, found.days, report)
    return found
