"""Images that arrive in a bucket become videos, each once: for a schedule, or for a run that never stops."""

from __future__ import annotations

import asyncio
from typing import Annotated

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BeforeValidator, Field

from blocks import MediaStore, RunComfyCredentials
from flows.parameters import NOTHING_GIVEN, GivenInputs, fields_of, json_object, left_out_is, needed
from runcomfy.batch.circuit_breaker import FIRST_AT_ONCE, STOP_AFTER_ALIKE
from runcomfy.generation.destination import OnDefect
from runcomfy.inbox.images import Source
from runcomfy.inbox.run import InboxReport, check_queue, receive
from runcomfy.inbox.target import settings_of
from runcomfy.models import ImageToVideoSettings
from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, Polling, RunPolicy
from tasks.batch.program import PrefectProgram
from tasks.inbox import open_queue, report_received
from tasks.runtime.flow import flow
from tasks.runtime.naming import fact, flow_name

__all__ = ["inbox"]


@flow(name="inbox", flow_run_name=flow_name(lambda given: f"inbox-{fact(given['source'])}", otherwise="inbox"))
async def inbox(
    source: Annotated[str, BeforeValidator(needed)],
    credentials: RunComfyCredentials,
    store: MediaStore,
    queue_url: Annotated[str, left_out_is("")] = "",
    prompt: Annotated[str, left_out_is("")] = "",
    settings: Annotated[ImageToVideoSettings, fields_of(ImageToVideoSettings)] = ImageToVideoSettings(),
    model: Annotated[str, left_out_is("")] = "",
    field: Annotated[str, left_out_is("")] = "",
    inputs: Annotated[GivenInputs, BeforeValidator(json_object), left_out_is(NOTHING_GIVEN)] = NOTHING_GIVEN,
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
    on_defect: Annotated[OnDefect | None, left_out_is(None)] = None,
    contact_sheets: Annotated[bool | None, left_out_is(None)] = None,
) -> State[InboxReport]:
    """Make a video of every image that arrives in a folder of a bucket, and archive it; each image once.

    The request spec of an image is a file beside it, `<name>.json` or `<name>.txt`, or its metadata
    (x-amz-meta-prompt), or what is given here. With a queue, the run consumes the bucket's notifications; without one,
    it lists the folder and takes what is new.

    Args:
        source: Where images arrive: s3://bucket/folder, on the same server as the store.
        credentials: The RunComfy account that pays.
        store: The bucket for staged images, videos, the journal, and the record of what was handled. Its credentials
            read the source and the queue too.
        queue_url: The URL of the SQS queue that the bucket notifies of new objects. Empty: the folder is listed.
        prompt: For images that come without one. Empty: they wait until their sidecar comes.
        settings: For what neither sidecar nor metadata sets; of image-to-video.
        model: The id of any model of the catalogue, instead of image-to-video: what it takes is what arrives.
        field: The input of that model that an arrival fills. Empty: the only file that it takes, or needs.
        inputs: Inputs of that model, by its own names, for what neither sidecar nor metadata gives.
        at_once: How many images are worked on at a time; the others stay in the queue.
        first_at_once: How many are paid for until one is archived. If they all fail for the same reason, no more images
            are taken. A video that the same model archived in the same store within a day counts.
        stop_after_alike: After this first video, how many failures in a row for the same reason stop the run.
        run_for_seconds: After that, no more images are taken; what is in progress is finished.
        idle_seconds: With a queue, the run ends when nothing came for so long and all is finished.
        hidden_seconds: The queue's visibility timeout, how long it hides a message from other workers; it is extended
            while work goes on, so this is how soon the messages of a killed worker are received again.
        deadlines: How long to wait in the service's queue, and for a running request.
        polling: How often to poll.
        on_interrupt: What an interruption does to requests: "ask" cancels them if a person cancelled this run.
        on_uncertain: What to do about a submission whose outcome is unknown: "stop" and let a person decide, or
            "pay_again", which may pay for both.
        on_defect: What to do about a file that is judged suspect or damaged: "keep" it, "set_aside" for a person to
            decide about (deployment review), or "fail" once it is archived. Empty: as the store says.
        contact_sheets: Whether to put nine frames with their times beside each video. Empty: as the store says.
    """
    store = store.with_choices(on_defect=on_defect, contact_sheets=contact_sheets)
    program = PrefectProgram(credentials, store)
    images = Source(source, program.destination.store, program.destination.template)
    check_queue(queue_url, program.destination)
    queue = await asyncio.to_thread(open_queue, queue_url, store, hidden_seconds) if queue_url else None
    report, trouble = await receive(
        images,
        program,
        queue,
        defaults={"prompt": prompt, **settings_of(settings, model), **inputs.root},
        at_once=at_once,
        first_at_once=first_at_once,
        stop_after_alike=stop_after_alike,
        run_for_seconds=run_for_seconds,
        idle_seconds=idle_seconds,
        policy=RunPolicy(deadlines, polling, on_interrupt, on_uncertain),
        model=model,
        field=field,
    )
    await report_received(report.received, images.uri)
    if trouble is not None:
        raise trouble
    return _ended(report)


def _ended(report: InboxReport) -> State[InboxReport]:
    """Return the final state of a run: Failed only if there was trouble and no image became a video."""
    if not report.troubles:
        return Completed(message=report.sentence, data=report)
    if report.archived:
        return Completed(name="Incomplete", message=report.sentence, data=report)
    return Failed(message=report.sentence, data=report)
