"""One run of the inbox: make a video of each image that has arrived, and report how each ended."""

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
from runcomfy.generation.models import model_class
from runcomfy.generation.outcomes import outcome_of
from runcomfy.inbox.consumer import consume
from runcomfy.inbox.images import Source
from runcomfy.inbox.processor import Generate, ImageProcessor, Received
from runcomfy.inbox.queue import Queue
from runcomfy.inbox.target import Target, target_of
from runcomfy.models import IMAGE_TO_VIDEO, MODELS, model_id_of
from runcomfy.models.orders import Order
from runcomfy.policy import RunPolicy
from runcomfy.values import Outcome, OutcomeStatus, StagedFile, Submission

__all__ = ["InboxReport", "check_queue", "receive", "summed_up"]


class InboxReport(BaseModel):
    """What arrived in one run, and how it ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    received: tuple[Received, ...]
    elsewhere: int = Field(description="Arrivals in the queue that were not in this inbox.")
    stopped_because: str | None = Field(default=None, description="Why no more images were processed.")

    @property
    def archived(self) -> int:
        """How many have their video in the archive, by this run or before it."""
        return sum(one.fate in (OutcomeStatus.ARCHIVED, OutcomeStatus.EXISTING) for one in self.received)

    @property
    def troubles(self) -> tuple[Received, ...]:
        """Those that should have become a video and did not, for now or finally."""
        return tuple(one for one in self.received if one.is_trouble)

    @property
    def sentence(self) -> str:
        """Return it as one line."""
        others = f"; {self.elsewhere} arrivals were elsewhere" if self.elsewhere else ""
        if self.stopped_because:
            return f"{summed_up(self.received)}{others}. {self.stopped_because}"
        first = f". The first: {self.troubles[0].source}: {self.troubles[0].reason}" if self.troubles else ""
        return summed_up(self.received) + others + first


def summed_up(received: Iterable[Received]) -> str:
    """Return how many ended in which way, such as `3 archived, 1 set aside`."""
    counts = Counter(one.fate for one in received)
    return ", ".join(f"{counts[status]} {status}" for status in OutcomeStatus if counts[status]) or "nothing new"


def check_queue(queue_url: str, destination: Destination) -> None:
    """Make sure that what arrives in a queue is paid for once, whichever worker receives it.

    Raises:
        ConfigurationError: there is a queue, and the journal is `none`.
    """
    if queue_url and destination.journal_choice == "none":
        raise ConfigurationError(
            "An inbox with a queue needs a journal that outlives a process: the store's is 'none'."
        )


async def receive(
    source: Source,
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
    model: str = "",
    field: str = "",
) -> tuple[InboxReport, RunComfyError | None]:
    """Make a video of every image that arrives in a folder of a bucket, and archive it; each image once.

    With a model of the catalogue: whatever it makes of the kind of file that it takes.

    Args:
        source: Where images arrive.
        program: The account, the bucket, and what the program adds.
        queue: The queue that the bucket notifies of new objects; `None` lists the folder and processes what is new.
        defaults: The prompt and the settings for what neither sidecar nor metadata gives.
        at_once: How many images are worked on at a time; the others stay in the queue.
        first_at_once: How many are paid for until one is archived.
        stop_after_alike: Nothing more is begun after so many in a row have failed alike, later.
        run_for_seconds: After that, nothing more is begun; what is in progress is finished.
        idle_seconds: With a queue, it ends when nothing came for so long and all is finished.
        policy: What holds for every request.
        model: The id of a model of the catalogue, instead of image-to-video.
        field: The input that an arrival fills; see `runcomfy.inbox.target.target_of`.

    Returns:
        How each image that arrived has ended; and the error that ended the run early, if there was one.

    Raises:
        InvalidInput: there is no such model or input, or a default is none of its inputs; nothing was processed.
        ServiceError: the catalogue could not be read.
        StorageError: the bucket cannot be used; nothing was processed.
    """
    destination = program.destination
    await asyncio.to_thread(destination.store.check)
    failure: RunComfyError | None = None
    target = await _target(program, model, field)
    known, source = target.defaults(defaults), source.taking(target.medium, target.purpose)
    async with program.slots(at_once) as granted, program.open(policy) as engine:
        breaker = await open_breaker(engine, [target.kind.model_id], first_at_once, stop_after_alike)
        log = program.hooks.log
        processor = ImageProcessor(
            source, destination.store, known, _generating(engine, program, breaker),
            at_once=granted, on_received=lambda received: _log(received, log), target=target,
        )  # fmt: skip
        try:
            if queue is None:
                await processor.process_new(run_for_seconds=run_for_seconds)
            else:
                await consume(
                    queue, processor.process_message,
                    at_once=granted, idle_seconds=idle_seconds, run_for_seconds=run_for_seconds,
                    enough=lambda: processor.blocked is not None or breaker.stopped is not None,
                )  # fmt: skip
        except RunComfyError as error:
            failure = error
        await note_stop(engine, breaker)
    report = InboxReport(
        source=source.uri,
        received=tuple(processor.received.values()),
        elsewhere=processor.elsewhere,
        stopped_because=str(breaker.stopped) if breaker.stopped else processor.blocked,
    )
    return report, failure


async def _target(program: Program, model: str, field: str) -> Target:
    """Return what arrivals become."""
    model_id = model_id_of(model, "model") if model.strip() else IMAGE_TO_VIDEO
    if model_id in MODELS:
        return target_of(MODELS[model_id], field)
    async with program.client() as client:
        return target_of(await model_class(model_id, client, program.destination.journal), field)


def _generating(engine: Engine, program: Program, breaker: CircuitBreaker) -> Generate:
    async def generating(
        order: Order, staged: tuple[StagedFile, ...], label: str, accepted: Callable[[], Awaitable[None]]
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
                order, staged, engine, label=label, authorise=authorise, on_accepted=on_accepted
            )
            return outcome
        finally:
            was_stopped = breaker.stopped is not None
            breaker.end(number, outcome, was_sent=was_sent)
            if not was_stopped:
                await note_stop(engine, breaker)

    return generating


def _log(received: Received, log: Log) -> None:
    """Log how an image ended; one without its video, as a warning."""
    level = log.warning if received.is_trouble else log.info
    level("%s: %s%s", received.source, received.fate, f": {received.reason}" if received.reason else "")
