"""`catalogue`: bring the table of all generations up to date, without Prefect."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from runcomfy.cli import environment
from runcomfy.cli.options import BucketOptions, Json
from runcomfy.cli.output import print_facts

if TYPE_CHECKING:
    from runcomfy.catalogue import Day

__all__ = ["catalogue"]

_MOST_DAYS = 20


def catalogue(
    *,
    prompts: Annotated[
        bool | None,
        Parameter(
            negative="--no-prompts",
            help="Write prompts as they are, or only their SHA-256; as the last time if neither is said.",
        ),
    ] = None,
    everything: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Read everything again, not only what has changed."),
    ] = False,
    where: BucketOptions,
    json: Json = False,
) -> None:
    """Bring the table of all generations up to date: Parquet files in the bucket, for any tool to query."""
    from runcomfy.catalogue import update

    journal = (
        None if where.journal.strip() == "none" else environment.journal(where.bucket, where.journal, where.settings)
    )
    store = environment.store(where.bucket, where.settings)
    found = asyncio.run(update(store, journal, prompts=prompts, everything=everything))
    for name in found.unreadable:
        print(f"{name} cannot be read by this version, and is passed over.", file=sys.stderr)
    if json:
        print_facts("", found.model_dump(mode="json"), as_json=True)
        return
    earlier = found.days[:-_MOST_DAYS]
    facts = {"table": found.table, "update": found.sentence, "earlier": f"{len(earlier):,} days" if earlier else None}
    print_facts("Catalogue", facts | {str(day.day): _line(day) for day in found.days[-_MOST_DAYS:]}, as_json=False)


def _line(day: Day) -> str:
    unknown = f" and {day.requests_without_cost:,} requests without cost" if day.requests_without_cost else ""
    return f"{day.counted or 'nothing'}; {day.cost_usd:.2f} USD{unknown}"
