"""Stop paying for a cause that is common to all: a few first, then many, and no more once they fail alike.

"In a row" means in the order in which they were begun, without one between them that was archived. So what was begun
before a cause arose, and ends well after it, hides nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from runcomfy.errors import CommonCause
from runcomfy.outcomes import Outcome, OutcomeStatus

__all__ = ["FIRST_AT_ONCE", "STOP_AFTER_ALIKE", "Proving"]

FIRST_AT_ONCE = 5
STOP_AFTER_ALIKE = 20


@dataclass(frozen=True)
class _Failure:
    number: int
    model_id: str
    cause: tuple[str, str]


class Proving:
    """Lets generations begin.

    Until the first of a model is archived, those that are under way and those that have failed alike are never more
    than `first_at_once` together. When so many have failed alike, or later `stop_after_alike` in a row, nothing more
    begins. What failed differently does not count together, and what was refused without being paid for not at all.

    Args:
        first_at_once: How many are begun until one is archived.
        stop_after_alike: How many that fail alike in a row stop the rest, later.
        proven: The models that need no proof.
    """

    def __init__(
        self,
        first_at_once: int = FIRST_AT_ONCE,
        stop_after_alike: int = STOP_AFTER_ALIKE,
        proven: Iterable[str] = (),
    ) -> None:
        self.stopped: CommonCause | None = None
        """Why nothing more begins."""
        self._first_at_once, self._stop_after_alike = first_at_once, stop_after_alike
        self._proven = set(proven)
        self._count = 0
        self._under_way: dict[int, str] = {}
        self._failures: list[_Failure] = []
        self._changed = asyncio.Event()

    def is_proven(self, model_id: str) -> bool:
        """Whether one of this model was archived, here or lately."""
        return model_id in self._proven

    async def begin(self, model_id: str, *, is_paid: bool = False) -> int:
        """Wait until one more may begin, and return the number by which its end is told.

        Args:
            model_id: Its model.
            is_paid: Whether it was paid for before: then there is nothing to wait for, and its end tells the others.

        Raises:
            CommonCause: others have failed alike; it may not begin.
        """
        while self.stopped is None and not (is_paid or self._may_begin(model_id)):
            await self._changed.wait()
        if self.stopped is not None:
            raise self.stopped
        self._count += 1
        self._under_way[self._count] = model_id
        return self._count

    def end(self, number: int, outcome: Outcome | None, *, was_sent: bool) -> None:
        """Take note of an end; each that has begun has to come here.

        Args:
            number: What `begin` returned.
            outcome: How it ended; `None` if it was interrupted.
            was_sent: Whether it was sent here and now, and not by an earlier run.
        """
        model_id = self._under_way.pop(number)
        if outcome is not None and outcome.status is OutcomeStatus.ARCHIVED:
            self._proven.add(model_id)
            self._failures = [failure for failure in self._failures if failure.number > number]
        elif outcome is not None and _is_news(outcome, was_sent=was_sent):
            cause = (outcome.error_type or str(outcome.status), outcome.error_code or "")
            self._failures.append(_Failure(number, model_id, cause))
            self._judge(cause, outcome.error or str(outcome.status))
        self._changed.set()
        self._changed = asyncio.Event()

    def _may_begin(self, model_id: str) -> bool:
        if self.is_proven(model_id):
            return True
        under_way = sum(not self.is_proven(model) for model in self._under_way.values())
        alike = Counter(failure.cause for failure in self._unproven())
        return under_way + max(alike.values(), default=0) < self._first_at_once

    def _unproven(self) -> list[_Failure]:
        return [failure for failure in self._failures if not self.is_proven(failure.model_id)]

    def _judge(self, cause: tuple[str, str], said: str) -> None:
        alike = sum(failure.cause == cause for failure in self._failures)
        first = sum(failure.cause == cause for failure in self._unproven())
        if self.stopped is not None:
            return
        if first >= self._first_at_once:
            self._stop(f"The first {first} that were paid for failed alike", cause, said, "first_at_once")
        elif alike >= self._stop_after_alike:
            self._stop(f"{alike} in a row that were paid for failed alike", cause, said, "stop_after_alike")

    def _stop(self, how: str, cause: tuple[str, str], said: str, setting: str) -> None:
        kind, code = cause
        self.stopped = CommonCause(
            f"{how}, so nothing more is sent. The cause: {kind}{f' ({code})' if code else ''}: {said.rstrip('.')}. "
            f"Remove it first; only if each has a reason of its own, raise {setting}.",
            error_code=code or None,
            cause_type=kind,
        )


def _is_news(outcome: Outcome, *, was_sent: bool) -> bool:
    """Whether it failed after it may have been paid for; that an old submission is still uncertain is no news."""
    if outcome.status.is_good or not outcome.status.may_be_paid:
        return False
    return was_sent or outcome.status is not OutcomeStatus.UNCERTAIN
