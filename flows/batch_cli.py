"""`batch`: a manifest from the command line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows import environment
from runcomfy.cli.options import Json, Run
from runcomfy.cli.output import print_facts
from runcomfy.commands import StoreOptions
from runcomfy.errors import BatchIncomplete, BudgetReached
from runcomfy.models.orders import OrderDefaults

if TYPE_CHECKING:
    from runcomfy.batch.results import BatchReport

__all__ = ["batch"]


def batch(
    manifest: Annotated[str, Parameter(help="A .csv, .jsonl or .parquet file: a path, or s3://bucket/key.")],
    /,
    *,
    run: Run,
    at_once: Annotated[int, Parameter(help="How many generations are under way at the same time.")] = 50,
    first_at_once: Annotated[
        int, Parameter(help="How many are paid for until one is archived; if they fail alike, it stops.")
    ] = 5,
    stop_after_alike: Annotated[int, Parameter(help="After so many in a row that fail alike, it stops.")] = 20,
    budget_usd: Annotated[
        float | None,
        Parameter(help="What all videos of this manifest may cost together, whichever run pays; with --usd-per-video."),
    ] = None,
    usd_per_video: Annotated[
        float | None, Parameter(help="What one is taken to cost until RunComfy says; rather too high than too low.")
    ] = None,
    defaults: Annotated[OrderDefaults, Parameter(name="*")] = OrderDefaults(),
    allow_placeholder_prompts: Annotated[
        bool, Parameter(help="Take nan, None, #REF!, formulas and numbers for prompts; they are refused otherwise.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a video for each row of a manifest; what is archived already is left alone.

    The whole manifest is checked before anything is paid for. Settings that are given here count for the rows that do
    not say them.
    """
    account, store = environment.credentials(), environment.media_store(run.bucket, run.archive_key, run.journal)
    from flows.batch import batch as flow
    from runcomfy.batch.results import BatchReport
    from tasks.command_line import store_options

    async def ended() -> Any:
        state: Any = await flow(
            manifest,
            account,
            store,
            defaults=_with_variation(defaults, run.variation),
            allow_placeholder_prompts=allow_placeholder_prompts,
            at_once=at_once,
            first_at_once=first_at_once,
            stop_after_alike=stop_after_alike,
            budget_usd=budget_usd,
            usd_per_video=usd_per_video,
            deadlines=run.deadlines,
            on_uncertain="pay_again" if run.on_uncertain == "pay-again" else "stop",
            return_state=True,
        )
        return await state.aresult(raise_on_failure=False)

    report = asyncio.run(ended())
    if not isinstance(report, BatchReport):
        raise report
    facts: dict[str, Any] = {
        "rows": report.rows,
        "archived": report.archived,
        "counts": report.counts
        if json
        else ", ".join(f"{n:,} {status}" for status, n in sorted(report.counts.items())),
        "cost_usd": report.cost_usd,
        "results": report.files.results,
        "to_run_again": report.files.to_run_again,
        "stopped_by": report.stopped_by,
        "error_code": report.error_code,
    }
    if report.archived == report.rows:
        print_facts("Batch", facts, as_json=json)
        return
    kind = BudgetReached if report.stopped_by == BudgetReached.__name__ else BatchIncomplete
    advice = "" if report.stopped_by else _advice(report, store_options(store))
    if json:
        raise kind(f"{report.sentence}{advice}", **facts)
    print_facts("Batch", facts, as_json=False)
    raise kind(f"{report.sentence}{advice}")


def _advice(report: BatchReport, options: StoreOptions) -> str:
    from runcomfy.values import OutcomeStatus

    uncertain = report.counts.get(OutcomeStatus.UNCERTAIN, 0)
    if not uncertain:
        return ". Run the same manifest again for the rest."
    look = ". What is uncertain is not sent again before a person has looked"
    look += "".join(f": `{command}`" for command in options.journal_list) + "."
    others = sum(report.counts.values()) > report.archived + uncertain
    return look + (" Run the same manifest again for the rest." if others else "")


def _with_variation(defaults: OrderDefaults, variation: str) -> OrderDefaults:
    return defaults.model_copy(update={"variation": variation}) if variation else defaults
