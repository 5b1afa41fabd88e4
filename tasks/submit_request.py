"""Submit a generation: the only task that costs money, and it does so once, whoever asks and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import lru_cache

from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.archiving import check_folder, still_stands
from runcomfy.errors import InvalidInput
from runcomfy.hosts import check_reachable
from runcomfy.journal import EntryState, GenerationSpec, known_spec, submit_once
from runcomfy.models import ModelInputs
from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, RunPolicy
from runcomfy.signed_urls import check_signed_url
from runcomfy.staging import sign_image
from runcomfy.values import Archive, StagedImage, Submission
from tasks.context import flow_run_facts
from tasks.events import end_told, tell_event
from tasks.interruption import settle
from tasks.keyboard import noticing_ctrl_c
from tasks.naming import fact, task_name
from tasks.service import Service, open_service
from tasks.telemetry import submitting

__all__ = ["submit", "submit_request"]


_name = task_name(lambda given: f"submit to {fact(given['inputs'], 'model_id')}", otherwise="submit")


@lru_cache(maxsize=1024)
def _outermost(flow_run_id: str) -> str:
    """Return the outermost flow run: when that one is retried, its subflows get new ids."""
    return runtime.flow_run.root_flow_run_id or flow_run_id


# `retries=0` is said aloud: a user's default would hide the request id that an error carries behind the next error.
@task(task_run_name=_name, retries=0, cache_policy=NO_CACHE)
async def submit_request(
    inputs: ModelInputs,
    credentials: RunComfyCredentials,
    store: MediaStore,
    *,
    image: StagedImage | None = None,
    deadlines: Deadlines | None = None,
    variation: str = "",
    on_interrupt: OnInterrupt = "ask",
    on_uncertain: OnUncertain = "stop",
) -> Submission:
    """Return the submission of a generation: the one that the journal knows, or one that is made here and now.

    Any number of runs may ask for the same generation, at once or one after the other: it is submitted once, all wait
    for the same request, and where it is archived the archive is returned without a call to the service. A generation
    that has failed is submitted again by another run, not by a retry of the same one.

    Args:
        inputs: The checked inputs. An image's URL in them is replaced by one that is signed here and now.
        credentials: Who pays.
        store: Where the video will go, and where the journal is. It also signs the picture's URL.
        image: The staged picture, for models that take one.
        deadlines: The signed URL outlives them together, because nobody knows when the service fetches it.
        variation: Tells apart generations that are meant to have the same inputs.
        on_interrupt: What to do with the request if this task is cancelled while it is being accepted.
        on_uncertain: What to do about an earlier submission that nobody knows the answer of: `stop` and let a person
            look, or `pay_again`, which may pay for both.

    Raises:
        UncertainSubmission: it may be accepted and billed; a person has to look.
        SubmissionNotSent, ServiceError: it was surely not accepted, and not paid for.
        GenerationFailed, GenerationCancelled: this very run has had its attempt.
        RequestNotFound: it was accepted earlier, and the service does not know it any more.
        InvalidInput: a picture is missing, or is given to a model that takes none; nothing was sent.
        ConfigurationError: the picture's URL cannot be signed for long enough, or is refused when it is tried out, or
            the journal cannot be kept where it is to be, or the archive key names a folder of another purpose; nothing
            was sent.
        StorageError: the bucket or the journal failed. With a `request_id`: that one was accepted and could not be
            written down; without one, nothing was sent.
    """
    policy = RunPolicy(deadlines or Deadlines(), on_interrupt=on_interrupt, on_uncertain=on_uncertain)
    async with open_service(credentials, store, policy) as service:
        return await submit(service, inputs, image=image, variation=variation)


async def submit(
    service: Service,
    inputs: ModelInputs,
    *,
    image: StagedImage | None = None,
    variation: str = "",
    authorise: Callable[[], Awaitable[None]] | None = None,
) -> Submission:
    """Do what the task `submit_request` does, with what is open already.

    Args:
        service: The account, the store, and the rules.
        inputs: The checked inputs.
        image: The staged picture, for models that take one.
        variation: Tells apart generations that are meant to have the same inputs.
        authorise: Awaited right before each call that may be paid for; what it raises comes out, and nothing is sent.
    """
    if inputs.takes_image() != (image is not None):
        raise InvalidInput(f"{inputs.model_id} is submitted {'with' if image is None else 'without'} a staged picture.")
    client, store = service.client, service.store.get_store()

    async def prepare() -> ModelInputs:
        asked = inputs.body()
        service.store.check_place(
            model=inputs.model_id, generation=spec.key, prompt=asked["prompt"], seed=asked.get("seed")
        )
        await asyncio.to_thread(check_folder)
        await asyncio.to_thread(store.check)
        return inputs if image is None else await _signed(inputs, image, service)

    async def intact(archive: Archive) -> bool:
        return await asyncio.to_thread(still_stands, archive.videos, store)

    async def interrupted(submission: Submission) -> None:
        await settle(
            client, submission.request_id, service.store, submission.generation_key, service.policy.on_interrupt
        )

    run_id = runtime.flow_run.id or runtime.task_run.id
    spec = GenerationSpec(
        inputs, client.base_url, image, variation, run=await asyncio.to_thread(_outermost, str(run_id)),
        flow_run=flow_run_facts(), store=store.uri(store.prefix),
    )  # fmt: skip
    spec = await known_spec(service.journal, spec)  # so that what is said of it names the right one
    began = datetime.now(UTC)
    with (
        noticing_ctrl_c(),
        end_told(service.store, spec.key, None),
        submitting(spec.key, inputs.model_id, image) as made,
    ):
        submission = await submit_once(
            client, service.journal, spec,
            prepare=prepare, intact=intact, on_uncertain=service.policy.on_uncertain, on_interrupt=interrupted,
            authorise=authorise,
        )  # fmt: skip
        is_ours = submission.archive is None and submission.submitted_at >= began
        if is_ours:
            made(submission)
    if is_ours:
        tell_event(
            EntryState.SUBMITTED,
            service.store,
            key=submission.generation_key,
            request_id=submission.request_id,
            model_id=submission.model_id,
        )
    done = "is archived already" if submission.archive else "submitted"
    get_run_logger().info("Request %s (generation %s) %s", submission.request_id, submission.generation_key[:12], done)
    return submission


async def _signed(inputs: ModelInputs, image: StagedImage, service: Service) -> ModelInputs:
    store, lifetime = service.store.get_store(), service.policy.deadlines.signed_for
    await asyncio.to_thread(store.find_region, image.bucket)
    if not service.client.is_local:
        check_reachable(await asyncio.to_thread(sign_image, image, store, lifetime))
    warning = await asyncio.to_thread(
        check_signed_url, store, image.key, bucket=image.bucket, size_bytes=image.size_bytes, lifetime=lifetime
    )
    if warning:
        get_run_logger().warning(warning)
    url = await asyncio.to_thread(sign_image, image, store, lifetime)
    return inputs.model_copy(update={inputs.image_field: url})
