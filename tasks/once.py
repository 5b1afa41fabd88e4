"""Within this process, submit a generation once for each flow run, however often it is asked for, and by whom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from cachetools import LRUCache

from runcomfy.errors import SubmissionNotSent, UncertainSubmission
from runcomfy.submitting import Submission

__all__ = ["once"]

# Enough for the retries of what one process has in flight, in a few tens of megabytes.
_outcomes: LRUCache[str, Future[Submission]] = LRUCache(maxsize=20_000)
_guard = threading.Lock()


async def once(key: str, submit: Callable[[Callable[[Submission], None]], Awaitable[Submission]]) -> Submission:
    """Return what the first caller with this key submitted, or raise what became of it.

    An uncertain submission stays what it is: asking again does not send it again. What was surely not accepted is
    forgotten, so that a later caller may try.

    Args:
        key: Names the flow run and the generation.
        submit: Submits. It is given a function to call with an accepted request that it cannot return, because it was
            cancelled.
    """
    with _guard:
        first = key not in _outcomes
        outcome = _outcomes.setdefault(key, Future())
    if not first:
        return await asyncio.shield(asyncio.wrap_future(outcome))

    def accepted(submission: Submission) -> None:
        if not outcome.done():
            outcome.set_result(submission)

    try:
        accepted(submission := await submit(accepted))
        return submission
    except BaseException as error:
        if not outcome.done():
            if not isinstance(error, UncertainSubmission):
                with _guard:
                    _outcomes.pop(key, None)
            not_sent = SubmissionNotSent("Who asked first was interrupted before anything was sent. Try again.")
            outcome.set_exception(error if isinstance(error, Exception) else not_sent)
        raise
