"""`batch`: a video for each row of a manifest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

from cyclopts import Parameter
from slugify import slugify

from runcomfy.cli import environment
from runcomfy.cli.log import log_progress
from runcomfy.cli.options import ABOVE_ZERO, AtOnce, FirstAtOnce, Json, Run, StopAfterAlike
from runcomfy.cli.output import print_facts
from runcomfy.errors import BatchIncomplete, BudgetReached
from runcomfy.models.orders import OrderDefaults
from runcomfy.storage.commands import StoreOptions

if TYPE_CHECKING:
    from runcomfy.batch.results import BatchReport
    from runcomfy.batch.run import BatchPolicy

__all__ = ["batch"]


def batch(
    manifest: Annotated[str, Parameter(help="A .csv, .jsonl, .parquet or .xlsx file: a path, or s3://bucket/key.")],
    /,
    *,
    run: Run,
    at_once: AtOnce = 50,
    first_at_once: FirstAtOnce = 5,
    stop_after_alike: StopAfterAlike = 20,
    budget_usd: Annotated[
        float | None,
        Parameter(
            validator=ABOVE_ZERO,
            help="What all videos of this manifest may cost together, whichever run pays.",
        ),
    ] = None,
    usd_per_video: Annotated[
        float | None,
        Parameter(
            validator=ABOVE_ZERO,
            help="What one is taken to cost until RunComfy says; the catalogue's price if that is more.",
        ),
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
    from runcomfy.manifest.location import locate

    if (location := locate(manifest)).path is not None:
        location.read_file()
    environment.check(run.bucket, run.journal, run.archive_key)
    from runcomfy.batch.run import BatchPolicy

    rules = BatchPolicy(at_once, budget_usd, usd_per_video, first_at_once, stop_after_alike, run.policy)
    rules.check_journal(run.journal.strip())
    log_progress()
    given = _with_variation(defaults, run.variation).given()
    report = _run(manifest, run, rules, given, allow_placeholder_prompts=allow_placeholder_prompts)
    facts: dict[str, Any] = {
        "rows": report.rows,
        "archived": report.archived,
        "counts": report.counts
        if json
        else ", ".join(f"{n:,} {status}" for status, n in sorted(report.counts.items())),
        "cost_usd": report.cost_usd,
        "verdicts": report.verdicts if json else report.quality.sentence or None,
        "usd_per_good_file": report.usd_per_good_file if json else None,
        "requests_without_cost": report.requests_without_cost if json else report.requests_without_cost or None,
        "set_aside": report.set_aside if json else report.set_aside or None,
        "rejected": report.rejected if json else report.rejected or None,
        "by_setting": [each.model_dump() | {"usd_per_good_file": each.usd_per_good_file} for each in report.by_setting]
        if json
        else _by_setting(report),
        "results": report.files.results,
        "to_run_again": report.files.to_run_again,
        "stopped_by": report.stopped_by,
        "error_code": report.error_code,
    }
    if report.archived == report.rows:
        print_facts("Batch", facts, as_json=json)
        return
    kind = BudgetReached if report.stopped_by == BudgetReached.__name__ else BatchIncomplete
    advice = (
        "" if report.stopped_by else _advice(report, environment.store_options(run.bucket, run.journal, run.settings))
    )
    if json:
        raise kind(f"{report.sentence}{advice}", **facts)
    print_facts("Batch", facts, as_json=False)
    raise kind(f"{report.sentence}{advice}")


def _run(
    manifest: str, run: Run, rules: BatchPolicy, defaults: dict[str, Any], *, allow_placeholder_prompts: bool
) -> BatchReport:
    from runcomfy.batch.prepare import prepare
    from runcomfy.batch.program import Program
    from runcomfy.batch.results import report_of
    from runcomfy.batch.run import run_here
    from runcomfy.cli.following import Counting, to_the_end
    from runcomfy.retry import with_retries

    hooks = Counting()
    name = slugify(manifest.rstrip("/").rpartition("/")[2], max_length=48) or "batch"
    folder = f"batches/{name}-{uuid4().hex[:8]}"

    async def made() -> BatchReport:
        destination = run.destination()
        program = Program(environment.client, destination, environment.host_policy(), hooks)
        plan = await prepare(
            manifest,
            destination,
            defaults,
            hooks.log,
            client=environment.client,
            allow_placeholder_prompts=allow_placeholder_prompts,
        )
        outcomes, cost_usd = await run_here(plan, program, rules)
        written = (plan.manifest, plan.rows, outcomes, cost_usd, destination.store, folder, plan.status.entries)
        return await with_retries(lambda: asyncio.to_thread(report_of, *written))

    return to_the_end(made(), hooks)


def _by_setting(report: BatchReport) -> str | None:
    """Return a line for each group, if there are several: one says what the whole batch says already."""
    if len(report.by_setting) < 2:
        return None
    return "\n".join(
        f"{each.model}{f' ({each.setting})' if each.setting else ''}: {each.sentence or 'no file'}"
        for each in report.by_setting
    )


def _advice(report: BatchReport, options: StoreOptions) -> str:
    from runcomfy.batch.results import REJECTED_ROWS
    from runcomfy.values import OutcomeStatus

    uncertain, advice = report.counts.get(OutcomeStatus.UNCERTAIN, 0), "."
    if uncertain:
        advice += " What is uncertain is not sent again before a person has looked"
        advice += "".join(f": `{command}`" for command in options.journal_list) + "."
    if report.rejected:
        advice += f" {REJECTED_ROWS}"
    others = sum(report.counts.values()) > report.archived + uncertain + report.rejected
    return advice + (" Run the same manifest again for the rest." if others else "")


def _with_variation(defaults: OrderDefaults, variation: str) -> OrderDefaults:
    return defaults.model_copy(update={"variation": variation}) if variation else defaults
