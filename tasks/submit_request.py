"""Submit a generation: the only task that costs money."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import Any

from prefect import get_run_logger, runtime, task
from prefect.context import TaskRunContext

from blocks import MediaStore, RunComfyCredentials
from runcomfy.client import RunComfyClient
from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.generation import generation_key
from runcomfy.hosts import check_reachable
from runcomfy.models import ImageToVideo, TextToVideo
from runcomfy.polling import Deadlines
from runcomfy.staging import StagedImage, sign_image
from runcomfy.submitting import Submission, submit
from tasks.interruption import OnInterrupt, settle
from tasks.once import once

__all__ = ["submit_request"]

_MARGIN = timedelta(minutes=15)


def _name() -> str:
    return f"submit to {runtime.task_run.parameters['inputs'].model_id}"


@lru_cache(maxsize=1024)
def _root(flow_run_id: str) -> str:
    """Return the outermost flow run: when that one is retried, its subflows get new ids."""
    return runtime.flow_run.root_flow_run_id or flow_run_id


def _cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Name the submission by the outermost flow run, the account and the generation: a retry of the run finds it."""
    run = _root(str(context.task_run.flow_run_id or context.task_run.id))
    account: RunComfyCredentials = parameters["credentials"]
    payer = f"{account.base_url} {account.api_token.get_secret_value()}"
    key = _key(parameters["inputs"], parameters["image"], parameters["variation"])
    return f"runcomfy-submission-{run}-{hashlib.sha256(payer.encode()).hexdigest()[:8]}-{key}"


def _key(inputs: ImageToVideo | TextToVideo, image: StagedImage | None, variation: str) -> str:
    return generation_key(inputs, image_sha256=image.sha256 if image else None, variation=variation)


# Said aloud, because a user's default settings would pay again: no retries, no refreshing, and a result that is kept.
@task(task_run_name=_name, retries=0, cache_key_fn=_cache_key, persist_result=True, refresh_cache=False)
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

    In one flow run the same generation is submitted once: a retry of the run returns what was submitted, also if that
    has failed since. For another try, start another run, or give a variation.

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
        InvalidInput: a picture is missing, or is given to a model that takes none; nothing was sent.
        ConfigurationError: the picture's URL cannot be signed for long enough, or not be fetched; nothing was sent.
        StorageError: the bucket is not there or not ours; nothing was sent.
    """
    if isinstance(inputs, ImageToVideo) != (image is not None):
        raise InvalidInput(f"{inputs.model_id} is submitted {'with' if image is None else 'without'} a staged picture.")
    logger, context = get_run_logger(), TaskRunContext.get()
    if context is None:
        raise ConfigurationError("submit_request is called as a Prefect task, so that a retry finds what it submitted.")
    key = _key(inputs, image, variation)
    await asyncio.to_thread(store.get_store().check)

    async def send(accepted: Callable[[Submission], None]) -> Submission:
        async def interrupted(submission: Submission) -> None:
            accepted(submission)
            await settle(submission.request_id, credentials, on_interrupt)

        async with credentials.get_client() as client:
            signed = inputs if image is None else await _signed(inputs, image, store, deadlines or Deadlines(), client)
            submission = await submit(client, signed, generation_key=key, on_interrupt=interrupted)
            logger.info("Submitted request %s (generation %s)", submission.request_id, key[:12])
        return submission

    return await once(_cache_key(context, context.parameters), send)


async def _signed(
    inputs: ImageToVideo | TextToVideo,
    image: StagedImage,
    store: MediaStore,
    deadlines: Deadlines,
    client: RunComfyClient,
) -> ImageToVideo | TextToVideo:
    lifetime = timedelta(seconds=deadlines.queue_timeout_seconds + deadlines.run_timeout_seconds) + _MARGIN
    url = await asyncio.to_thread(sign_image, image, store.get_store(), lifetime)
    if not client.is_local:
        check_reachable(url)
    return inputs.model_copy(update={"image_url": url})
