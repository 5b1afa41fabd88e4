"""`report`: make the page of a day or a selection, without Prefect, and show it."""

from __future__ import annotations

import os
import sys
import webbrowser
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from runcomfy.cli import environment
from runcomfy.cli.options import BucketOptions, Json
from runcomfy.cli.output import print_facts
from runcomfy.errors import ConfigurationError
from runcomfy.report.options import ReportSettings, Selection

if TYPE_CHECKING:
    from runcomfy.report.making import Report
    from runcomfy.storage.store import Store

__all__ = ["report"]


def report(
    *,
    day: Annotated[date | None, Parameter(help="Only this day; as --since and --until with the same day.")] = None,
    selection: Annotated[Selection, Parameter(name="*")] = Selection(),
    settings: Annotated[ReportSettings, Parameter(name="*")] = ReportSettings(),
    output: Annotated[Path | None, Parameter(help="Write the page into this file, and not into the bucket.")] = None,
    browser: Annotated[
        bool,
        Parameter(
            name="--open", negative="", show_default=False, help="Show it in your browser; its videos play there."
        ),
    ] = False,
    serve: Annotated[
        bool, Parameter(negative="", show_default=False, help="As --open, but only say where the page is.")
    ] = False,
    port: Annotated[int, Parameter(help="Of 127.0.0.1, for --open and --serve; 0 is any free one.")] = 0,
    where: BucketOptions,
    json: Json = False,
) -> None:
    """Make a page of what was made, what it cost and how it went: in the bucket, in a file, or in your browser."""
    if day and (selection.since or selection.until):
        raise ConfigurationError("A report is of a --day, or of the days --since and --until.")
    if output and (browser or serve):
        raise ConfigurationError("A page is written into the file --output, or shown with --open or --serve.")
    if day:
        selection = selection.model_copy(update={"since": day, "until": day})
    if settings.prefect_ui_url is None:
        settings = settings.model_copy(update={"prefect_ui_url": os.environ.get("PREFECT_UI_URL")})
    from runcomfy.report.making import make_report, write_report
    from runcomfy.report.reading import last_day

    store = environment.store(where.bucket, where.settings)
    if browser or serve:
        _show(store, selection, settings, where.journal, port, browser=browser)
        return
    made = make_report(store, selection, settings, journal=where.journal)
    if output:
        output.write_bytes(made.html)
    page = str(output) if output else write_report(store, made, latest=made.is_day(last_day(store)))
    print_facts("Report", _facts(made, page), as_json=json)


def _show(
    store: Store, selection: Selection, settings: ReportSettings, journal: str, port: int, *, browser: bool
) -> None:
    """Serve the page until Ctrl-C."""
    from runcomfy.report.making import make_report
    from runcomfy.report.serving import ReportServer

    with ReportServer(store, port) as server:
        links = None if settings.media_base_url else server.links
        made = make_report(store, selection, settings, links=links, journal=journal)
        print_facts("Report", _facts(made, server.url), as_json=False)
        sys.stdout.flush()  # a reader at the end of a pipe waits for the address
        print("It is shown until you press Ctrl-C.", file=sys.stderr, flush=True)
        if browser:
            webbrowser.open(server.url)
        try:
            server.serve(made.html)
        except KeyboardInterrupt:
            return


def _facts(made: Report, page: str) -> dict[str, object]:
    quality = made.figures.quality.sentence or None
    return {"page": page, "made": made.sentence, "quality": quality, "size": f"{len(made.html):,} bytes"}
