"""Stop paying for a cause that is common to all: a few first, then many, and no more once they fail alike.

"In a row" means in the order in which they were begun, with none between them that was archived. So one that was begun
before a cause arose, and is archived after that, does not hide the cause.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from runcomfy.errors import CommonCause, OutputRejected, RunComfyError
from runcomfy.generation.engine import Engine
from runcomfy.journal import Entry, StopNote, note_stops, recent_proof
from runcomfy.values import Outcome, OutcomeStatus

__all__ = ["FIRST_AT_ONCE", "STOP_AFTER_ALIKE", "CircuitBreaker", "note_stop", "open_breaker"]

FIRST_AT_ONCE = 5
STOP_AFTER_ALIKE = 20


@dataclass(frozen=True)
class _Failure:
    number: int
    model_id: str
    cause: tuple[str, str]


class CircuitBreaker:
    """Lets generations begin.

    Until the first of a model is archived, those that are in progress and those that have failed alike are never more
    than `first_at_once` together. When so many have failed alike, or later `stop_after_alike` in a row, nothing more
    begins. Different failures are counted separately, and refusals that cost nothing are not counted.

    Args:
        first_at_once: How many are begun until one is archived.
        stop_after_alike: How many that fail alike in a row stop the rest, later.
        proven: The models that need no proof.
        stopped_before: What stopped an earlier run, by model. Until one is archived, one is begun at a time, and when
            it fails alike, nothing more; unless the setting that stopped it is larger now than what had failed.
    """

    def __init__(
        self,
        first_at_once: int = FIRST_AT_ONCE,
        stop_after_alike: int = STOP_AFTER_ALIKE,
        proven: Iterable[str] = (),
        stopped_before: Mapping[str, StopNote] | None = None,
    ) -> None:
        self.stopped: RunComfyError | None = None
        """Why nothing more begins."""
        self.stops: dict[str, StopNote] = {}
        """What the next run has to know of that, by model; empty if `stop` was called from outside."""
        self._first_at_once, self._stop_after_alike = first_at_once, stop_after_alike
        limits = {"first_at_once": first_at_once, "stop_after_alike": stop_after_alike}
        before = (stopped_before or {}).items()
        self._before = {model: stop for model, stop in before if stop.alike >= limits[stop.setting]}
        self._proven = set(proven) - self._before.keys()
        self._count = 0
        self._under_way: dict[int, str] = {}
        self._failures: list[_Failure] = []
        self._changed = asyncio.Event()

    def is_proven(self, model_id: str) -> bool:
        """Whether one of this model was archived, here or recently."""
        return model_id in self._proven

    async def begin(self, model_id: str, *, is_paid: bool = False) -> int:
        """Wait until one more may begin, and return its number for `end`.

        Args:
            model_id: Its model.
            is_paid: Whether it was paid for before: then it need not wait, but its end counts.

        Raises:
            RunComfyError: it may not begin; most often `CommonCause`, since others have failed alike.
        """
        while self.stopped is None and not (is_paid or self._may_begin(model_id)):
            await self._changed.wait()
        if self.stopped is not None:
            raise self.stopped
        self._count += 1
        self._under_way[self._count] = model_id
        return self._count

    def end(self, number: int, outcome: Outcome | None, *, was_sent: bool) -> None:
        """Record an end; call it for each that has begun.

        Args:
            number: What `begin` returned.
            outcome: How it ended; `None` if it was interrupted.
            was_sent: Whether this run sent it, and not an earlier one.
        """
        model_id = self._under_way.pop(number)
        if outcome is not None and outcome.status is OutcomeStatus.ARCHIVED:
            self._proven.add(model_id)
            self._failures = [failure for failure in self._failures if failure.number > number]
        elif outcome is not None and _counts(outcome, was_sent=was_sent):
            cause = (outcome.error_type or str(outcome.status), outcome.error_code or "")
            if was_sent or cause not in self._causes_before():  # requests of the stopped run may fail indefinitely
                self._failures.append(_Failure(number, model_id, cause))
                self._judge(cause, outcome.error or str(outcome.status))
        self._wake()

    def stop(self, error: RunComfyError) -> None:
        """Let nothing more begin, for a reason that concerns all; the first reason stays."""
        self.stopped = self.stopped or error
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _may_begin(self, model_id: str) -> bool:
        if self.is_proven(model_id):
            return True
        under_way = sum(not self.is_proven(model) for model in self._under_way.values())
        return under_way + max(self._first_alike().values(), default=0) < self._first_at_once

    def _first_alike(self) -> Counter[tuple[str, str]]:
        """How many have failed by which cause, of models without proof; what stopped an earlier run is all but one."""
        alike = Counter(failure.cause for failure in self._failures if not self.is_proven(failure.model_id))
        for cause in self._causes_before():
            alike[cause] += self._first_at_once - 1
        return alike

    def _causes_before(self) -> dict[tuple[str, str], StopNote]:
        """What stopped earlier runs, by cause, of models of which none was archived since."""
        before = [stop for model, stop in self._before.items() if not self.is_proven(model)]
        return {stop.cause: stop for stop in sorted(before, key=lambda stop: stop.alike)}

    def _judge(self, cause: tuple[str, str], said: str) -> None:
        if self.stopped is not None:
            return
        alike = sum(failure.cause == cause for failure in self._failures)
        first = self._first_alike()[cause]
        if first >= self._first_at_once and (most := self._causes_before().get(cause)):
            how = f"An earlier run was stopped when {most.alike} had failed alike, and it is the same again"
            self._stop(how, cause, said, most.setting, most.alike)
        elif first >= self._first_at_once:
            self._stop(f"The first {first} that were paid for failed alike", cause, said, "first_at_once", first)
        elif alike >= self._stop_after_alike:
            self._stop(f"{alike} in a row that were paid for failed alike", cause, said, "stop_after_alike", alike)

    def _stop(
        self,
        how: str,
        cause: tuple[str, str],
        said: str,
        setting: Literal["first_at_once", "stop_after_alike"],
        alike: int,
    ) -> None:
        kind, code = cause
        note = StopNote(error_type=kind, error_code=code, alike=alike, setting=setting, at=datetime.now(UTC))
        self.stops = {failure.model_id: note for failure in self._failures if failure.cause == cause}
        self.stop(
            CommonCause(
                f"{how}, so nothing more is sent. The cause: {kind}{f' ({code})' if code else ''}: {said.rstrip('.')}. "
                f"Remove it first; only if each has a reason of its own, raise {setting} above {alike}.",
                error_code=code or None,
                cause_type=kind,
            )
        )


def _counts(outcome: Outcome, *, was_sent: bool) -> bool:
    """Whether it failed after it may have been paid for.

    Of those that an earlier run sent, what is still uncertain does not count, nor what a person has rejected: they say
    nothing of what is sent next.
    """
    if outcome.status.is_good or not outcome.status.may_be_paid:
        return False
    is_of_before = outcome.status is OutcomeStatus.UNCERTAIN or outcome.error_type == OutputRejected.__name__
    return was_sent or not is_of_before


async def open_breaker(
    engine: Engine,
    models: Iterable[str],
    first_at_once: int,
    stop_after_alike: int,
    entries: Iterable[Entry] = (),
) -> CircuitBreaker:
    """Return what lets generations begin; a model of which one was archived recently needs no proof.

    Args:
        engine: The account and the bucket.
        models: Which are wanted.
        first_at_once: How many are begun until one is archived.
        stop_after_alike: How many that fail alike in a row stop the rest, later.
        entries: What is known of the journal already.
    """
    lately = await recent_proof(engine.journal, engine.client.base_url, engine.destination.uri, models, entries)
    return CircuitBreaker(first_at_once, stop_after_alike, lately.archived, lately.stopped)


async def note_stop(engine: Engine, breaker: CircuitBreaker) -> None:
    """Let the next run know what stopped this one: at once, and again when what was in progress has ended."""
    if breaker.stops:
        await note_stops(engine.journal, engine.client.base_url, engine.destination.uri, breaker.stops)
