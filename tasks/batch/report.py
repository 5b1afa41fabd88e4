"""Report the outcomes of a batch: files beside the videos, and artifacts on the flow run's page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from blocks import MediaStore
from runcomfy.batch.prepare import BatchPlan
from runcomfy.batch.results import BatchReport, report_of
from runcomfy.values import Outcome
from tasks.pages.artifacts import show
from tasks.pages.batch import causes, gallery, linked, next_steps, quality, spent
from tasks.pages.markdown import facts_table, text
from tasks.runtime.hooks import worth_retrying

__all__ = ["report_batch"]

_SHOWN_ROWS = 200


@task(
    task_run_name="report",
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def report_batch(
    plan: BatchPlan,
    outcomes: Mapping[int, Outcome],
    cost_usd: float,
    store: MediaStore,
    folder: str,
    budget_usd: float | None = None,
) -> BatchReport:
    """Write the table of results and the manifest of what to run again, and show both.

    Args:
        plan: What was to be done.
        outcomes: The outcome of each row, by line.
        cost_usd: What all rows have cost until now.
        store: Where to write.
        folder: The files' folder below the store's prefix.
        budget_usd: What they may cost, if there is a limit.

    Raises:
        StorageError: the store did not take them.
    """
    ended = [outcomes[row.line] for row in plan.rows]
    report = await asyncio.to_thread(
        report_of, plan.manifest, plan.rows, outcomes, cost_usd, store.get_store(), folder, plan.status.entries
    )
    files = report.files
    get_run_logger().info("%s. Results: %s", report.sentence, files.results)
    if judged := report.quality.sentence:
        get_run_logger().info("Verdicts: %s", judged)
    if files.to_run_again:
        get_run_logger().warning("The rows without a video: %s", files.to_run_again)
    await show(_page(report, ended, store, budget_usd))
    await show(acreate_table_artifact(_table(plan, outcomes), key="runcomfy-batch-rows", description=_shown(plan)))
    return report


async def _page(report: BatchReport, ended: Sequence[Outcome], store: MediaStore, budget_usd: float | None) -> None:
    counts = [(text(status.replace("_", " ")), f"{count:,}") for status, count in sorted(report.counts.items())]
    money, missing = spent(report.cost_usd, budget_usd), causes(ended)
    files = {"Results": report.files.results, "To run again": report.files.to_run_again, "Manifest": report.manifest}
    lines = [
        f"**{report.sentence}.**",
        await gallery((outcome for outcome in ended if outcome.status.is_good), store),
        facts_table(counts),
        money,
        quality(report, store),
        f"### Without a video\n\n{missing}" if missing else "",
        next_steps(ended, store, stopped_by=report.stopped_by, because=report.stopped_because),
        "### Files",
        linked(files, store),
    ]
    description = f"{report.archived:,} of {report.rows:,} videos, {report.cost_usd:,.2f} USD"
    await acreate_markdown_artifact("\n\n".join(filter(None, lines)), key="runcomfy-batch", description=description)


def _table(plan: BatchPlan, outcomes: Mapping[int, Outcome]) -> list[dict[str, Any]]:
    """Return the table: rows without a video first, and no more rows than a page can show without getting slow."""
    ordered = sorted(plan.rows, key=lambda row: (outcomes[row.line].status.is_good, row.line))
    return [
        {
            "line": row.line,
            "outcome": outcomes[row.line].status.replace("_", " "),
            "verdict": " ".join(outcomes[row.line].verdicts).replace("_", " "),
            "prompt": text(row.order.prompt, longest=80),
            "USD": outcomes[row.line].cost_usd,
            "seconds": round(outcomes[row.line].seconds, 1),
            "error": text(outcomes[row.line].error or "", longest=300),
            "video": " ".join(outcomes[row.line].uris),
        }
        for row in ordered[:_SHOWN_ROWS]
    ]


def _shown(plan: BatchPlan) -> str:
    if len(plan.rows) <= _SHOWN_ROWS:
        return "Every row; those without a video first."
    return f"The first {_SHOWN_ROWS} of {len(plan.rows):,} rows, those without a video first; all are in results.csv."
