"""`python -m flows`: what `prefect-runcomfy` has, and the commands that run a flow."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import runcomfy.cli.environment
from flows import environment
from flows.batch_cli import batch
from runcomfy.cli.__main__ import main, run
from runcomfy.cli.app import app
from runcomfy.cli.journal import Key, entry_facts, journal_app
from runcomfy.cli.options import Archive, ImageToVideoOptions, Json, Run, TextToVideoOptions
from runcomfy.cli.output import print_facts, print_generation, print_videos
from runcomfy.models import ImageToVideoSettings, TextToVideoSettings, model_id_of, short_names
from runcomfy.policy import Deadlines

if TYPE_CHECKING:
    from runcomfy.journal import Entry, Journal

__all__ = ["app", "main"]

app._name = ("python -m flows",)
app.command(batch, help_epilogue="")


@app.command(help_epilogue="")
def image_to_video(
    image: Annotated[str, Parameter(help="A local path, an https:// URL, or an s3:// URI.")],
    prompt: Annotated[str, Parameter(help="What happens in the video.")],
    /,
    *,
    run: Run,
    settings: Annotated[ImageToVideoOptions, Parameter(name="*")] = ImageToVideoOptions(),
    json: Json = False,
) -> None:
    """Make a video from an image and a prompt."""
    account, store = environment.credentials(), environment.media_store(run.bucket, run.archive_key, run.journal)
    from flows.generation import ImageSource
    from flows.image_to_video import image_to_video as flow

    generation = flow(
        ImageSource(image),
        prompt,
        account,
        store,
        settings=ImageToVideoSettings(**settings.model_dump()),
        deadlines=run.deadlines,
        variation=run.variation,
        on_uncertain="pay_again" if run.on_uncertain == "pay-again" else "stop",
    )
    print_generation(asyncio.run(generation), as_json=json)


@app.command(help_epilogue="")
def text_to_video(
    prompt: Annotated[str, Parameter(help="What happens in the video.")],
    /,
    *,
    run: Run,
    settings: Annotated[TextToVideoOptions, Parameter(name="*")] = TextToVideoOptions(),
    json: Json = False,
) -> None:
    """Make a video from a prompt."""
    account, store = environment.credentials(), environment.media_store(run.bucket, run.archive_key, run.journal)
    from flows.text_to_video import text_to_video as flow

    generation = flow(
        prompt,
        account,
        store,
        settings=TextToVideoSettings(**settings.model_dump()),
        deadlines=run.deadlines,
        variation=run.variation,
        on_uncertain="pay_again" if run.on_uncertain == "pay-again" else "stop",
    )
    print_generation(asyncio.run(generation), as_json=json)


@app.command(help_epilogue="")
def fetch(
    request_id: str,
    /,
    *,
    model: Annotated[
        str | None,
        Parameter(
            help="The model that the request was submitted to, where the journal does not know the request: "
            f"{', '.join(short_names())}, or the id of any other."
        ),
    ] = None,
    archive: Archive,
    json: Json = False,
) -> None:
    """Archive what a finished request made; doing it again does no harm."""
    model_id = model_id_of(model, "--model") if model is not None else None
    account = environment.credentials()
    store = environment.media_store(archive.bucket, archive.archive_key, archive.journal)
    from flows.fetch_request import fetch_request

    videos = asyncio.run(fetch_request(request_id, model_id, account, store))
    print_videos({"request_id": request_id}, videos, as_json=json)


@journal_app.command
def adopt(
    key: Key,
    request_id: Annotated[str, Parameter(help="The request that it became, from RunComfy's dashboard.")],
    /,
    *,
    archive: Archive,
    deadlines: Annotated[Deadlines, Parameter(name="*")] = Deadlines(),
    no_wait: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Only write it down; the next run or reconcile collects it."),
    ] = False,
    json: Json = False,
) -> None:
    """Say which request an uncertain submission became; wait for it, and archive what it makes."""
    # Marked here, so that what is wrong with it is said at once; the flow marks it again, which changes nothing.
    entry = asyncio.run(_adopted(runcomfy.cli.environment.journal(archive.bucket, archive.journal), key, request_id))
    if no_wait:
        print_facts("Adopted", entry_facts(entry), as_json=json)
        return
    account = environment.credentials()
    store = environment.media_store(archive.bucket, archive.archive_key, archive.journal)
    from flows.adopt_request import adopt_request

    generation = adopt_request(entry.generation_key, request_id, account, store, deadlines=deadlines)
    print_generation(asyncio.run(generation), as_json=json)


async def _adopted(journal: Journal, key: str, request_id: str) -> Entry:
    from runcomfy.journal import adopt

    async with runcomfy.cli.environment.client() as client:
        return await adopt(client, journal, key, request_id)


if __name__ == "__main__":
    sys.exit(run())
