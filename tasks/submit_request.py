"""Submit a generation: the only task that costs money."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.generation import generation_key
from runcomfy.models import ImageToVideo, TextToVideo
from runcomfy.polling import Deadlines
from runcomfy.staging import StagedImage, sign_image
from runcomfy.submitting import Submission, submit
from tasks.interruption import OnInterrupt, settle

__all__ = ["submit_request"]

_MARGIN = timedelta(minutes=15)


def _name() -> str:
    return f"submit to {runtime.task_run.parameters['inputs'].model_id}"


# `retries=0` is said aloud: without it, a user's PREFECT_TASKS_DEFAULT_RETRIES would pay again.
@task(task_run_name=_name, retries=0, cache_policy=NO_CACHE)
async def submit_request(
    inputs: ImageToVideo | TextToVideo,
    credentials: RunComfyCredentials,
    store: MediaStore,
    *,
    image: StagedImage | None = None,
    deadlines: Deadlines | None = None,
    variation: str = "",
    on_interrupt: OnInterrupt = "ask",
) -> Submission:
    """Submit once, and never again by itself unless the service surely did not accept it.

    Args:
        inputs: The checked inputs. An image's URL in them is replaced by one that is signed here and now.
        credentials: Who pays.
        store: Where the video will go: looked at before anything is paid for. It also signs the picture's URL.
        image: The staged picture, for models that take one.
        deadlines: The signed URL outlives them together, because nobody knows when the service fetches it.
        variation: Tells apart generations that are meant to have the same inputs.
        on_interrupt: What to do with the request if this task is cancelled while it is being accepted.

    Raises:
        UncertainSubmission: it may be accepted and billed; a person has to look.
        SubmissionNotSent, ServiceError: it was surely not accepted, and not paid for.
        ConfigurationError: the picture's URL cannot be signed for long enough; nothing was sent.
        StorageError: the bucket is not there or not ours; nothing was sent.
    """
    key = generation_key(inputs, image_sha256=image.sha256 if image else None, variation=variation)
    await asyncio.to_thread(store.get_store().check)
    signed = inputs
    if image is not None:
        patience = deadlines or Deadlines()
        lifetime = timedelta(seconds=patience.queue_timeout_seconds + patience.run_timeout_seconds) + _MARGIN
        url = await asyncio.to_thread(sign_image, image, store.get_store(), lifetime)
        signed = inputs.model_copy(update={"image_url": url})

    async def interrupted(submission: Submission) -> None:
        await settle(submission.request_id, credentials, on_interrupt)

    async with credentials.get_client() as client:
        submission = await submit(client, signed, generation_key=key, on_interrupt=interrupted)
    get_run_logger().info("Submitted request %s (generation %s)", submission.request_id, key[:12])
    return submission
