"""A cause that is common to all pays for a few, not for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runcomfy.errors import CommonCause
from runcomfy.outcomes import Outcome, OutcomeStatus
from runcomfy.proving import Proving

GOOD = Outcome(label="x", status=OutcomeStatus.ARCHIVED)
REFUSED = Outcome(label="x", status=OutcomeStatus.REFUSED, error="No.", error_type="InvalidInput")


def failed(kind: str = "GenerationFailed", code: str = "", status: OutcomeStatus = OutcomeStatus.FAILED) -> Outcome:
    return Outcome(label="x", status=status, error="It broke.", error_type=kind, error_code=code or None)


async def paid(
    proving: Proving, ends: Callable[[int], Outcome], *, rows: int = 200, at_once: int = 50, slow: tuple[int, ...] = ()
) -> int:
    """Run rows as a batch does, and return how many were paid for; those that are slow end last."""
    places, count, late = asyncio.Semaphore(at_once), 0, asyncio.Event()

    async def generate(row: int, number: int) -> None:
        nonlocal count
        count += ends(row).status.may_be_paid
        await (late.wait() if row in slow else asyncio.sleep(0))
        places.release()
        proving.end(number, ends(row), was_sent=True)

    async with asyncio.TaskGroup() as group:
        for row in range(rows):
            await places.acquire()
            try:
                number = await asyncio.wait_for(proving.begin("model"), 5)
            except CommonCause:
                break
            group.create_task(generate(row, number))
        late.set()
    return count


@pytest.mark.parametrize(
    "status", [OutcomeStatus.FAILED, OutcomeStatus.DETACHED, OutcomeStatus.UNCERTAIN, OutcomeStatus.CANCELLED]
)
async def test_rows_that_fail_alike_pay_for_five(status: OutcomeStatus) -> None:
    """However they fail, as long as that may be billed."""
    proving = Proving()

    assert await paid(proving, lambda row: failed("ArchiveError", "301", status)) == 5
    assert proving.stopped is not None
    assert "ArchiveError (301): It broke" in proving.stopped.message and "first_at_once" in proving.stopped.message
    assert (proving.stopped.error_code, proving.stopped.cause_type) == ("301", "ArchiveError")


async def test_a_cause_that_arises_later_pays_for_what_was_under_way_and_twenty() -> None:
    """Those that were begun before it, and end well after it, hide nothing."""
    proving = Proving()

    count = await paid(
        proving, lambda row: GOOD if row < 100 else failed(), rows=1000, slow=(60, 70, 80, 90)
    )  # fmt: skip

    assert count <= 100 + 50 + 20
    assert proving.stopped is not None and "20 in a row" in proving.stopped.message


async def test_rows_that_fail_each_in_its_own_way_are_tried_five_at_a_time() -> None:
    """They prove no common cause."""
    assert await paid(Proving(), lambda row: failed(code=str(row))) == 200


async def test_two_causes_by_turns_are_both_common() -> None:
    """What comes between without a video makes no failure a different one."""
    assert await paid(Proving(), lambda row: failed(code=str(row % 2))) <= 9


async def test_refusals_that_cost_nothing_prove_nothing() -> None:
    """Rows that are wrong by themselves leave the others their turn."""
    proving = Proving()

    assert await paid(proving, lambda row: REFUSED if row < 100 else GOOD) == 100
    assert proving.stopped is None


async def test_what_worked_lately_needs_no_proof() -> None:
    """Then all begin at once, and twenty alike stop it."""
    proving = Proving(proven={"model"})
    numbers = [await asyncio.wait_for(proving.begin("model"), 1) for _ in range(50)]

    for number in numbers[:19]:
        proving.end(number, failed(), was_sent=True)
    assert proving.stopped is None
    proving.end(numbers[19], failed(), was_sent=True)
    assert proving.stopped is not None


async def test_each_model_is_proven_for_itself() -> None:
    """One that works does not open the gate for one that has not been tried; and none waits for ever."""
    proving = Proving(first_at_once=2, proven={"a"})
    for _ in range(10):
        proving.end(await proving.begin("a"), failed(), was_sent=True)

    await asyncio.wait_for(proving.begin("b"), 1)
    await asyncio.wait_for(proving.begin("b"), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(proving.begin("b"), 0.05)


async def test_what_was_uncertain_before_is_no_news() -> None:
    """Rows that wait for a person from earlier runs do not stop the others; what is collected and fails alike does."""
    proving, old = Proving(), failed("UncertainSubmission", status=OutcomeStatus.UNCERTAIN)
    for _ in range(40):
        proving.end(await proving.begin("model", is_paid=True), old, was_sent=False)
    assert proving.stopped is None

    for _ in range(5):
        proving.end(await proving.begin("model", is_paid=True), failed("ArchiveError"), was_sent=False)
    with pytest.raises(CommonCause):
        await proving.begin("model")
