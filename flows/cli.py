"""The command line: real runs of the flows, and requests by their id.

Prefect is imported when a flow is about to run, and not before: `--help` must not take seconds.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from pydantic import ConfigDict, ValidationError, field_validator

from flows import environment
from flows.exit_codes import EXIT_CODES, INTERRUPTED, UNEXPECTED
from flows.output import print_facts, print_generation, print_videos
from runcomfy.cancelling import cancel as cancel_request
from runcomfy.errors import InvalidInput, NotFinished
from runcomfy.models import (
    IMAGE_TO_VIDEO,
    TEXT_TO_VIDEO,
    ImageToVideoSettings,
    TextToVideoSettings,
    violations,
)
from runcomfy.polling import Deadlines
from runcomfy.wire import Answer, Status

__all__ = ["app"]

_MEANINGS = {0: "done", UNEXPECTED: "something unexpected", INTERRUPTED: "interrupted"} | {
    code: meaning for _, code, meaning in reversed(EXIT_CODES)
}
_HELP = """Make videos with RunComfy, and archive them in your bucket.

Environment:
  RUNCOMFY_API_TOKEN     your account's token (or RUNCOMFY_TOKEN)
  RUNCOMFY_BASE_URL      another service, such as the sandbox
  RUNCOMFY_OUTPUT_HOSTS  hosts that files may come from, separated by commas
  RUNCOMFY_BUCKET        what --bucket is otherwise
  AWS_PROFILE …          boto3's own variables, profiles and roles
  AWS_ENDPOINT_URL_S3    the S3 server, if it is not AWS
  PREFECT_API_URL        your Prefect server; without it, a temporary one
"""

app = App(
    name="python -m flows",
    help=_HELP,
    help_format="plaintext",
    help_epilogue="Exit codes:\n" + "\n".join(f"{code:>5}  {meaning}" for code, meaning in sorted(_MEANINGS.items())),
    version_flags=(),
)


class _ImageToVideoOptions(ImageToVideoSettings):
    """The settings as a shell gives them: texts that read as numbers are numbers."""

    model_config = ConfigDict(strict=False)


class _TextToVideoOptions(TextToVideoSettings):
    """The settings as a shell gives them: texts that read as numbers are numbers."""

    model_config = ConfigDict(strict=False)

    @field_validator("num_frames", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        # pydantic reads a text as a number for an `int`, but not for a choice of numbers
        return int(value) if isinstance(value, str) and value.isdecimal() else value


Bucket = Annotated[
    str,
    Parameter(name="--bucket", env_var="RUNCOMFY_BUCKET", help="Where to archive: s3://bucket/prefix, or a bucket."),
]
ArchiveKey = Annotated[
    str | None, Parameter(help="How archived files are named, such as {model}/{request_id}-{index}.{ext}, the default.")
]
QueueTimeout = Annotated[float, Parameter(help="Seconds in the queue after which the request is cancelled.")]
RunTimeout = Annotated[float, Parameter(help="Seconds of running after which it is given up; it may be billed.")]
Variation = Annotated[str, Parameter(show_default=False, help="Any text, for another generation with the same inputs.")]
Json = Annotated[
    bool,
    Parameter(
        name="--json", negative="", show_default=False, help="Print one JSON object to stdout; the log is on stderr."
    ),
]


@app.command(help_epilogue="")
def image_to_video(
    image: Annotated[str, Parameter(help="A local path, an https:// URL, or an s3:// URI.")],
    prompt: Annotated[str, Parameter(help="What happens in the video.")],
    /,
    *,
    bucket: Bucket,
    settings: Annotated[_ImageToVideoOptions, Parameter(name="*")] = _ImageToVideoOptions(),
    queue_timeout: QueueTimeout = 3600,
    run_timeout: RunTimeout = 3600,
    variation: Variation = "",
    archive_key: ArchiveKey = None,
    json: Json = False,
) -> None:
    """Make a video from an image and a prompt."""
    account, store = environment.credentials(), environment.media_store(bucket, archive_key)
    deadlines = _deadlines(queue_timeout, run_timeout)
    from flows.generation import ImageSource
    from flows.image_to_video import image_to_video as flow

    run = flow(
        ImageSource(image),
        prompt,
        account,
        store,
        settings=ImageToVideoSettings(**settings.model_dump()),
        deadlines=deadlines,
        variation=variation,
        on_interrupt="cancel",
    )
    print_generation(asyncio.run(run), as_json=json)


@app.command(help_epilogue="")
def text_to_video(
    prompt: Annotated[str, Parameter(help="What happens in the video.")],
    /,
    *,
    bucket: Bucket,
    settings: Annotated[_TextToVideoOptions, Parameter(name="*")] = _TextToVideoOptions(),
    queue_timeout: QueueTimeout = 3600,
    run_timeout: RunTimeout = 3600,
    variation: Variation = "",
    archive_key: ArchiveKey = None,
    json: Json = False,
) -> None:
    """Make a video from a prompt."""
    account, store = environment.credentials(), environment.media_store(bucket, archive_key)
    deadlines = _deadlines(queue_timeout, run_timeout)
    from flows.text_to_video import text_to_video as flow

    run = flow(
        prompt,
        account,
        store,
        settings=TextToVideoSettings(**settings.model_dump()),
        deadlines=deadlines,
        variation=variation,
        on_interrupt="cancel",
    )
    print_generation(asyncio.run(run), as_json=json)


@app.command(help_epilogue="")
def status(request_id: str, /, *, json: Json = False) -> None:
    """Show where a request is, and how it ended."""

    async def look() -> tuple[Status, Answer | None]:
        async with environment.client() as client:
            seen = await client.status(request_id)
            return seen, await client.result(request_id) if seen.state.is_final else None

    seen, answer = asyncio.run(look())
    facts = {
        "request_id": request_id,
        "state": str(answer.state if answer else seen.state),
        "queue_position": seen.queue_position,
        "outputs": len(answer.outputs) if answer else None,
        "cost_usd": answer.cost_usd if answer else None,
        "created_at": answer.created_at if answer else None,
        "finished_at": answer.finished_at if answer else None,
        "failure": answer.error if answer else None,
    }
    print_facts("Request", facts, as_json=json)


@app.command(help_epilogue="")
def cancel(request_id: str, /, *, json: Json = False) -> None:
    """Cancel a request that is still in the queue; one that runs cannot be stopped (exit code 6)."""

    async def ask() -> str | None:
        async with environment.client() as client:
            return (await cancel_request(client, request_id)).outcome

    outcome = asyncio.run(ask())
    if outcome != "cancelled":
        raise NotFinished(
            "The request cannot be cancelled any more: it is running or done, and may be billed. Fetch what it makes.",
            request_id=request_id,
        )
    print_facts("Request", {"request_id": request_id, "outcome": outcome}, as_json=json)


@app.command(help_epilogue="")
def fetch(
    request_id: str,
    /,
    *,
    model: Annotated[
        Literal["image-to-video", "text-to-video"], Parameter(help="The model that the request was submitted to.")
    ],
    bucket: Bucket,
    archive_key: ArchiveKey = None,
    json: Json = False,
) -> None:
    """Archive what a finished request made; doing it again does no harm."""
    account, store = environment.credentials(), environment.media_store(bucket, archive_key)
    from flows.fetch_request import fetch_request

    model_id = IMAGE_TO_VIDEO if model == "image-to-video" else TEXT_TO_VIDEO
    videos = asyncio.run(fetch_request(request_id, model_id, account, store))
    print_videos({"request_id": request_id}, videos, as_json=json)


@app.command(help_epilogue="")
def balance(*, json: Json = False) -> None:
    """Show the account's balance."""

    async def ask() -> float:
        async with environment.client() as client:
            return await client.balance_usd()

    print_facts("Account", {"balance_usd": asyncio.run(ask())}, as_json=json)


def _deadlines(queue_timeout: float, run_timeout: float) -> Deadlines:
    try:
        return Deadlines(queue_timeout_seconds=queue_timeout, run_timeout_seconds=run_timeout)
    except ValidationError as error:
        found = [(field.removesuffix("_seconds"), message) for field, message in violations(error)]
    named = "; ".join(f"--{field.replace('_', '-')}: {message}" for field, message in found)
    raise InvalidInput(f"The deadlines cannot be used: {named}", violations=found)
