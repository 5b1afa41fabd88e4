"""A cause that is common to all pays for a few, not for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runcomfy.batch.circuit_breaker import CircuitBreaker
from runcomfy.errors import CommonCause, InsufficientBalance
from runcomfy.values import Outcome, OutcomeStatus

GOOD = Outcome(label="x", status=OutcomeStatus.ARCHIVED)
REFUSED = Outcome(label="x", status=OutcomeStatus.REFUSED, error="No.", error_type="InvalidInput")


def failed(kind: str = "GenerationFailed", code: str = "", status: OutcomeStatus = OutcomeStatus.FAILED) -> Outcome:
    return Outcome(label="x", status=status, error="It broke.", error_type=kind, error_code=code or None)


async def paid(
    breaker: CircuitBreaker,
    ends: Callable[[int], Outcome],
    *,
    rows: int = 200,
    at_once: int = 50,
    slow: tuple[int, ...] = (),
) -> int:
    """Run rows as a batch does, and return how many were paid for; those that are slow end last."""
    slots, count, late = asyncio.Semaphore(at_once), 0, asyncio.Event()

    async def generate(row: int, number: int) -> None:
        nonlocal count
        count += ends(row).status.may_be_paid
        await (late.wait() if row in slow else asyncio.sleep(0))
        slots.release()
        breaker.end(number, ends(row), was_sent=True)

    async with asyncio.TaskGroup() as group:
        for row in range(rows):
            await slots.acquire()
            try:
                number = await asyncio.wait_for(breaker.begin("model"), 60)
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
    breaker = CircuitBreaker()

    assert await paid(breaker, lambda row: failed("ArchiveError", "301", status)) == 5
    assert breaker.stopped is not None
    assert "ArchiveError (301): It broke" in breaker.stopped.message and "first_at_once" in breaker.stopped.message
    assert (breaker.stopped.error_code, breaker.stopped.cause_type) == ("301", "ArchiveError")


async def test_a_cause_that_arises_later_pays_for_what_was_under_way_and_twenty() -> None:
    """Those that were begun before it, and end well after it, hide nothing."""
    breaker = CircuitBreaker()

    count = await paid(
        breaker, lambda row: GOOD if row < 100 else failed(), rows=1000, slow=(60, 70, 80, 90)
    )  # fmt: skip

    assert count <= 100 + 50 + 20
    assert breaker.stopped is not None and "20 in a row" in breaker.stopped.message


async def test_what_a_person_rejected_before_says_nothing_of_what_is_sent_next() -> None:
    """It was paid for by an earlier run, which may have sent hundreds; nor does an old uncertain one."""
    breaker = CircuitBreaker()
    for outcome in 30 * [failed("OutputRejected"), failed("UncertainSubmission", status=OutcomeStatus.UNCERTAIN)]:
        breaker.end(await breaker.begin("model", is_paid=True), outcome, was_sent=False)

    assert breaker.stopped is None
    assert await paid(breaker, lambda row: GOOD) == 200


async def test_rows_that_fail_for_different_reasons_are_tried_five_at_a_time() -> None:
    """They prove no common cause."""
    assert await paid(CircuitBreaker(), lambda row: failed(code=str(row))) == 200


async def test_two_alternating_causes_are_both_common() -> None:
    """Failures in between do not make the next one a different failure."""
    assert await paid(CircuitBreaker(), lambda row: failed(code=str(row % 2))) <= 9


async def test_refusals_that_cost_nothing_prove_nothing() -> None:
    """Rows that are wrong by themselves leave the others their turn."""
    breaker = CircuitBreaker()

    assert await paid(breaker, lambda row: REFUSED if row < 100 else GOOD) == 100
    assert breaker.stopped is None


async def test_a_recently_proven_model_needs_no_proof() -> None:
    """Then all begin at once, and twenty alike stop it."""
    breaker = CircuitBreaker(proven={"model"})
    numbers = [await asyncio.wait_for(breaker.begin("model"), 60) for _ in range(50)]

    for number in numbers[:19]:
        breaker.end(number, failed(), was_sent=True)
    assert breaker.stopped is None
    breaker.end(numbers[19], failed(), was_sent=True)
    assert breaker.stopped is not None


async def test_each_model_is_proven_for_itself() -> None:
    """One that works does not let others begin that have not been tried; and none waits indefinitely."""
    breaker = CircuitBreaker(first_at_once=2, proven={"a"})
    for _ in range(10):
        breaker.end(await breaker.begin("a"), failed(), was_sent=True)

    await asyncio.wait_for(breaker.begin("b"), 60)
    await asyncio.wait_for(breaker.begin("b"), 60)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(breaker.begin("b"), 0.05)


async def test_an_earlier_uncertain_row_does_not_count() -> None:
    """Rows of earlier runs that wait for a person do not stop the others; collected ones that fail alike do."""
    breaker, old = CircuitBreaker(), failed("UncertainSubmission", status=OutcomeStatus.UNCERTAIN)
    for _ in range(40):
        breaker.end(await breaker.begin("model", is_paid=True), old, was_sent=False)
    assert breaker.stopped is None

    for _ in range(5):
        breaker.end(await breaker.begin("model", is_paid=True), failed("ArchiveError"), was_sent=False)
    with pytest.raises(CommonCause):
        await breaker.begin("model")


async def stopped_run(*, proven: tuple[str, ...] = ()) -> CircuitBreaker:
    """Return a run that was stopped by what fails alike."""
    breaker = CircuitBreaker(proven=proven)
    await paid(breaker, lambda row: failed(code="301"), at_once=30)
    assert breaker.stops["model"].alike == (20 if proven else 5)
    return breaker


@pytest.mark.parametrize("proven", [(), ("model",)])
async def test_after_a_stop_the_next_run_pays_for_one(proven: tuple[str, ...]) -> None:
    """Over and over, as a schedule does; also where one was archived before the cause arose."""
    earlier = await stopped_run(proven=proven)
    for _ in range(3):
        again = CircuitBreaker(proven=proven, stopped_before=earlier.stops)
        assert await paid(again, lambda row: failed(code="301")) == 1
        assert isinstance(again.stopped, CommonCause) and "the same again" in again.stopped.message
        assert again.stops["model"].alike == earlier.stops["model"].alike, "what has to be raised does not grow"
        earlier = again


async def test_after_a_stop_one_that_is_archived_lets_all_begin() -> None:
    """The cause is over: all are made, one of them before the others."""
    breaker = CircuitBreaker(stopped_before=(await stopped_run()).stops)
    first = await breaker.begin("model")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(breaker.begin("model"), 0.05)
    breaker.end(first, GOOD, was_sent=True)

    assert await paid(breaker, lambda row: GOOD) == 200


async def test_after_a_stop_another_cause_is_counted_from_its_beginning() -> None:
    """And so is none: those that fail each in its own way are tried, one at a time."""
    before = (await stopped_run()).stops

    assert await paid(CircuitBreaker(stopped_before=before), lambda row: failed(code="302")) == 5
    assert await paid(CircuitBreaker(stopped_before=before), lambda row: failed(code=str(row))) == 200


@pytest.mark.parametrize("proven", [(), ("model",)])
async def test_a_setting_that_is_raised_above_what_failed_ends_the_stop(proven: tuple[str, ...]) -> None:
    """As the message advises where each has a reason of its own."""
    earlier = await stopped_run(proven=proven)
    assert earlier.stopped is not None
    setting, alike = ("stop_after_alike", 20) if proven else ("first_at_once", 5)
    assert f"raise {setting} above {alike}" in earlier.stopped.message

    again = CircuitBreaker(**{setting: alike + 1}, proven=proven, stopped_before=earlier.stops)

    assert alike < await paid(again, lambda row: failed(code="301"), at_once=30) <= alike + 31


async def test_after_a_stop_requests_of_the_stopped_run_do_not_count() -> None:
    """Requests of the earlier run may fail indefinitely when they are collected, even when the cause is over."""
    breaker = CircuitBreaker(stopped_before=(await stopped_run()).stops)
    for _ in range(20):
        breaker.end(await breaker.begin("model", is_paid=True), failed(code="301"), was_sent=False)

    assert await paid(breaker, lambda row: GOOD) == 200


async def test_of_several_models_that_were_stopped_each_may_be_tried() -> None:
    """One of either may always be tried; an archived one of one model proves nothing about the other."""
    stop = (await stopped_run()).stops["model"]
    breaker = CircuitBreaker(stopped_before={"a": stop, "b": stop})
    breaker.end(await asyncio.wait_for(breaker.begin("a"), 60), GOOD, was_sent=True)
    await asyncio.wait_for(breaker.begin("a"), 60)
    number = await asyncio.wait_for(breaker.begin("b"), 60)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(breaker.begin("b"), 0.05)
    breaker.end(number, failed(code="301"), was_sent=True)

    assert list(breaker.stops) == ["b"]


async def test_a_stop_from_outside_ends_those_that_wait() -> None:
    """Such as that of another shard of a batch; the first stop stays."""
    breaker = CircuitBreaker(first_at_once=1)
    await breaker.begin("model")
    waiting = asyncio.create_task(breaker.begin("model"))
    await asyncio.sleep(0)
    breaker.stop(InsufficientBalance("No."))
    breaker.stop(CommonCause("Later."))

    with pytest.raises(InsufficientBalance):
        await asyncio.wait_for(waiting, 60)
    assert breaker.stops == {}
