"""Make a page of what was made, what it cost and how it went: for whoever wants to look at it."""

from __future__ import annotations

from prefect import flow

from blocks import MediaStore
from runcomfy.report.options import ReportSettings, Selection
from tasks.report import report_selection
from tasks.runtime.naming import fact, flow_name

__all__ = ["report"]


@flow(
    name="report", flow_run_name=flow_name(lambda given: f"report-{fact(given['store'], 'bucket')}", otherwise="report")
)
async def report(
    store: MediaStore, selection: Selection = Selection(), settings: ReportSettings = ReportSettings()
) -> str:
    """Write one HTML page of a day, or of any selection, into the bucket: gallery, costs, times, failures.

    Args:
        store: The bucket with the archive and its catalogue, of which the page is made: `catalogue` keeps that.
        selection: Which generations; the last day that the catalogue has, if nothing is said.
        settings: How the page is made: its bounds, a budget, and where the media is published.
    """
    return await report_selection(store, selection, settings)
