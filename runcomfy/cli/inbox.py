"""`inbox`: a video of each image that arrives in a folder of a bucket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from runcomfy.cli import environment
from runcomfy.cli.failure import AfterSubmitting
from runcomfy.cli.log import log_progress
from runcomfy.cli.options import ABOVE_ZERO, AtOnce, FirstAtOnce, ImageToVideoOptions, Json, Run, StopAfterAlike
from runcomfy.cli.output import exit_code, print_facts
from runcomfy.errors import BatchIncomplete, ConfigurationError, RunComfyError

if TYPE_CHECKING:
    from runcomfy.inbox.run import InboxReport

__all__ = ["inbox"]


def inbox(
    source: Annotated[str, Parameter(help="Where images arrive: s3://bucket/folder, on the same server as --bucket.")],
    /,
    *,
    run: Run,
    queue_url: Annotated[
        str,
        Parameter(
            show_default=False, help="The SQS queue that the bucket notifies; without one, the folder is listed."
        ),
    ] = "",
    prompt: Annotated[
        str, Parameter(show_default=False, help="For images without one; without it, they wait for their sidecar.")
    ] = "",
    settings: Annotated[ImageToVideoOptions, Parameter(name="*")] = ImageToVideoOptions(),
    model: Annotated[
        str,
        Parameter(show_default=False, help="Any model's id, instead of image-to-video: what it takes arrives."),
    ] = "",
    field: Annotated[
        str,
        Parameter(
            show_default=False,
            help="The input of that model that an arrival fills, or image, video, audio; if not the only one.",
        ),
    ] = "",
    inputs: Annotated[
        dict[str, str] | None,
        Parameter(negative="", help="Inputs of that model for all that arrives: --inputs.NAME VALUE."),
    ] = None,
    at_once: AtOnce = 50,
    first_at_once: FirstAtOnce = 5,
    stop_after_alike: StopAfterAlike = 20,
    run_for_seconds: Annotated[
        float, Parameter(validator=ABOVE_ZERO, help="After that, no more images are consumed.")
    ] = 3600,
    idle_seconds: Annotated[
        float, Parameter(validator=Number(gte=0), help="With a queue, it ends when nothing came for so long.")
    ] = 60,
    hidden_seconds: Annotated[
        int,
        Parameter(validator=Number(gte=1, lte=43_200), help="How long the queue hides a message from other workers."),
    ] = 120,
    json: Json = False,
) -> None:
    """Make a video of each image that arrives in a folder of a bucket, and archive it; each image once.

    With --model, what that model makes of the images, videos or sounds that arrive.

    The request spec of an image is in a file beside it (NAME.json or NAME.txt), in its metadata, or given here. Exit
    code 14 if some have no video.
    """
    if run.variation:
        raise ConfigurationError("An image that arrives is one generation: --variation is not for the inbox.")
    environment.check(run.bucket, run.journal, run.archive_key)
    log_progress()
    from runcomfy.inbox.target import settings_of

    given = {"prompt": prompt, **settings_of(settings, model), **(inputs or {})}
    report, trouble = _received(
        source, run, queue_url, hidden_seconds, given,
        at_once=at_once, first_at_once=first_at_once, stop_after_alike=stop_after_alike,
        run_for_seconds=run_for_seconds, idle_seconds=idle_seconds, model=model, field=field,
    )  # fmt: skip
    if json:
        ended = {} if trouble is None else {"error": type(trouble).__name__, "message": trouble.message}
        print_facts("", report.model_dump(mode="json") | ended, as_json=True)
    else:
        lines = [" ".join([f"{one.source}: {one.fate}", *one.uris]) for one in report.received]
        print_facts("Inbox", {"source": report.source, "arrived": "\n".join(lines) or None}, as_json=False)
        print_facts("Done", {"what became of it": report.sentence}, as_json=False)
    if trouble is not None and not json:
        raise AfterSubmitting(trouble) if report.received else trouble
    if trouble is not None:
        raise SystemExit(exit_code(trouble))
    if report.troubles:
        raise SystemExit(exit_code(BatchIncomplete("Some have no video.")))


def _received(
    source: str, run: Run, queue_url: str, hidden_seconds: int, defaults: dict[str, Any], **bounds: Any
) -> tuple[InboxReport, RunComfyError | None]:
    from runcomfy.batch.program import Program
    from runcomfy.cli.following import Counting, to_the_end
    from runcomfy.inbox.images import Source
    from runcomfy.inbox.queue import Queue
    from runcomfy.inbox.run import check_queue, receive
    from runcomfy.storage.s3 import open_session

    hooks = Counting()

    async def received() -> tuple[InboxReport, RunComfyError | None]:
        destination = run.destination()
        program = Program(environment.client, destination, environment.host_policy(), hooks)
        arrivals = Source(source, destination.store, destination.template)
        check_queue(queue_url, destination)
        queue = None
        if queue_url:
            queue = await asyncio.to_thread(
                Queue, queue_url, session=open_session(), visibility_timeout_seconds=hidden_seconds
            )
        return await receive(arrivals, program, queue, defaults=defaults, policy=run.policy, **bounds)

    return to_the_end(received(), hooks)
