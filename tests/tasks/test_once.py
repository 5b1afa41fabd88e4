"""One outcome for everybody in this process who asks for the same submission."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from runcomfy.errors import InsufficientBalance, SubmissionNotSent, UncertainSubmission
from runcomfy.submitting import Submission
from tasks.once import once

SUBMISSION = Submission(
    request_id="r1", model_id="m", generation_key="k", submitted_at=datetime(2026, 11, 21, tzinfo=UTC)
)
Accepted = Callable[[Submission], None]


async def test_whoever_asks_gets_what_the_first_submitted(prefix: str) -> None:
    """At the same time or later, in this loop or in another thread's, it is submitted once."""
    sent = 0

    async def submit(accepted: Accepted) -> Submission:
        nonlocal sent
        sent += 1
        await asyncio.sleep(0)
        return SUBMISSION

    at_once = await asyncio.gather(*(once(prefix, submit) for _ in range(20)))
    elsewhere: list[Submission] = []
    thread = threading.Thread(target=lambda: elsewhere.append(asyncio.run(once(prefix, submit))))
    thread.start()
    await asyncio.to_thread(thread.join)

    assert [*at_once, *elsewhere] == [SUBMISSION] * 21
    assert sent == 1


async def test_an_uncertain_submission_stays_uncertain(prefix: str) -> None:
    """Asking again does not send it again."""
    sent = 0

    async def submit(accepted: Accepted) -> Submission:
        nonlocal sent
        sent += 1
        raise UncertainSubmission("Perhaps.")

    for _ in range(3):
        with pytest.raises(UncertainSubmission):
            await once(prefix, submit)
    assert sent == 1


async def test_what_was_surely_refused_may_be_tried_again(prefix: str) -> None:
    """After topping up, a retry submits."""
    answers: list[Exception | Submission] = [InsufficientBalance("Top up."), SUBMISSION]

    async def submit(accepted: Accepted) -> Submission:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(InsufficientBalance):
        await once(prefix, submit)
    assert await once(prefix, submit) == SUBMISSION


@pytest.mark.parametrize("was_accepted", [True, False])
async def test_a_cancelled_first_caller_leaves_what_is_true(prefix: str, was_accepted: bool) -> None:
    """A request that was accepted is everybody's; one that was never sent is nobody's, and may be tried again."""
    started = asyncio.Event()

    async def submit(accepted: Accepted) -> Submission:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if was_accepted:
                accepted(SUBMISSION)
            raise
        raise AssertionError("unreachable")

    async def again(accepted: Accepted) -> Submission:
        return SUBMISSION.model_copy(update={"request_id": "r2"})

    first = asyncio.ensure_future(once(prefix, submit))
    await started.wait()
    waiting = asyncio.ensure_future(once(prefix, again))
    await asyncio.sleep(0)
    first.cancel()

    with pytest.raises(asyncio.CancelledError):
        await first
    if was_accepted:
        assert await waiting == SUBMISSION
    else:
        with pytest.raises(SubmissionNotSent):
            await waiting
    assert (await once(prefix, again)).request_id == ("r1" if was_accepted else "r2")
