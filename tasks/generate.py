"""One generation among many, in one task run: its failure is its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from runcomfy.errors import RateLimited, RunComfyError, is_retryable
from runcomfy.journal import known_key
from runcomfy.models import ModelInputs
from runcomfy.models.orders import Order
from runcomfy.outcomes import outcome_of
from runcomfy.values import ArchivedVideo, GenerationFacts, Outcome, OutcomeStatus, Result, StagedImage, Submission
from runcomfy.wire import Answer
from tasks.archive_outputs import archive
from tasks.naming import fact, task_name
from tasks.service import Service
from tasks.submit_request import submit
from tasks.telemetry import tried
from tasks.wait_for_result import wait

__all__ = ["generate", "generate_one"]

_ARCHIVING_ATTEMPTS = 6
_LIMITED_SECONDS = 600.0


async def generate_one(
    order: Order,
    staged: StagedImage | None,
    service: Service,
    *,
    label: str,
    authorise: Callable[[], Awaitable[None]] | None = None,
    on_accepted: Callable[[Submission], Awaitable[None]] | None = None,
) -> Outcome:
    """Run the task `generate` and return its outcome, whatever that is.

    Args:
        order: What is asked for.
        staged: Its picture, for models that take one.
        service: The account, the store and the rules.
        label: What it is called, in the name of the task run and in the outcome.
        authorise: Awaited if it is to be paid for now, before that is written down; what it raises becomes the outcome.
        on_accepted: Awaited as soon as the journal has the generation: submitted now or before, or archived.
    """
    state: State[Any] = await generate(  # type: ignore[misc]  # Prefect's overloads know no `return_state` of coroutines
        order, staged, service, label=label, authorise=authorise, on_accepted=on_accepted, return_state=True
    )
    outcome = await state.aresult(raise_on_failure=False)
    if isinstance(outcome, Outcome):
        return outcome
    raise outcome


@task(
    task_run_name=task_name(lambda given: fact(given["label"]), otherwise="generate"),
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def generate(
    order: Order,
    staged: StagedImage | None,
    service: Service,
    *,
    label: str,
    authorise: Callable[[], Awaitable[None]] | None = None,
    on_accepted: Callable[[Submission], Awaitable[None]] | None = None,
) -> Outcome | State[Outcome]:
    """Submit, wait, archive; an error of this generation becomes the outcome of a failed task run.

    See `generate_one` for the arguments.
    """
    began, key, accepted = time.monotonic(), None, None
    try:
        inputs = order.inputs(staged)
        sha256 = staged.sha256 if staged else None
        key = await known_key(service.journal, inputs, image_sha256=sha256, variation=order.variation)
        submission = await _submitted(service, inputs, staged, order.variation, authorise)
        accepted = submission.request_id
        if on_accepted is not None:
            await on_accepted(submission)
        result, answer = await wait(service.client, submission, service.store, service.run_times, service.policy)
        facts, videos = await _archived(service, inputs, staged, submission, result, answer)
    except RunComfyError as error:
        return _failed(outcome_of(error, label, key=key, accepted=accepted, seconds=time.monotonic() - began))
    except Exception as error:
        get_run_logger().exception("%s failed in a way that nobody thought of", label)
        unexpected = RunComfyError(f"{type(error).__name__}: {error}")
        return _failed(outcome_of(unexpected, label, key=key, accepted=accepted, seconds=time.monotonic() - began))
    existing = submission.archive is not None
    return Outcome(
        label=label,
        status=OutcomeStatus.EXISTING if existing else OutcomeStatus.ARCHIVED,
        generation_key=submission.generation_key,
        request_id=submission.request_id,
        uris=tuple(video.uri for video in videos),
        cost_usd=facts.cost_usd if facts else result.cost_usd,
        seconds=round(time.monotonic() - began, 3),
    )


async def _submitted(
    service: Service,
    inputs: ModelInputs,
    staged: StagedImage | None,
    variation: str,
    authorise: Callable[[], Awaitable[None]] | None,
) -> Submission:
    """Submit, a few at a time; where the service says that it is too much, go on trying until the queue deadline."""
    until = time.monotonic() + service.policy.deadlines.queue_timeout_seconds
    while True:
        try:
            async with service.submitting:
                return await submit(service, inputs, image=staged, variation=variation, authorise=authorise)
        except RateLimited as error:
            if time.monotonic() >= until or not error.retryable:
                raise
            pause_seconds = min(error.retry_after_seconds or _LIMITED_SECONDS, _LIMITED_SECONDS)
            get_run_logger().info("The service takes no more at the moment; this one is tried again")
        await asyncio.sleep(pause_seconds)


async def _archived(
    service: Service,
    inputs: ModelInputs,
    staged: StagedImage | None,
    submission: Submission,
    result: Result,
    answer: Answer | None,
) -> tuple[GenerationFacts | None, list[ArchivedVideo]]:
    async for attempt in AsyncRetrying(
        stop=stop_after_attempt(_ARCHIVING_ATTEMPTS),
        wait=wait_random_exponential(multiplier=2, max=60),
        retry=retry_if_exception(is_retryable),
        reraise=True,
    ):
        known, answer = answer, None  # its URLs may have ended by the next attempt
        with attempt, tried("archive", attempt.retry_state.attempt_number, of=_ARCHIVING_ATTEMPTS):
            archived = await archive(
                service,
                result,
                model_id=inputs.model_id,
                inputs=inputs,
                image=staged,
                submission=submission,
                answer=known,
            )
    return archived


def _failed(outcome: Outcome) -> State[Outcome]:
    return Failed(message=f"{outcome.status}: {outcome.error}", data=outcome)
