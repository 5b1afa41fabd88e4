"""Generate the rows of a plan, a bounded number at once, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import anyio
from prefect import get_run_logger

from runcomfy.batch.budget import Budget, cost_so_far
from runcomfy.batch.plan import PlannedRow
from runcomfy.errors import AuthenticationError, BudgetReached, InsufficientBalance, RunComfyError, StorageError
from runcomfy.journal import EntryState
from runcomfy.outcomes import Outcome, OutcomeStatus, outcome_of
from tasks.generate import generate_one
from tasks.service import Service
from tasks.telemetry import working_on

__all__ = ["run_rows"]

_CONCERN_ALL = {AuthenticationError.__name__, InsufficientBalance.__name__}


async def run_rows(
    rows: Sequence[PlannedRow],
    service: Service,
    budget: Budget,
    *,
    at_once: int,
    paid_before: Callable[[PlannedRow], bool],
    ended: Callable[[PlannedRow, Outcome], None],
) -> None:
    """Generate every row; the failure of one is its own, and what concerns all stops what has not begun.

    Args:
        rows: In the order in which they are begun; those that are paid for already first.
        service: The account, the store and the rules.
        budget: What they may cost. A row is begun only if it can be afforded at the price of one.
        at_once: How many are under way at the same time.
        paid_before: Whether a row has a request already, so that nothing has to be left for it.
        ended: Called with each row and its outcome.
    """
    with working_on(len(rows)):
        await _Crew(service, budget, at_once, paid_before, ended).run(rows)


class _Crew:
    def __init__(
        self,
        service: Service,
        budget: Budget,
        at_once: int,
        paid_before: Callable[[PlannedRow], bool],
        ended: Callable[[PlannedRow, Outcome], None],
    ) -> None:
        self._service = service
        self._budget = budget
        self._places = asyncio.Semaphore(at_once)
        self._settled = asyncio.Condition()
        self._paid_before = paid_before
        self._ended = ended
        self._concerns_all: RunComfyError | None = None
        self._cancelled = False

    async def run(self, rows: Sequence[PlannedRow]) -> None:
        async with asyncio.TaskGroup() as group:
            for row in sorted(rows, key=lambda row: not self._paid_before(row)):
                await self._places.acquire()
                refusal = self._concerns_all or (None if self._paid_before(row) else await self._unaffordable(row))
                if self._cancelled:
                    break
                if refusal is not None:
                    self._places.release()
                    self._ended(row, self._not_started(row, refusal))
                else:
                    group.create_task(self._generate(row))
                    await asyncio.sleep(0)  # Prefect's start of a task run takes milliseconds: not thousands in one go
        if self._cancelled:
            raise asyncio.CancelledError("the flow run was cancelled")

    async def _unaffordable(self, row: PlannedRow) -> BudgetReached | None:
        """Reserve what a row may cost, waiting for those under way where that can help; or say why it cannot be."""
        async with self._settled:
            while not self._cancelled:
                try:
                    self._budget.reserve(row.label)
                except BudgetReached as error:
                    if self._budget.is_idle:
                        return error
                    await self._settled.wait()
                else:
                    break
        return None

    async def _generate(self, row: PlannedRow) -> None:
        try:
            outcome = await generate_one(
                row.order, row.staged, self._service, label=row.label, authorise=lambda: self._authorise(row)
            )
        except asyncio.CancelledError:  # a group takes that of a member for the member's own affair
            self._cancelled = True
            with anyio.CancelScope(shield=True):
                async with self._settled:
                    self._settled.notify_all()
            raise
        finally:
            self._places.release()
        if outcome.status is OutcomeStatus.REFUSED and self._paid_before(row):
            outcome = outcome.model_copy(update={"status": OutcomeStatus.DETACHED})
        elif outcome.error_type == BudgetReached.__name__:
            outcome = outcome.model_copy(update={"status": OutcomeStatus.NOT_STARTED})
        cost_usd = await self._cost_so_far(row, outcome)
        async with self._settled:
            self._budget.settle(row.label, cost_usd, its_own_usd=outcome.cost_usd)
            self._settled.notify_all()
        if outcome.error_type in _CONCERN_ALL and not self._concerns_all:
            self._concerns_all = RunComfyError(f"Not started, since another row was refused: {outcome.error}")
            get_run_logger().error("No further row is started: %s", outcome.error)
        self._ended(row, outcome)

    async def _authorise(self, row: PlannedRow) -> None:
        """Reserve what a row may cost at the last moment, with what other runs have paid for it if there is a limit.

        Raises:
            BudgetReached: it cannot be afforded.
        """
        if self._budget.limit_usd is not None:
            found = await self._service.journal.read(row.generation_key)
            self._budget.has_cost(row.label, cost_so_far(found.entry if found else None, self._budget.price_usd))
        self._budget.reserve(row.label)

    async def _cost_so_far(self, row: PlannedRow, outcome: Outcome) -> float:
        """What all requests of a row have cost, by the journal; where it cannot be read, what its outcome says."""
        found = self._service.journal.written(row.generation_key)
        try:
            if found is None or found.entry.state is not EntryState.ARCHIVED:  # what was archived just now is final
                found = await self._service.journal.read(row.generation_key)
        except StorageError:
            return (outcome.cost_usd or self._budget.price_usd) if outcome.status.may_be_paid else 0.0
        return cost_so_far(found.entry if found else None, self._budget.price_usd)

    def _not_started(self, row: PlannedRow, why: RunComfyError) -> Outcome:
        outcome = outcome_of(why, row.label, key=row.generation_key)
        status = OutcomeStatus.DETACHED if self._paid_before(row) else OutcomeStatus.NOT_STARTED
        return outcome.model_copy(update={"status": status, "retryable": True})
