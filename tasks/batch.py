"""Do what a plan says: in this process, in parts on other workers, or one such part."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from prefect import get_run_logger, runtime

from blocks import MediaStore, RunComfyCredentials
from runcomfy.batch.budget import Budget
from runcomfy.batch.estimate import Tally
from runcomfy.batch.plan import PlannedRow, rows_from_json
from runcomfy.batch.results import cost_of, outcomes_to_json
from runcomfy.batch.shard import Shard, divide
from runcomfy.batch.standing import Standing, look_up
from runcomfy.errors import BudgetReached, StorageError
from runcomfy.journal import OnUncertain
from runcomfy.outcomes import Outcome, OutcomeStatus
from runcomfy.polling import Deadlines, Polling
from tasks.interruption import OnInterrupt
from tasks.plan_batch import Plan
from tasks.progress import shown_progress
from tasks.run_rows import run_rows
from tasks.service import open_service
from tasks.shards import block_reference, check_deployment, run_shards
from tasks.slots import slots

__all__ = ["Rules", "batch_folder", "run_batch", "run_part"]

_TURNS = 4
_WRITE_SECONDS = 15.0
_MAX_ROWS_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Rules:
    """What holds for all rows of a batch."""

    at_once: int
    budget_usd: float | None = None
    usd_per_video: float | None = None
    deadlines: Deadlines = Deadlines()
    polling: Polling = Polling()
    on_interrupt: OnInterrupt = "ask"
    on_uncertain: OnUncertain = "stop"

    def __post_init__(self) -> None:
        Budget(self.budget_usd, self.usd_per_video)  # a budget without a price is said before anything else


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
        return await _here(plan, credentials, store, rules)
    return await _on_workers(plan, credentials, store, rules, rows_per_shard, shard_deployment)


async def _here(plan: Plan, credentials: RunComfyCredentials, store: MediaStore, rules: Rules) -> dict[int, Outcome]:
    """Generate what has no video yet, in this process, and return the outcome of every row, by line."""
    standing, rows = plan.standing, plan.rows
    budget = Budget(rules.budget_usd, rules.usd_per_video, standing.spent_usd(rows, rules.usd_per_video or 0.0))
    outcomes = dict(standing.existing)
    await _run(standing.to_do(rows), standing, credentials, store, rules, budget, outcomes, total=len(rows))
    return outcomes


async def run_part(shard: Shard, credentials: RunComfyCredentials, store: MediaStore, rules: Rules) -> dict[str, int]:
    """Generate the rows of one part, write down what becomes of them, and return how many ended in which way."""
    bucket = store.get_store()
    rows = rows_from_json(await asyncio.to_thread(bucket.read, shard.rows_key, limit_bytes=_MAX_ROWS_BYTES))
    standing = await look_up(rows, store.get_journal(), bucket)
    price = rules.usd_per_video or 0.0
    budget = Budget(rules.budget_usd, rules.usd_per_video, standing.spent_usd(rows, price))
    outcomes = dict(standing.existing)
    async with _written_down(outcomes, shard, store):
        await _run(standing.to_do(rows), standing, credentials, store, rules, budget, outcomes, total=len(rows))
    return dict(Counter(str(outcome.status) for outcome in outcomes.values()))


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
    async with shown_progress(Tally(len(plan.rows), rules.at_once, outcomes), _money(outcomes, rules)):
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


async def _run(
    rows: list[PlannedRow],
    standing: Standing,
    credentials: RunComfyCredentials,
    store: MediaStore,
    rules: Rules,
    budget: Budget,
    outcomes: dict[int, Outcome],
    *,
    total: int,
) -> None:
    def ended(row: PlannedRow, outcome: Outcome) -> None:
        outcomes[row.line] = outcome

    async with (
        slots(credentials, rules.at_once) as at_once,
        open_service(
            credentials,
            store,
            deadlines=rules.deadlines,
            polling=rules.polling,
            on_interrupt=rules.on_interrupt,
            on_uncertain=rules.on_uncertain,
        ) as service,
        shown_progress(Tally(total, at_once, outcomes), _money(outcomes, rules)),
    ):
        await run_rows(rows, service, budget, at_once=at_once, paid_before=standing.paid_before, ended=ended)


def _money(outcomes: Mapping[int, Outcome], rules: Rules) -> Callable[[], str]:
    def sentence() -> str:
        spent = cost_of(outcomes.values(), rules.usd_per_video)
        if rules.budget_usd is not None:
            return f"{spent:,.2f} of {rules.budget_usd:,.2f} USD spent"
        return f"{spent:,.2f} USD spent" if spent else ""

    return sentence


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


@asynccontextmanager
async def _written_down(outcomes: Mapping[int, Outcome], shard: Shard, store: MediaStore) -> AsyncIterator[None]:
    """Write what became of a part's rows every few seconds while the body runs, and at its end, however it ends."""

    async def write() -> None:
        document = outcomes_to_json(dict(outcomes))
        bucket = store.get_store()
        await asyncio.to_thread(bucket.put, shard.outcomes_key, document, content_type="application/x-ndjson")

    async def keep_writing() -> None:
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            try:
                await write()
            except StorageError as error:
                get_run_logger().warning("What became of the rows could not be written down yet: %s", error)

    writing = asyncio.create_task(keep_writing())
    try:
        yield
    finally:
        writing.cancel()
        with anyio.move_on_after(20, shield=True):
            await write()
