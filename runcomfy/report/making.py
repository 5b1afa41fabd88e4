"""Make a report: read the catalogue's rows, count, draw, and put the page together; and put it into the bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from runcomfy.catalogue.values import Row
from runcomfy.extras import needed
from runcomfy.report.figures import Figures, causes, figures
from runcomfy.report.links import MediaLinks, below, beside_the_page, gone_files
from runcomfy.report.options import ReportSettings, Selection
from runcomfy.report.posters import small_posters, small_sheets
from runcomfy.report.reading import read_rows
from runcomfy.report.waiting import waiting
from runcomfy.storage.commands import StoreOptions, shell_command
from runcomfy.storage.store import Store

if TYPE_CHECKING:
    from runcomfy.report.page import BudgetFigures

__all__ = ["FOLDER", "Report", "make_report", "write_report"]

FOLDER = "reports/"
"""Where the pages are, below the store's prefix."""
_TYPE = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Report:
    """A page, and what it is about."""

    selection: Selection
    html: bytes
    figures: Figures

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.selection.name()}.html"

    def is_day(self, day: date | None) -> bool:
        """Whether it is about this whole day."""
        return self.selection.since == self.selection.until == day and not self.selection.filters

    @property
    def sentence(self) -> str:
        """The main numbers in a line."""
        found = self.figures
        unpriced = f" and {found.unpriced:,} requests without cost" if found.unpriced else ""
        archived = found.outcomes.get("archived", 0)
        return f"{archived:,} of {found.generations:,} generations archived; {found.cost_usd:,.2f} USD{unpriced}"


def make_report(
    store: Store,
    selection: Selection,
    settings: ReportSettings,
    *,
    links: MediaLinks | None = None,
    journal: str = "bucket",
) -> Report:
    """Make the page of a selection. Blocks: a call for each day, and three for each file of the gallery at most.

    Args:
        store: The bucket with the catalogue and the archive.
        selection: Which generations.
        settings: How the page is made.
        links: How it links to files; else as the settings say.
        journal: Where the journal is kept, for the commands that the page names.

    Raises:
        ConfigurationError: there is no catalogue, or what draws the page is not installed.
        StorageError: the catalogue could not be read.
    """
    with needed("report", "A report"):
        from runcomfy.report import page as pages
        from runcomfy.report.plots import failures, plots_of
    selection, rows = read_rows(store, selection)
    if links is None and settings.media_base_url:
        links = below(settings.media_base_url, store)
    links = links or beside_the_page(store, store.key(f"{FOLDER}{selection.name()}.html"))
    gallery = [row for row in rows if row["video_uri"]][: settings.videos]
    found, grouped = figures(rows), causes(rows)
    options = StoreOptions(store.uri(store.prefix).rstrip("/"), journal, settings=store.settings)
    budget = _budget(found, settings)
    html = pages.render(
        pages.Page(
            title=_title(selection),
            filters=selection.filters,
            place=store.uri(store.prefix),
            made_at=datetime.now(UTC),
            figures=found,
            budget=budget,
            gallery=gallery,
            posters=small_posters(store, [row["video_poster_uri"] for row in gallery if row["video_poster_uri"]]),
            sheets=small_sheets(
                store, [row["video_contact_sheet_uri"] for row in gallery if row["video_contact_sheet_uri"]]
            ),
            gone=gone_files(store, gallery),
            waiting=waiting(rows, options),
            journal_list=options.journal_list,
            review_list=shell_command("review", "list", *options.for_journal),
            plots=plots_of(rows, found, budget),
            failures=failures(grouped),
            causes=grouped,
            rows=rows[: settings.rows],
            links=links,
            flow_run=lambda row: _flow_run(row, settings.prefect_ui_url),
        )
    )
    return Report(selection, html, found)


def write_report(store: Store, report: Report, *, latest: bool) -> str:
    """Put a page into the bucket, over the one that was there, and return its `s3://` URI. Blocks.

    Args:
        store: The bucket.
        report: The page.
        latest: Whether it is also put as `latest.html`.

    Raises:
        StorageError: the store refused.
    """
    for name in (report.name, *(["latest.html"] if latest else [])):
        store.put(store.key(f"{FOLDER}{name}"), report.html, content_type=_TYPE)
    return store.uri(store.key(f"{FOLDER}{report.name}"))


def _title(selection: Selection) -> str:
    since, until = selection.since, selection.until
    return f"Generations of {_day(until)}" if since == until else f"Generations from {_day(since)} to {_day(until)}"


def _day(day: date | None) -> str:
    return f"{day.day} {day:%B %Y}" if day else ""


def _budget(found: Figures, settings: ReportSettings) -> BudgetFigures | None:
    from runcomfy.report.page import BudgetFigures

    if settings.budget_usd is None:
        return None
    guessed = found.unpriced * (settings.usd_per_video or 0.0)
    return BudgetFigures(settings.budget_usd, float(found.cost_usd) + guessed, sure=not found.unpriced)


def _flow_run(row: Row, prefect_ui_url: str | None) -> str | None:
    """Return the address of the run's page; never one with another scheme, whatever the catalogue says."""
    url = row["flow_run_url"]
    if not url and prefect_ui_url and row["flow_run_id"]:
        url = f"{prefect_ui_url.rstrip('/')}/runs/flow-run/{row['flow_run_id']}"
    return str(url) if url and str(url).startswith(("https://", "http://")) else None
