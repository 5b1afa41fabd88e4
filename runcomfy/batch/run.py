"""Do what a plan says in this process: all of it, or the part that another process was given."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio

from runcomfy.batch.budget import Budget
from runcomfy.batch.circuit_breaker import FIRST_AT_ONCE, STOP_AFTER_ALIKE, note_stop, open_proving
from runcomfy.batch.estimate import Tally
from runcomfy.batch.halt import Halt, halting, tell_others
from runcomfy.batch.plan import PlannedRow, rows_from_json
from runcomfy.batch.prepare import BatchPlan
from runcomfy.batch.program import Program
from runcomfy.batch.results import outcomes_to_json
from runcomfy.batch.row_scheduler import run_rows
from runcomfy.batch.shard import Shard
from runcomfy.batch.shared_budget import SharedBudget, shared_budget_name
from runcomfy.batch.status import RowStatus, look_up, true_outcome
from runcomfy.errors import ConfigurationError, RunComfyError, StorageError
from runcomfy.generation.engine import Engine
from runcomfy.generation.hooks import Log
from runcomfy.journal import Entry
from runcomfy.policy import RunPolicy
from runcomfy.storage.store import Store
from runcomfy.values import Outcome

__all__ = ["BatchPolicy", "money", "run_here", "run_part"]

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

    def __post_init__(self) -> None:
        Budget(self.budget_usd, self.usd_per_video)  # a budget without a price is said before anything else

    def check_journal(self, choice: str) -> None:
        """Make sure that a budget is remembered.

        Raises:
            ConfigurationError: there is a budget, and the journal is `none`.
        """
        if self.budget_usd is not None and choice == "none":
            raise ConfigurationError("A budget needs a journal that outlives a process: the store's is 'none'.")


async def run_here(
    plan: BatchPlan, program: Program, rules: BatchPolicy, *, until_proven: bool = False
) -> tuple[dict[int, Outcome], float]:
    """Generate what has no video yet, in this process.

    Args:
        plan: What is to be done.
        program: The account, the bucket, and what the program adds.
        rules: What holds for all rows.
        until_proven: Begin no more once all models are proven; rows that were not begun have no outcome then.

    Returns:
        The outcome of every row, by line; and what all rows have cost until now, US dollars.

    Raises:
        ConfigurationError: there is a budget, and nothing that remembers what was paid for.
    """
    rules.check_journal(program.destination.journal_choice)
    outcomes, purse = dict(plan.standing.existing), shared_budget_name(row.generation_key for row in plan.rows)
    cost_usd = await _run(plan.rows, plan.standing, program, rules, outcomes, purse, until_proven=until_proven)
    return outcomes, cost_usd


async def run_part(shard: Shard, program: Program, rules: BatchPolicy) -> dict[str, int]:
    """Generate the rows of one part, write down what becomes of them, and return how many ended in which way."""
    store, journal = program.destination.store, program.destination.journal
    outcomes = dict[int, Outcome]()
    rows = rows_from_json(await asyncio.to_thread(store.read, shard.rows_key, limit_bytes=_MAX_ROWS_BYTES))
    async with _written_down(outcomes, shard, store, program.hooks.log):
        standing = await look_up(rows, journal, store)
        outcomes |= standing.existing
        halt = Halt(store, shard.halt_key)
        await _run(rows, standing, program, rules, outcomes, shard.shared_budget_of(rows), halt=halt)
    return dict(Counter(str(outcome.status) for outcome in outcomes.values()))


async def _run(
    rows: list[PlannedRow],
    standing: RowStatus,
    program: Program,
    rules: BatchPolicy,
    outcomes: dict[int, Outcome],
    budget_name: str,
    *,
    until_proven: bool = False,
    halt: Halt | None = None,
) -> float:
    """Generate rows, note what becomes of each, and return what all of them have cost until now, US dollars."""
    price = rules.usd_per_video or 0.0
    if not standing.to_do(rows):
        return standing.cost_usd(rows, price)
    entries: dict[str, Entry] = {}

    def ended(row: PlannedRow, outcome: Outcome, entry: Entry | None) -> None:
        outcomes[row.line] = outcome
        if entry is not None:
            entries[row.generation_key] = entry

    async with (
        program.slots(min(rules.at_once, len(standing.to_do(rows)))) as at_once,
        program.open(rules.policy) as engine,
    ):
        if program.slots_are_shared:  # they may have been waited for, and others have paid meanwhile
            standing = await look_up(rows, engine.journal, engine.store)
            outcomes |= standing.existing
        entries |= standing.entries
        purse = SharedBudget(Budget(rules.budget_usd, rules.usd_per_video), engine.journal, budget_name)
        await purse.open([row.generation_key for row in rows], entries)
        models = {row.order.model_id for row in rows}
        proving = await open_proving(engine, models, rules.first_at_once, rules.stop_after_alike, entries.values())

        async def stopped(error: RunComfyError) -> None:
            await asyncio.gather(note_stop(engine, proving), tell_others(halt, error, program.hooks.log))

        async with (
            halting(halt, proving),
            program.progress(Tally(len(rows), at_once, outcomes), lambda: money(purse.budget.spent_usd, rules)),
        ):
            await run_rows(
                standing.to_do(rows), engine, program.generate, purse, proving,
                at_once=at_once, paid_before=standing.paid_before, ended=ended, stopped=stopped,
                until_proven=until_proven,
            )  # fmt: skip
        await note_stop(engine, proving)
        not_sent = await _look_again(rows, engine, purse, entries, outcomes)
    return RowStatus(entries, {}).cost_usd(rows, price, not_sent)


async def _look_again(
    rows: Sequence[PlannedRow],
    engine: Engine,
    purse: SharedBudget,
    entries: dict[str, Entry],
    outcomes: dict[int, Outcome],
) -> set[str]:
    """Ask the journal what became of rows without a video: another run may have paid for them, now or before.

    Returns:
        The generations that another run is about to send, and has no money for yet.
    """
    open_rows = {
        row.generation_key: row for row in rows if row.line in outcomes and not outcomes[row.line].status.is_good
    }
    not_sent = set[str]()
    try:
        async for found in engine.journal.read_all(list(open_rows)):
            entries[found.entry.generation_key] = found.entry
        not_sent = await purse.not_sent(entries)
    except StorageError as error:
        engine.hooks.log.warning("What was paid for is told as it was known before: %s", error)
    for key, row in open_rows.items():
        outcomes[row.line] = true_outcome(outcomes[row.line], entries.get(key))
    return not_sent


def money(spent_usd: float, rules: BatchPolicy) -> str:
    """Return what there is to say of money, for the progress."""
    if rules.budget_usd is not None:
        return f"{spent_usd:,.2f} of {rules.budget_usd:,.2f} USD spent"
    return f"{spent_usd:,.2f} USD spent" if spent_usd else ""


@asynccontextmanager
async def _written_down(outcomes: Mapping[int, Outcome], shard: Shard, store: Store, log: Log) -> AsyncIterator[None]:
    """Write what became of a part's rows every few seconds while the body runs, and at its end, however it ends."""
    over = asyncio.Event()

    async def write() -> None:
        document = outcomes_to_json(dict(outcomes))
        await asyncio.to_thread(store.put, shard.outcomes_key, document, content_type="application/x-ndjson")

    async def keep_writing() -> None:
        while not over.is_set():  # also where nothing has changed: it is the sign that this worker lives
            try:
                await write()
            except StorageError as error:
                log.warning("What became of the rows could not be written down yet: %s", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _WRITE_SECONDS)

    writing = asyncio.create_task(keep_writing())
    try:
        yield
    finally:
        over.set()  # not cancelled: a write that is under way must not come after the last one
        with anyio.move_on_after(25, shield=True):
            await asyncio.wait([writing])
            await write()
