"""Generate the rows of a plan, a bounded number at once, within a budget, and no more once they fail alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import anyio

from runcomfy.api.requests import token_is_refused
from runcomfy.batch.circuit_breaker import CircuitBreaker
from runcomfy.batch.halt import CONCERN_ALL
from runcomfy.batch.plan import PlannedRow
from runcomfy.batch.program import GenerateOne
from runcomfy.batch.shared_budget import SharedBudget
from runcomfy.errors import (
    AuthenticationError,
    BudgetReached,
    RunComfyError,
    StorageError,
)
from runcomfy.generation.engine import Engine
from runcomfy.generation.outcomes import outcome_of
from runcomfy.generation.phases import working_on
from runcomfy.journal import Entry, EntryState
from runcomfy.values import Outcome, OutcomeStatus

__all__ = ["RowScheduler"]


class RowScheduler:
    """Generates every row; one failure does not stop the others, but what concerns all stops what has not begun.

    Args:
        engine: The account, the bucket and the policy.
        generate: Makes one of the rows.
        shared_budget: What they may cost. A row is begun only if the price of one is left, and each send is reserved
            before it is made.
        breaker: How many may be begun until one is archived, and when failures stop the rest.
        at_once: How many are in progress at the same time.
        paid_before: Whether a row has a request already, so that nothing has to be left for it.
        ended: Called with each row, its outcome, and what the journal says of it then, if that is known.
        stopped: Awaited once, as soon as there is an error that concerns all.
    """

    def __init__(
        self,
        engine: Engine,
        generate: GenerateOne,
        shared_budget: SharedBudget,
        breaker: CircuitBreaker,
        *,
        at_once: int,
        paid_before: Callable[[PlannedRow], bool],
        ended: Callable[[PlannedRow, Outcome, Entry | None], None],
        stopped: Callable[[RunComfyError], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._log = engine.hooks.log
        self._generate_one = generate
        self._shared_budget = shared_budget
        self._breaker = breaker
        self._slots = asyncio.Semaphore(at_once)
        self._budget_changed = asyncio.Condition()
        self._paid_before = paid_before
        self._ended = ended
        self._stopped = stopped
        self._has_reported = False
        self._cancelled = False
        self._second_turn: list[PlannedRow] | None = []

    async def run(self, rows: Sequence[PlannedRow], *, until_proven: bool = False) -> None:
        """Generate them, those that are paid for already first.

        Args:
            rows: In the order in which they are begun.
            until_proven: Begin no more, and report no more, once all models are proven: other workers do the rest.
        """
        with working_on(len(rows), self._engine.hooks):
            await self._run(sorted(rows, key=lambda row: not self._paid_before(row)), until_proven=until_proven)
            rows, self._second_turn = self._second_turn or [], None
            await self._run(rows, until_proven=until_proven)
            await self._report_stop()

    async def _run(self, rows: Sequence[PlannedRow], *, until_proven: bool) -> None:
        models = {row.order.model_id for row in rows}
        async with asyncio.TaskGroup() as group:
            for row in rows:
                await self._slots.acquire()
                begun = await self._begin(row)
                if self._cancelled:
                    break
                if isinstance(begun, int) and until_proven and all(map(self._breaker.is_proven, models)):
                    self._undo_begin(row, begun)
                    break
                if isinstance(begun, int):
                    group.create_task(self._generate(row, begun))
                    await asyncio.sleep(0)  # Prefect takes milliseconds to start a task run: let others run in between
                else:
                    self._slots.release()
                    self._ended(row, self._not_started(row, begun), None)
        if self._cancelled:
            raise asyncio.CancelledError("the flow run was cancelled")

    async def _begin(self, row: PlannedRow) -> int | RunComfyError:
        """Return a row's number at the breaker, or why it cannot be begun."""
        try:
            number = await self._breaker.begin(row.order.model_id, is_paid=self._paid_before(row))
        except RunComfyError as error:
            return error
        refusal = None if self._paid_before(row) else await self._unaffordable(row)
        if refusal is None:
            return number
        self._undo_begin(row, number)
        return refusal

    def _undo_begin(self, row: PlannedRow, number: int) -> None:
        self._breaker.end(number, None, was_sent=False)
        self._shared_budget.end(row.generation_key)

    async def _unaffordable(self, row: PlannedRow) -> RunComfyError | None:
        """Set aside what a row may cost, waiting for rows in progress if that can help; or return why that failed."""
        async with self._budget_changed:
            while not self._cancelled:
                try:
                    self._shared_budget.begin(row.generation_key)
                except BudgetReached as error:
                    if self._shared_budget.budget.is_idle:
                        return error
                    await self._budget_changed.wait()
                else:
                    break
        return self._breaker.stopped

    async def _generate(self, row: PlannedRow, number: int) -> None:
        was_sent = False

        async def authorise() -> None:
            nonlocal was_sent
            await self._shared_budget.authorise(row.generation_key)
            was_sent = True

        outcome = None
        try:
            outcome = await self._generate_one(
                row.order, row.staged, self._engine, label=row.label, authorise=authorise
            )
        except asyncio.CancelledError:  # a task group would ignore the cancellation of a member
            self._cancelled = True
            with anyio.CancelScope(shield=True):
                async with self._budget_changed:
                    self._budget_changed.notify_all()
            raise
        finally:
            self._slots.release()
            self._breaker.end(number, outcome, was_sent=was_sent)
        if (kind := CONCERN_ALL.get(outcome.error_type or "")) and await self._is_true_of_all(kind):
            self._breaker.stop(kind(f"Not started, since another row was refused: {outcome.error}"))
        await self._report_stop()
        entry = await self._entry(row, outcome)
        try:
            await self._shared_budget.settle(row.generation_key, entry)
        except StorageError as error:  # what was reserved stays reserved; the next run corrects it
            self._log.warning("The budget's note could not be written: %s", error)
        async with self._budget_changed:
            self._budget_changed.notify_all()
        if outcome.error_type == BudgetReached.__name__:
            outcome = outcome.model_copy(update={"status": OutcomeStatus.NOT_STARTED})
            if self._second_turn is not None:  # another run took the last of it, but rows in progress may leave some
                self._second_turn.append(row)
                return
        self._ended(row, outcome, entry)

    async def _is_true_of_all(self, kind: type[RunComfyError]) -> bool:
        """Whether an error concerns all rows; a refused token is tried again first, as a proxy may have refused it."""
        if kind is not AuthenticationError or self._breaker.stopped is not None:
            return True
        return await token_is_refused(self._engine.client)

    async def _report_stop(self) -> None:
        if (error := self._breaker.stopped) is not None and not self._has_reported:
            self._has_reported = True
            self._log.error("No further row is started. %s", error)
            await self._stopped(error)

    async def _entry(self, row: PlannedRow, outcome: Outcome) -> Entry | None:
        """Return the journal's entry of a row that has ended; `None` if there is none or it cannot be read."""
        found = self._engine.journal.written(row.generation_key)
        try:
            if found is None or found.entry.state is not EntryState.ARCHIVED:  # what was archived just now is final
                found = await self._engine.journal.read(row.generation_key)
        except StorageError as error:
            self._log.warning("The journal's entry of %s could not be read: %s", outcome.label, error)
            return None
        return found.entry if found else None

    def _not_started(self, row: PlannedRow, why: RunComfyError) -> Outcome:
        outcome = outcome_of(why, row.label, key=row.generation_key)
        return outcome.model_copy(update={"status": OutcomeStatus.NOT_STARTED, "retryable": True})
