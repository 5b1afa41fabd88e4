"""Do what a plan says: in this process, or in parts on other workers."""

from __future__ import annotations

from collections.abc import Mapping

from prefect import runtime
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from blocks import MediaStore, RunComfyCredentials
from runcomfy.batch.estimate import Tally
from runcomfy.batch.plan import PlannedRow
from runcomfy.batch.prepare import BatchPlan
from runcomfy.batch.run import BatchPolicy, money, run_here
from runcomfy.batch.shard import Allowance, divide
from runcomfy.batch.shared_budget import shared_budget_name
from runcomfy.batch.status import RowStatus, look_up, true_outcome
from runcomfy.errors import BudgetReached, StoreUnavailable
from runcomfy.values import Outcome, OutcomeStatus
from tasks.batch.program import PrefectProgram
from tasks.batch.shards import ShardRunner, block_reference, check_deployment
from tasks.pages.progress import shown_progress

__all__ = ["batch_folder", "run_batch"]

_TURNS = 4


def batch_folder() -> str:
    """Return where this flow run's files stand, below the store's prefix."""
    return f"batches/{runtime.flow_run.name}-{str(runtime.flow_run.id)[:8]}"


async def run_batch(
    plan: BatchPlan,
    credentials: RunComfyCredentials,
    store: MediaStore,
    rules: BatchPolicy,
    rows_per_shard: int | None,
    shard_deployment: str,
) -> tuple[dict[int, Outcome], float]:
    """Generate what has no video yet, here or on other workers.

    Returns:
        The outcome of every row, by line; and what all rows have cost until now, US dollars.

    Raises:
        ConfigurationError: there is a budget, and nothing that remembers what was paid for.
    """
    rules.check_journal(store.journal)
    if rows_per_shard is None:
        return await run_here(plan, PrefectProgram(credentials, store), rules)
    return await _on_workers(plan, credentials, store, rules, rows_per_shard, shard_deployment)


async def _on_workers(
    plan: BatchPlan,
    credentials: RunComfyCredentials,
    store: MediaStore,
    rules: BatchPolicy,
    rows_per_shard: int,
    deployment: str,
) -> tuple[dict[int, Outcome], float]:
    """Generate what has no video yet in parts, as flow runs of a deployment.

    Until one is archived, rows are generated here, a few at a time: parts would each begin with a few of their own.
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
        "first_at_once": rules.first_at_once,
        "stop_after_alike": rules.stop_after_alike,
        "deadlines": rules.policy.deadlines.model_dump(),
        "polling": rules.policy.polling.model_dump(),
        "on_interrupt": rules.policy.on_interrupt,
        "on_uncertain": rules.policy.on_uncertain,
    }
    price, standing, outcomes = rules.usd_per_video or 0.0, plan.status, dict(plan.status.existing)
    allowance = Allowance(
        limit_usd=rules.budget_usd,
        usd_per_video=rules.usd_per_video,
        purse=shared_budget_name(row.generation_key for row in plan.rows),
    )
    spread = ShardRunner(deployment, parameters, store.get_store(), outcomes.update)
    if await spread.see_to_what_runs():  # parts of an earlier attempt of this very run
        standing = await _look_up(plan.rows, store)
    else:
        proved, _ = await run_here(plan, PrefectProgram(credentials, store), rules, until_proven=True)
        outcomes |= proved
        standing = await _look_up(plan.rows, store)
    async with shown_progress(
        Tally(len(plan.rows), rules.at_once, outcomes), lambda: money(standing.cost_usd(plan.rows, price), rules)
    ):
        for turn in range(1, _TURNS + 1):
            left_usd = None if rules.budget_usd is None else rules.budget_usd - standing.cost_usd(plan.rows, price)
            left = _to_do(plan.rows, outcomes, affordable=left_usd is None or left_usd >= price)
            if not left:
                break
            folder = f"{batch_folder()}/parts-{runtime.flow_run.run_count}-{turn}"
            await spread.run(divide(left, rows_per_shard), allowance, folder)
            standing = await _look_up(plan.rows, store)
            outcomes |= standing.existing
            if spread.halted is not None:
                break
    return _true_ends(plan.rows, standing, outcomes), standing.cost_usd(plan.rows, price)


async def _look_up(rows: list[PlannedRow], store: MediaStore) -> RowStatus:
    """Look up what is known, for minutes if need be: rows are under way."""
    async for attempt in AsyncRetrying(
        stop=stop_after_delay(900),
        wait=wait_random_exponential(multiplier=2, max=60),
        retry=retry_if_exception_type(StoreUnavailable),
        reraise=True,
    ):
        with attempt:
            standing = await look_up(rows, store.get_journal(), store.get_store())
    return standing


def _to_do(rows: list[PlannedRow], outcomes: Mapping[int, Outcome], *, affordable: bool) -> list[PlannedRow]:
    """Rows that nobody has told of, since their worker died, and those that the budget had too little for."""

    def wanted(outcome: Outcome | None) -> bool:
        return outcome is None or (affordable and outcome.error_type == BudgetReached.__name__)

    return [row for row in rows if wanted(outcomes.get(row.line))]


def _true_ends(rows: list[PlannedRow], standing: RowStatus, outcomes: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """Add what is to be said of rows whose workers died, and correct what a part did not know of its rows."""
    ends = {}
    for row in rows:
        outcome = outcomes.get(row.line) or Outcome(
            label=row.label,
            status=OutcomeStatus.NOT_STARTED,
            generation_key=row.generation_key,
            error="The workers that had it died. Look at their flow runs, and run it again.",
            retryable=True,
        )
        ends[row.line] = true_outcome(outcome, standing.entries.get(row.generation_key))
    return ends
