"""One run of the inbox: take up what has arrived, make a video of each image, and say what became of all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.batch.circuit_breaker import CircuitBreaker, note_stop, open_breaker
from runcomfy.batch.program import Program
from runcomfy.errors import ConfigurationError, RunComfyError
from runcomfy.generation.destination import Destination
from runcomfy.generation.engine import Engine
from runcomfy.generation.hooks import Log
from runcomfy.generation.outcomes import outcome_of
from runcomfy.inbox.consumer import take
from runcomfy.inbox.images import Source
from runcomfy.inbox.processor import Disposition, Generate, ImageProcessor, Received
from runcomfy.inbox.queue import Queue
from runcomfy.models import IMAGE_TO_VIDEO
from runcomfy.models.orders import Order
from runcomfy.policy import RunPolicy
from runcomfy.values import Outcome, OutcomeStatus, StagedImage, Submission

__all__ = ["InboxReport", "check_queue", "receive", "summed_up"]


class InboxReport(BaseModel):
    """What arrived in one run, and what became of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    received: tuple[Received, ...]
    elsewhere: int = Field(description="Arrivals that the queue told of, and that are none of this inbox.")
    stopped_because: str | None = Field(default=None, description="What kept more from being taken up.")

    @property
    def archived(self) -> int:
        """How many have their video in the archive, by this run or before it."""
        return sum(one.fate in (Disposition.ARCHIVED, Disposition.EXISTING) for one in self.received)

    @property
    def troubles(self) -> tuple[Received, ...]:
        """Those that were to become a video and did not, for now or for good."""
        return tuple(one for one in self.received if one.fate.is_trouble)

    @property
    def sentence(self) -> str:
        """Return it as one line."""
        others = f"; {self.elsewhere} arrivals were elsewhere" if self.elsewhere else ""
        if self.stopped_because:
            return f"{summed_up(self.received)}{others}. {self.stopped_because}"
        first = f". The first: {self.troubles[0].source}: {self.troubles[0].reason}" if self.troubles else ""
        return summed_up(self.received) + others + first


def summed_up(received: Iterable[Received]) -> str:
    """Return how many came to which end, such as `3 archived, 1 set aside`."""
    counts = Counter(one.fate for one in received)
    return ", ".join(f"{counts[fate]} {fate}" for fate in Disposition if counts[fate]) or "nothing new"


def check_queue(queue_url: str, destination: Destination) -> None:
    """Make sure that what a queue tells of is paid for once, whichever worker it tells.

    Raises:
        ConfigurationError: there is a queue, and the journal is `none`.
    """
    if queue_url and destination.journal_choice == "none":
        raise ConfigurationError(
            "An inbox with a queue needs a journal that outlives a process: the store's is 'none'."
        )


async def receive(
    place: Source,
    program: Program,
    queue: Queue | None,
    *,
    defaults: dict[str, Any],
    at_once: int,
    first_at_once: int,
    stop_after_alike: int,
    run_for_seconds: float,
    idle_seconds: float,
    policy: RunPolicy,
) -> tuple[InboxReport, RunComfyError | None]:
    """Make a video of every image that arrives in a folder of a bucket, and archive it; each image once.

    Args:
        place: Where images arrive.
        program: The account, the bucket, and what the program adds.
        queue: The queue that the bucket tells of new objects; `None` lists the folder and takes what is new.
        defaults: The prompt and the settings for what neither sidecar nor metadata says.
        at_once: How many images are worked on at a time; the others stay in the queue.
        first_at_once: How many are paid for until one is archived.
        stop_after_alike: Nothing more is taken up after so many in a row have failed alike, later.
        run_for_seconds: After that, nothing more is taken up; what is under way is finished.
        idle_seconds: With a queue, it ends when nothing came for so long and all is finished.
        policy: What holds for every request.

    Returns:
        What became of what arrived; and what ended it before its time, if something did.

    Raises:
        StorageError: the bucket cannot be used; nothing was taken up.
    """
    destination = program.destination
    await asyncio.to_thread(destination.store.check)
    trouble: RunComfyError | None = None
    async with program.slots(at_once) as granted, program.open(policy) as engine:
        breaker = await open_breaker(engine, [IMAGE_TO_VIDEO], first_at_once, stop_after_alike)
        log = program.hooks.log
        reception = ImageProcessor(
            place, destination.store, defaults, _generating(engine, program, breaker),
            at_once=granted, tell=lambda received: _log(received, log),
        )  # fmt: skip
        try:
            if queue is None:
                await reception.take_new(run_for_seconds=run_for_seconds)
            else:
                await take(
                    queue, reception.take_message,
                    at_once=granted, idle_seconds=idle_seconds, run_for_seconds=run_for_seconds,
                    enough=lambda: reception.blocked is not None or breaker.stopped is not None,
                )  # fmt: skip
        except RunComfyError as error:
            trouble = error
        await note_stop(engine, breaker)
    report = InboxReport(
        source=place.uri,
        received=tuple(reception.received.values()),
        elsewhere=reception.elsewhere,
        stopped_because=str(breaker.stopped) if breaker.stopped else reception.blocked,
    )
    return report, trouble


def _generating(engine: Engine, program: Program, breaker: CircuitBreaker) -> Generate:
    async def generating(
        order: Order, image: StagedImage, label: str, accepted: Callable[[], Awaitable[None]]
    ) -> Outcome:
        async def on_accepted(_: Submission) -> None:
            await accepted()

        try:
            number = await breaker.begin(order.model_id)
        except RunComfyError as error:
            return outcome_of(error, label).model_copy(update={"status": OutcomeStatus.NOT_STARTED})
        outcome, was_sent = None, False

        async def authorise() -> None:
            nonlocal was_sent
            was_sent = True

        try:
            outcome = await program.generate(
                order, image, engine, label=label, authorise=authorise, on_accepted=on_accepted
            )
            return outcome
        finally:
            was_stopped = breaker.stopped is not None
            breaker.end(number, outcome, was_sent=was_sent)
            if not was_stopped:
                await note_stop(engine, breaker)

    return generating


def _log(received: Received, log: Log) -> None:
    """Say what became of an image; what is trouble, as a warning."""
    level = log.warning if received.fate.is_trouble else log.info
    level("%s: %s%s", received.source, received.fate, f": {received.reason}" if received.reason else "")
