"""Do what a plan says: in this process, or in parts on other workers."""

from __future__ import annotations

from collections.abc import Mapping

from prefect import runtime

from blocks import MediaStore, RunComfyCredentials
from runcomfy.batch.estimate import Tally
from runcomfy.batch.plan import PlannedRow
from runcomfy.batch.shard import divide
from runcomfy.batch.standing import Standing, look_up
from runcomfy.errors import BudgetReached
from runcomfy.outcomes import Outcome, OutcomeStatus
from tasks.batch import Rules, money, run_here
from tasks.plan_batch import Plan
from tasks.progress import shown_progress
from tasks.shards import block_reference, check_deployment, run_shards

__all__ = ["batch_folder", "run_batch"]

_TURNS = 4


def batch_folder() -> str:
    """Return where this flow run's files stand, below the store's prefix."""
    return f"batches/{runtime.flow_run.name}-{str(runtime.flow_run.id)[:8]}"


async def run_batch(
    plan: Plan,
    credentials: RunComfyCredentials,
    store: MediaStore,
    rules: Rules,
    rows_per_shard: int | None,
    shard_deployment: str,
) -> dict[int, Outcome]:
    """Generate what has no video yet, here or on other workers, and return the outcome of every row, by line."""
    if rows_per_shard is None:
        return await run_here(plan, credentials, store, rules)
    return await _on_workers(plan, credentials, store, rules, rows_per_shard, shard_deployment)


async def _on_workers(
    plan: Plan,
    credentials: RunComfyCredentials,
    store: MediaStore,
    rules: Rules,
    rows_per_shard: int,
    deployment: str,
) -> dict[int, Outcome]:
    """Generate what has no video yet in parts, as flow runs of a deployment, and return every row's outcome, by line.

    Rows of a part whose worker died are given to another one, and so are rows for which the budget had too little
    before others turned out cheaper.

    Raises:
        ConfigurationError: the blocks are not stored in Prefect, or there is no such deployment; nothing was paid for.
    """
    await check_deployment(deployment)
    parameters = {
        "credentials": block_reference(credentials),
        "store": block_reference(store),
        "at_once": rules.at_once,
        "deadlines": rules.deadlines.model_dump(),
        "polling": rules.polling.model_dump(),
        "on_interrupt": rules.on_interrupt,
        "on_uncertain": rules.on_uncertain,
    }
    price = rules.usd_per_video or 0.0
    standing, outcomes = plan.standing, dict(plan.standing.existing)
    async with shown_progress(
        Tally(len(plan.rows), rules.at_once, outcomes), money(plan.rows, plan.standing, outcomes, rules)
    ):
        for turn in range(1, _TURNS + 1):
            spent_usd = standing.spent_usd(plan.rows, price)
            left_usd = None if rules.budget_usd is None else rules.budget_usd - spent_usd
            left = _to_do(plan.rows, outcomes, affordable=turn == 1 or left_usd is None or left_usd >= price)
            if not left:
                break
            parts = divide(left, rows_per_shard, standing, left_usd=left_usd, usd_per_video=rules.usd_per_video)
            folder = f"{batch_folder()}/parts-{turn}"
            await run_shards(parts, deployment, parameters, store.get_store(), folder, outcomes.update)
            standing = await look_up(plan.rows, store.get_journal(), store.get_store())
            outcomes |= standing.existing
    return _left_out(plan.rows, standing) | outcomes


def _to_do(rows: list[PlannedRow], outcomes: Mapping[int, Outcome], *, affordable: bool) -> list[PlannedRow]:
    """Rows that nobody has told of, since their worker died, and those that the budget had too little for."""

    def wanted(outcome: Outcome | None) -> bool:
        return outcome is None or (affordable and outcome.error_type == BudgetReached.__name__)

    return [row for row in rows if wanted(outcomes.get(row.line))]


def _left_out(rows: list[PlannedRow], standing: Standing) -> dict[int, Outcome]:
    """What is to be said of rows whose workers died again and again."""
    return {
        row.line: Outcome(
            label=row.label,
            status=OutcomeStatus.DETACHED if standing.paid_before(row) else OutcomeStatus.NOT_STARTED,
            generation_key=row.generation_key,
            error=f"The workers that had it died, {_TURNS} times. Look at their flow runs, and run it again.",
            retryable=True,
        )
        for row in rows
    }
