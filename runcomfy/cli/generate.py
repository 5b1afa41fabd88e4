"""`image-to-video`, `text-to-video` and `fetch`: one generation, from the first check to the archived video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from runcomfy.cli import environment
from runcomfy.cli.log import log_progress
from runcomfy.cli.options import ArchivingOptions, ImageToVideoOptions, Json, Run, TextToVideoOptions
from runcomfy.cli.output import print_generation, print_videos
from runcomfy.models import ImageToVideo, ModelInputs, TextToVideo, check_inputs, model_id_of, short_names

if TYPE_CHECKING:
    from runcomfy.values import ArchivedVideo, Generation

__all__ = ["fetch", "image_to_video", "text_to_video"]


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
    given = {"prompt": prompt, **settings.model_dump()}
    check_inputs(ImageToVideo, given | {"image_url": "https://image.example"})  # it is known when it is staged
    print_generation(_made(ImageToVideo, given, run, image), store=run.options, as_json=json)


def text_to_video(
    prompt: Annotated[str, Parameter(help="What happens in the video.")],
    /,
    *,
    run: Run,
    settings: Annotated[TextToVideoOptions, Parameter(name="*")] = TextToVideoOptions(),
    json: Json = False,
) -> None:
    """Make a video from a prompt."""
    given = {"prompt": prompt, **settings.model_dump()}
    check_inputs(TextToVideo, given)
    print_generation(_made(TextToVideo, given, run), store=run.options, as_json=json)


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
    archive: ArchivingOptions,
    json: Json = False,
) -> None:
    """Archive what a finished request made; doing it again does no harm."""
    model_id = model_id_of(model, "--model") if model is not None else None
    environment.check(archive.bucket, archive.journal, archive.archive_key)
    log_progress()
    from runcomfy.cli.following import to_the_end
    from runcomfy.generation.archive import archive_with_retries, refuse_defects, what_to_archive
    from runcomfy.generation.engine import open_engine
    from runcomfy.generation.hooks import Hooks

    hooks = Hooks()

    async def fetched() -> list[ArchivedVideo]:
        account = environment.client()
        destination = archive.destination()
        async with open_engine(account, destination, hosts=environment.host_policy(), hooks=hooks) as engine:
            origin = await what_to_archive(request_id, engine, model_id=model_id)
            _, videos = await archive_with_retries(
                engine.at(origin.destination), request_id,
                model_id=origin.model_id, inputs=origin.inputs, staged=origin.staged, submission=origin.submission,
            )  # fmt: skip
            refuse_defects(videos, destination)
            return videos

    print_videos({"request_id": request_id}, to_the_end(fetched(), hooks), store=archive.options, as_json=json)


def _made(kind: type[ModelInputs], given: dict[str, Any], run: Run, source: str | None = None) -> Generation:
    """Check all that can be checked at once, then make the generation and archive it."""
    if source is not None:
        from runcomfy.media.image_files import check_image_file

        check_image_file(source)
    environment.check(run.bucket, run.journal, run.archive_key)
    log_progress()
    from runcomfy.cli.following import Following, finished, to_the_end
    from runcomfy.generation.engine import open_engine
    from runcomfy.generation.generate import stage, submit
    from runcomfy.retry import with_retries

    hooks = Following()

    async def made() -> Generation:
        account, hosts = environment.client(), environment.host_policy()
        destination = run.destination()
        async with open_engine(account, destination, hosts=hosts, policy=run.policy, hooks=hooks) as engine:
            staged = None
            if source is not None:
                staged = await with_retries(lambda: stage(source, destination.store, hooks))
            inputs = check_inputs(kind, given | ({"image_url": staged.uri} if staged else {}))
            files = (staged,) if staged else ()
            submission = await submit(engine, inputs, staged=files, variation=run.variation)
            return await finished(engine, hooks, submission, inputs, files)

    return to_the_end(made(), hooks)
