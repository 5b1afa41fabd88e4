"""Pictures that arrive in a bucket become videos, each once: made for a schedule, and for a run that never rests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from blocks import MediaStore, RunComfyCredentials
from flows.parameters import fields_of, left_out_is, needed
from runcomfy.errors import ConfigurationError, RunComfyError
from runcomfy.inbox.pictures import Source
from runcomfy.inbox.reception import Fate, Generate, Received, Reception
from runcomfy.inbox.taking import take
from runcomfy.models import IMAGE_TO_VIDEO, ImageToVideoSettings
from runcomfy.models.orders import Order
from runcomfy.outcomes import outcome_of
from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, Polling, RunPolicy
from runcomfy.proving import FIRST_AT_ONCE, STOP_AFTER_ALIKE, Proving
from runcomfy.values import Outcome, OutcomeStatus, StagedImage, Submission
from tasks.generate import generate_one
from tasks.inbox import log_received, open_queue, report_received, summed_up
from tasks.naming import fact, flow_name
from tasks.proof import note_stop, open_proving
from tasks.service import Service, open_service
from tasks.slots import slots

__all__ = ["InboxReport", "inbox"]


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
        return sum(one.fate in (Fate.ARCHIVED, Fate.EXISTING) for one in self.received)

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


@flow(name="inbox", flow_run_name=flow_name(lambda given: f"inbox-{fact(given['source'])}", otherwise="inbox"))
async def inbox(
    source: Annotated[str, BeforeValidator(needed)],
    credentials: RunComfyCredentials,
    store: MediaStore,
    queue_url: Annotated[str, left_out_is("")] = "",
    prompt: Annotated[str, left_out_is("")] = "",
    settings: Annotated[ImageToVideoSettings, fields_of(ImageToVideoSettings)] = ImageToVideoSettings(),
    at_once: Annotated[int, Field(ge=1, le=1000), left_out_is(50)] = 50,
    first_at_once: Annotated[int, Field(ge=1, le=1000), left_out_is(FIRST_AT_ONCE)] = FIRST_AT_ONCE,
    stop_after_alike: Annotated[int, Field(ge=1), left_out_is(STOP_AFTER_ALIKE)] = STOP_AFTER_ALIKE,
    run_for_seconds: Annotated[float, Field(gt=0), left_out_is(3600)] = 3600,
    idle_seconds: Annotated[float, Field(ge=0), left_out_is(60)] = 60,
    hidden_seconds: Annotated[int, Field(ge=1, le=43200), left_out_is(120)] = 120,
    deadlines: Annotated[Deadlines, fields_of(Deadlines)] = Deadlines(),
    polling: Annotated[Polling, fields_of(Polling)] = Polling(),
    on_interrupt: Annotated[OnInterrupt, left_out_is("ask")] = "ask",
    on_uncertain: Annotated[OnUncertain, left_out_is("stop")] = "stop",
) -> State[InboxReport]:
    """Make a video of every picture that arrives in a folder of a bucket, and archive it; each picture once.

    What is asked for with a picture stands in a file beside it, `<name>.json` or `<name>.txt`, or in its metadata
    (x-amz-meta-prompt), or is what is given here. With a queue, the run takes what the bucket tells the queue; without
    one, it lists the folder and takes what is new.

    Args:
        source: Where pictures arrive: s3://bucket/folder, on the same server as the store.
        credentials: The RunComfy account that pays.
        store: The bucket for staged pictures, videos, the journal, and the record of what was handled. Its credentials
            read the source and the queue too.
        queue_url: The URL of the SQS queue that the bucket tells of new objects. Empty: the folder is listed.
        prompt: For pictures that come without one. Empty: they wait until their sidecar comes.
        settings: For what neither sidecar nor metadata says.
        at_once: How many pictures are worked on at a time; the others stay in the queue.
        first_at_once: How many are paid for until one is archived. If they fail alike, nothing more is taken up. One
            that was archived by the same model in the same store within a day counts.
        stop_after_alike: Nothing more is taken up after so many in a row have failed alike, later.
        run_for_seconds: After that, nothing more is taken up; what is under way is finished.
        idle_seconds: With a queue, the run ends when nothing came for so long and all is finished.
        hidden_seconds: How long the queue hides a message from other workers; it is extended while work goes on, so
            this is how soon the messages of a killed worker come back.
        deadlines: How long to wait in the service's queue, and for a running request.
        polling: How often to look.
        on_interrupt: What an interruption does to requests: "ask" cancels them if a person cancelled this run.
        on_uncertain: What to do about a submission that nobody knows the answer of: "stop" and let a person decide, or
            "pay_again", which may pay for both.
    """
    if queue_url and store.journal == "none":
        raise ConfigurationError(
            "An inbox with a queue needs a journal that outlives a process: the store's is 'none'."
        )
    place = Source(source, store.get_store(), store.key_template())
    queue = await asyncio.to_thread(open_queue, queue_url, store, hidden_seconds) if queue_url else None
    await asyncio.to_thread(store.get_store().check)
    trouble: RunComfyError | None = None
    async with (
        slots(credentials, at_once) as granted,
        open_service(credentials, store, RunPolicy(deadlines, polling, on_interrupt, on_uncertain)) as service,
    ):
        bucket = store.get_store()
        proving = await open_proving(service, [IMAGE_TO_VIDEO], first_at_once, stop_after_alike)
        reception = Reception(
            place, bucket, _defaults(prompt, settings), _generating(service, proving),
            at_once=granted, tell=log_received,
        )  # fmt: skip
        try:
            if queue is None:
                await reception.take_new(run_for_seconds=run_for_seconds)
            else:
                await take(
                    queue, reception.take_message,
                    at_once=granted, idle_seconds=idle_seconds, run_for_seconds=run_for_seconds,
                    enough=lambda: reception.blocked is not None or proving.stopped is not None,
                )  # fmt: skip
        except RunComfyError as error:
            trouble = error
        await note_stop(service, proving)
    report = InboxReport(
        source=place.uri,
        received=tuple(reception.received.values()),
        elsewhere=reception.elsewhere,
        stopped_because=str(proving.stopped) if proving.stopped else reception.blocked,
    )
    await report_received(report.received, place.uri)
    if trouble is not None:
        raise trouble
    return _ended(report)


def _defaults(prompt: str, settings: ImageToVideoSettings) -> dict[str, Any]:
    return {"prompt": prompt, **settings.model_dump(exclude_none=True)}


def _generating(service: Service, proving: Proving) -> Generate:
    async def generating(
        order: Order, image: StagedImage, label: str, accepted: Callable[[], Awaitable[None]]
    ) -> Outcome:
        async def on_accepted(_: Submission) -> None:
            await accepted()

        try:
            number = await proving.begin(order.model_id)
        except RunComfyError as error:
            return outcome_of(error, label).model_copy(update={"status": OutcomeStatus.NOT_STARTED})
        outcome, was_sent = None, False

        async def authorise() -> None:
            nonlocal was_sent
            was_sent = True

        try:
            outcome = await generate_one(
                order, image, service, label=label, authorise=authorise, on_accepted=on_accepted
            )
            return outcome
        finally:
            was_stopped = proving.stopped is not None
            proving.end(number, outcome, was_sent=was_sent)
            if not was_stopped:
                await note_stop(service, proving)

    return generating


def _ended(report: InboxReport) -> State[InboxReport]:
    """Return the state that a run ends in: some pictures without a video do not make it fail, all of them do."""
    if not report.troubles:
        return Completed(message=report.sentence, data=report)
    if report.archived:
        return Completed(name="Incomplete", message=report.sentence, data=report)
    return Failed(message=report.sentence, data=report)
