"""Run a plan in this process: all of it, or one shard of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import anyio

from runcomfy.batch.budget import Budget
from runcomfy.batch.circuit_breaker import FIRST_AT_ONCE, STOP_AFTER_ALIKE, note_stop, open_breaker
from runcomfy.batch.estimate import Tally
from runcomfy.batch.halt import Halt, publish_halt, stop_on_halt
from runcomfy.batch.plan import PlannedRow, models_of, rows_from_json
from runcomfy.batch.prepare import BatchPlan
from runcomfy.batch.prices import RowPrices
from runcomfy.batch.program import Program
from runcomfy.batch.results import outcomes_to_json
from runcomfy.batch.row_scheduler import RowScheduler
from runcomfy.batch.shard import Shard
from runcomfy.batch.shared_budget import SharedBudget, shared_budget_name
from runcomfy.batch.status import RowStatus, look_up, true_outcome
from runcomfy.errors import ConfigurationError, RunComfyError, StorageError
from runcomfy.generation.engine import Engine
from runcomfy.generation.hooks import Log
from runcomfy.generation.models import kinds_of
from runcomfy.journal import Entry
from runcomfy.models import MODELS
from runcomfy.models.orders import Kinds
from runcomfy.policy import RunPolicy
from runcomfy.storage.store import Store
from runcomfy.values import Outcome

__all__ = ["BatchPolicy", "money", "run_here", "run_shard"]

_WRITE_SECONDS = 15.0
_MAX_ROWS_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class BatchPolicy:
    """What holds for all rows of a batch."""

    at_once: int
    budget_usd: float | None = None
    usd_per_video: float | None = None
    first_at_once: int = FIRST_AT_ONCE
    stop_after_alike: int = STOP_AFTER_ALIKE
    policy: RunPolicy = RunPolicy()

    def priced(self, prices: RowPrices) -> BatchPolicy:
        """Return the same with the price that each send counts at until its own cost is known.

        It is what the user says or, if that is more, what the dearest row is taken to cost.

        Args:
            prices: Of the rows that are left to do.

        Raises:
            ConfigurationError: There is a budget, and what a row costs is neither known nor said.
        """
        if self.budget_usd is None:
            return self
        if prices.unknown and not self.usd_per_video:
            raise ConfigurationError(
                f"A budget needs to know what one costs, and the catalogue does not say it of {prices.models}, nor was "
                "one of the kind seen: RunComfy says so only afterwards. Give usd_per_video, rather too high than too "
                "low. Nothing was paid for."
            )
        return replace(self, usd_per_video=max(self.usd_per_video or 0.0, *prices.guesses, 0.0))

    def check_journal(self, choice: str) -> None:
        """Make sure that the journal can keep a budget.

        Raises:
            ConfigurationError: there is a budget, and the journal is `none`.
        """
        if self.budget_usd is not None and choice == "none":
            raise ConfigurationError("A budget needs a journal that outlives a process: the store's is 'none'.")


async def run_here(
    plan: BatchPlan, program: Program, batch_policy: BatchPolicy, *, until_proven: bool = False
) -> tuple[dict[int, Outcome], float]:
    """Generate what has no video yet, in this process.

    Args:
        plan: What is to be done.
        program: The account, the bucket, and what the program adds.
        batch_policy: What holds for all rows.
        until_proven: Begin no more once all models are proven; rows that were not begun have no outcome then.

    Returns:
        The outcome of every row, by line; and what all rows have cost until now, US dollars.

    Raises:
        ConfigurationError: there is a budget, and no journal that could keep it, or no price of some rows.
    """
    batch_policy.check_journal(program.destination.journal_choice)
    batch_policy = batch_policy.priced(plan.prices)
    outcomes, budget_name = dict(plan.status.existing), shared_budget_name(row.generation_key for row in plan.rows)
    cost_usd = await _run(
        plan.rows, plan.status, program, batch_policy, outcomes, budget_name, until_proven=until_proven
    )
    return outcomes, cost_usd


async def run_shard(shard: Shard, program: Program, batch_policy: BatchPolicy) -> dict[str, int]:
    """Generate the rows of a shard, write their outcomes into the bucket, and return how many ended in which way."""
    store, journal = program.destination.store, program.destination.journal
    outcomes = dict[int, Outcome]()
    document = await asyncio.to_thread(store.read, shard.rows_key, limit_bytes=_MAX_ROWS_BYTES)
    kinds: Kinds = {}
    if not (models := await asyncio.to_thread(models_of, document)) <= MODELS.keys():
        async with program.client() as client:
            kinds = await kinds_of(models, client, journal)
    rows = rows_from_json(document, kinds)
    async with _outcomes_written(outcomes, shard, store, program.hooks.log):
        status = await look_up(rows, journal, store)
        outcomes |= status.existing
        halt = Halt(store, shard.halt_key)
        await _run(rows, status, program, batch_policy, outcomes, shard.shared_budget_of(rows), halt=halt)
    return dict(Counter(str(outcome.status) for outcome in outcomes.values()))


async def _run(
    rows: list[PlannedRow],
    status: RowStatus,
    program: Program,
    batch_policy: BatchPolicy,
    outcomes: dict[int, Outcome],
    budget_name: str,
    *,
    until_proven: bool = False,
    halt: Halt | None = None,
) -> float:
    """Generate rows, record the outcome of each, and return what all of them have cost until now, US dollars."""
    price = batch_policy.usd_per_video or 0.0
    if not status.to_do(rows):
        return status.cost_usd(rows, price)
    entries: dict[str, Entry] = {}

    def ended(row: PlannedRow, outcome: Outcome, entry: Entry | None) -> None:
        outcomes[row.line] = outcome
        if entry is not None:
            entries[row.generation_key] = entry

    async with (
        program.slots(min(batch_policy.at_once, len(status.to_do(rows)))) as at_once,
        program.open(batch_policy.policy) as engine,
    ):
        if program.slots_are_shared:  # while this run waited for them, others may have paid
            status = await look_up(rows, engine.journal, engine.store)
            outcomes |= status.existing
        entries |= status.entries
        shared_budget = SharedBudget(
            Budget(batch_policy.budget_usd, batch_policy.usd_per_video), engine.journal, budget_name
        )
        await shared_budget.open([row.generation_key for row in rows], entries)
        models = {row.order.model_id for row in rows}
        breaker = await open_breaker(
            engine, models, batch_policy.first_at_once, batch_policy.stop_after_alike, entries.values()
        )

        async def stopped(error: RunComfyError) -> None:
            await asyncio.gather(note_stop(engine, breaker), publish_halt(halt, error, program.hooks.log))

        async with (
            stop_on_halt(halt, breaker),
            program.progress(
                Tally(len(rows), at_once, outcomes), lambda: money(shared_budget.budget.spent_usd, batch_policy)
            ),
        ):
            scheduler = RowScheduler(
                engine, program.generate, shared_budget, breaker,
                at_once=at_once, paid_before=status.paid_before, ended=ended, stopped=stopped,
            )  # fmt: skip
            await scheduler.run(status.to_do(rows), until_proven=until_proven)
        await note_stop(engine, breaker)
        not_sent = await _reread_entries(rows, engine, shared_budget, entries, outcomes)
    return RowStatus(entries, {}).cost_usd(rows, price, not_sent)


async def _reread_entries(
    rows: Sequence[PlannedRow],
    engine: Engine,
    shared_budget: SharedBudget,
    entries: dict[str, Entry],
    outcomes: dict[int, Outcome],
) -> set[str]:
    """Read the journal again for rows without a video: another run may have paid for them, now or before.

    Returns:
        The generations whose intent another run has written without reserving money for it yet.
    """
    open_rows = {
        row.generation_key: row for row in rows if row.line in outcomes and not outcomes[row.line].status.is_good
    }
    not_sent = set[str]()
    try:
        async for found in engine.journal.read_all(list(open_rows)):
            entries[found.entry.generation_key] = found.entry
        not_sent = await shared_budget.not_sent(entries)
    except StorageError as error:
        engine.hooks.log.warning("The journal could not be read again; what was paid for may be more: %s", error)
    for key, row in open_rows.items():
        outcomes[row.line] = true_outcome(outcomes[row.line], entries.get(key))
    return not_sent


def money(spent_usd: float, batch_policy: BatchPolicy) -> str:
    """Return what was spent as text, for the progress; empty if nothing was."""
    if batch_policy.budget_usd is not None:
        return f"{spent_usd:,.2f} of {batch_policy.budget_usd:,.2f} USD spent"
    return f"{spent_usd:,.2f} USD spent" if spent_usd else ""


@asynccontextmanager
async def _outcomes_written(
    outcomes: Mapping[int, Outcome], shard: Shard, store: Store, log: Log
) -> AsyncIterator[None]:
    """Write the outcomes of a shard every 15 seconds while the body runs, and once more however it ends."""
    over = asyncio.Event()

    async def write() -> None:
        document = outcomes_to_json(dict(outcomes))
        await asyncio.to_thread(store.put, shard.outcomes_key, document, content_type="application/x-ndjson")

    async def keep_writing() -> None:
        while not over.is_set():  # also where nothing has changed: it shows that this worker is alive
            try:
                await write()
            except StorageError as error:
                log.warning("The outcomes of the rows could not be written yet: %s", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _WRITE_SECONDS)

    writing = asyncio.create_task(keep_writing())
    try:
        yield
    finally:
        over.set()  # not cancelled: a write in progress must not come after the last one
        with anyio.move_on_after(25, shield=True):
            await asyncio.wait([writing])
            await write()
