"""Carry out a batch plan: in this process, or in shards on other workers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

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

_ROUNDS = 4


def batch_folder() -> str:
    """Return the folder of this flow run's files, below the store's prefix."""
    return f"batches/{runtime.flow_run.name}-{str(runtime.flow_run.id)[:8]}"


async def run_batch(
    plan: BatchPlan,
    credentials: RunComfyCredentials,
    store: MediaStore,
    policy: BatchPolicy,
    rows_per_shard: int | None,
    shard_deployment: str,
    choices: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[dict[int, Outcome], float]:
    """Generate what has no video yet, here or on other workers.

    Args:
        plan: What is to be done.
        credentials: Who pays.
        store: The bucket.
        policy: What holds for all rows.
        rows_per_shard: How many rows another worker is given; `None` for all of them here.
        shard_deployment: What runs a shard.
        choices: What this run says instead of the stored block, which is all that shards get of the store.

    Returns:
        The outcome of every row, by line; and what all rows have cost until now, US dollars.

    Raises:
        ConfigurationError: there is a budget, but no journal to remember what was paid for, or no price of some rows.
    """
    policy.check_journal(store.journal)
    policy = policy.priced(plan.prices)
    if rows_per_shard is None:
        return await run_here(plan, PrefectProgram(credentials, store), policy)
    return await _on_workers(plan, credentials, store, policy, rows_per_shard, shard_deployment, choices)


async def _on_workers(
    plan: BatchPlan,
    credentials: RunComfyCredentials,
    store: MediaStore,
    policy: BatchPolicy,
    rows_per_shard: int,
    deployment: str,
    choices: Mapping[str, Any],
) -> tuple[dict[int, Outcome], float]:
    """Generate what has no video yet in shards, as flow runs of a deployment.

    Until one is archived, rows are generated here, a few at a time: each shard would begin with a few of its own. Rows
    of a shard whose worker died go into another shard, and so do rows that the budget could not pay for until others
    turned out cheaper.

    Raises:
        ConfigurationError: the blocks are not stored in Prefect, or there is no such deployment; nothing was paid for.
    """
    await check_deployment(deployment)
    parameters = {
        "credentials": block_reference(credentials),
        "store": block_reference(store),
        "at_once": policy.at_once,
        "first_at_once": policy.first_at_once,
        "stop_after_alike": policy.stop_after_alike,
        "deadlines": policy.policy.deadlines.model_dump(),
        "polling": policy.policy.polling.model_dump(),
        "on_interrupt": policy.policy.on_interrupt,
        "on_uncertain": policy.policy.on_uncertain,
        **choices,
    }
    price, status, outcomes = policy.usd_per_video or 0.0, plan.status, dict(plan.status.existing)
    allowance = Allowance(
        limit_usd=policy.budget_usd,
        usd_per_video=policy.usd_per_video,
        purse=shared_budget_name(row.generation_key for row in plan.rows),
    )
    shards = ShardRunner(deployment, parameters, store.get_store(), outcomes.update)
    if not await shards.await_earlier_attempt():
        proved, _ = await run_here(plan, PrefectProgram(credentials, store), policy, until_proven=True)
        outcomes |= proved
    status = await _look_up(plan.rows, store)
    async with shown_progress(
        Tally(len(plan.rows), policy.at_once, outcomes), lambda: money(status.cost_usd(plan.rows, price), policy)
    ):
        for number in range(1, _ROUNDS + 1):
            left_usd = None if policy.budget_usd is None else policy.budget_usd - status.cost_usd(plan.rows, price)
            left = _to_do(plan.rows, outcomes, affordable=left_usd is None or left_usd >= price)
            if not left:
                break
            folder = f"{batch_folder()}/parts-{runtime.flow_run.run_count}-{number}"
            await shards.run(divide(left, rows_per_shard), allowance, folder)
            status = await _look_up(plan.rows, store)
            outcomes |= status.existing
            if shards.halted is not None:
                break
    return _final_outcomes(plan.rows, status, outcomes), status.cost_usd(plan.rows, price)


async def _look_up(rows: list[PlannedRow], store: MediaStore) -> RowStatus:
    """Look up the status of the rows; if the store is unavailable, retry for minutes, since rows are in progress."""
    async for attempt in AsyncRetrying(
        stop=stop_after_delay(900),
        wait=wait_random_exponential(multiplier=2, max=60),
        retry=retry_if_exception_type(StoreUnavailable),
        reraise=True,
    ):
        with attempt:
            status = await look_up(rows, store.get_journal(), store.get_store())
    return status


def _to_do(rows: list[PlannedRow], outcomes: Mapping[int, Outcome], *, affordable: bool) -> list[PlannedRow]:
    """Return rows without an outcome, since their worker died, and those that the budget could not pay for."""

    def wanted(outcome: Outcome | None) -> bool:
        return outcome is None or (affordable and outcome.error_type == BudgetReached.__name__)

    return [row for row in rows if wanted(outcomes.get(row.line))]


def _final_outcomes(rows: list[PlannedRow], status: RowStatus, outcomes: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """Add outcomes for rows whose workers died, and correct those of which the journal knows more than their shard."""
    final = {}
    for row in rows:
        outcome = outcomes.get(row.line) or Outcome(
            label=row.label,
            status=OutcomeStatus.NOT_STARTED,
            generation_key=row.generation_key,
            error="The workers that had it died. Look at their flow runs, and run it again.",
            retryable=True,
        )
        final[row.line] = true_outcome(outcome, status.entries.get(row.generation_key))
    return final
