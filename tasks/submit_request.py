"""Submit a generation: the only task that costs money, and it does so once, however many runs ask for it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.generation.generate import submit
from runcomfy.models import ModelInputs
from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, RunPolicy
from runcomfy.values import StagedFile, StagedImage, Submission
from tasks.runtime.hooks import open_service
from tasks.runtime.naming import fact, task_name
from tasks.runtime.request_task import OpenRequest, open_request, request_task

__all__ = ["submit_request"]


_name = task_name(lambda given: f"submit to {fact(given['inputs'], 'model_id')}", otherwise="submit")


# `retries=0` is explicit: with a user's default, the next error would hide the request id that the first one carries.
@request_task(task_run_name=_name, retries=0, cache_policy=NO_CACHE)
async def submit_request(
    inputs: ModelInputs,
    credentials: RunComfyCredentials,
    store: MediaStore,
    *,
    image: StagedImage | None = None,
    staged: Sequence[StagedFile] = (),
    deadlines: Deadlines | None = None,
    variation: str = "",
    on_interrupt: OnInterrupt = "ask",
    on_uncertain: OnUncertain = "stop",
) -> Submission:
    """Return the submission of a generation: the one in the journal, or a new one.

    Any number of runs may ask for the same generation, at once or one after the other: it is submitted once, and all
    wait for the same request; if it is archived, the archive is returned without a call to the service. A generation
    that has failed is submitted again by another run, not by a retry of the same one.

    Args:
        inputs: The checked inputs. URLs of media in them are replaced by newly signed ones.
        credentials: Who pays.
        store: Where the video will go, and where the journal is. It also signs the image's URL.
        image: The staged image, for models that take one.
        staged: The staged files, for models that take others than one image.
        deadlines: The signed URL is valid for longer than both together, since the service may fetch it at any time.
        variation: Distinguishes generations that are meant to have the same inputs.
        on_interrupt: What to do with the request if this task is cancelled while it is being accepted, or after that.
        on_uncertain: What to do about an earlier submission whose outcome is unknown: `stop` and let a person decide,
            or `pay_again`, which may pay for both.

    Raises:
        UncertainSubmission: it may be accepted and billed; a person has to decide.
        SubmissionNotSent, ServiceError: it was certainly not accepted, and not paid for.
        GenerationFailed, GenerationCancelled: this same run has had its attempt.
        RequestNotFound: it was accepted earlier, and the service no longer knows it.
        InvalidInput: a staged file is missing, or is given to a model that takes none; nothing was sent.
        ConfigurationError: the image's URL cannot be signed for long enough, or is refused when it is tried out, or
            the journal cannot be kept where it should be, or the archive key names a folder of another purpose; nothing
            was sent.
        StorageError: the bucket or the journal failed. With a `request_id`: that request was accepted and could not be
            recorded; without one, nothing was sent.
    """
    policy = RunPolicy(deadlines or Deadlines(), on_interrupt=on_interrupt, on_uncertain=on_uncertain)
    async with open_service(credentials, store, policy) as engine:
        submission = await submit(engine, inputs, staged=(image,) if image else staged, variation=variation)
        open_request(OpenRequest(submission, credentials, store, on_interrupt))
        return submission
