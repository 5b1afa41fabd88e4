"""Make a page of what was made, what it cost and how it went."""

from __future__ import annotations

from blocks import MediaStore
from runcomfy.report.options import ReportSettings, Selection
from tasks.report import report_selection
from tasks.runtime.flow import flow
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
        store: The bucket with the archive and its catalogue, which the flow `catalogue` keeps: the page is made of it.
        selection: Which generations; by default, those of the last day in the catalogue.
        settings: How the page is made: its bounds, a budget, and where the media is published.
    """
    return await report_selection(store, selection, settings)
