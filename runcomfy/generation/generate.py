"""The stages of one generation: stage, submit, wait, archive. What a program adds comes through its hooks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import Clock
from runcomfy.api.responses import Answer
from runcomfy.archive.archive import check_folder, verify_exists
from runcomfy.download.hosts import check_reachable
from runcomfy.errors import DefectiveOutput, ImageUnavailable, RateLimited, RunComfyError
from runcomfy.generation.archive import archive_with_retries, refuse_defects
from runcomfy.generation.destination import Destination
from runcomfy.generation.ending import end_emitted, end_recorded, handle_cancellation, handled_if_interrupted
from runcomfy.generation.engine import Engine
from runcomfy.generation.hooks import Hooks, StateChange
from runcomfy.generation.outcomes import outcome_of
from runcomfy.generation.phases import staging, submitting, waiting
from runcomfy.generation.staging import sign, stage_image
from runcomfy.generation.verdicts import verdicts_of
from runcomfy.interruption.keyboard import noticing_ctrl_c
from runcomfy.journal import EntryState, GenerationSpec, known_key, known_spec, submit_once
from runcomfy.models import ModelInputs, workload_of
from runcomfy.models.orders import Order
from runcomfy.models.prices import base_price_of
from runcomfy.models.staged import by_field, signed
from runcomfy.policy import RunPolicy
from runcomfy.polling.forecast import RunTimes
from runcomfy.polling.poll import Poll, poll_until_done
from runcomfy.storage.signed_urls import check_signed_url
from runcomfy.storage.store import Store
from runcomfy.texts import prompt_of
from runcomfy.values import (
    Archive,
    Outcome,
    OutcomeStatus,
    Result,
    StagedFile,
    StagedImage,
    Submission,
)

__all__ = ["Authorise", "generate", "stage", "submit", "wait", "workload"]

Authorise = Callable[[], Awaitable[None]]
"""Awaited right before each call that may be paid for; what it raises is raised, and nothing is sent."""

_LIMITED_SECONDS = 600.0


async def stage(image: str | Path, store: Store, hooks: Hooks) -> StagedImage:
    """Check an image and put it into the bucket, under a key made of its content; a repetition uploads nothing.

    Args:
        image: A local path, an `https://` URL, or an `s3://` URI.
        store: Where to put it.
        hooks: The program around it.

    Raises:
        InvalidInput: it is not an image that the service would accept, or cannot be read; nothing was paid for.
        StorageError: the store could not be written or read.
    """
    with staging(hooks) as measured:
        staged = await stage_image(image, store)
        measured(staged)
    hooks.log.info(
        "%s %s (%s, %d x %d, %d bytes)",
        "Uploaded" if staged.uploaded else "Already staged:",
        staged.uri,
        staged.content_type,
        staged.width,
        staged.height,
        staged.size_bytes,
    )
    for warning in staged.warnings:
        hooks.log.warning("%s: %s", staged.source, warning)
    return staged


async def submit(
    engine: Engine,
    inputs: ModelInputs,
    *,
    staged: Sequence[StagedFile] = (),
    variation: str = "",
    authorise: Authorise | None = None,
) -> Submission:
    """Return the submission of a generation: the one that the journal knows, or a new one.

    Any number of runs may ask for the same generation, at once or one after the other: it is submitted once, all wait
    for the same request, and where it is archived the archive is returned without a call to the service.

    Args:
        engine: The account, the bucket, and the policy.
        inputs: The checked inputs. URLs of media in them are replaced by ones that are signed right before the call.
        staged: The staged files, for models that take any.
        variation: Distinguishes generations that are meant to have the same inputs.
        authorise: See `Authorise`.

    Raises:
        UncertainSubmission: it may be accepted and billed; a person has to check.
        SubmissionNotSent, ServiceError: it was surely not accepted, and not paid for.
        GenerationFailed, GenerationCancelled: this run has had its attempt.
        RequestNotFound: it was accepted earlier, and the service does not know it any more.
        InvalidInput: a staged file is missing, or is given to a model that takes none; nothing was sent.
        ImageUnavailable: a staged file is not in the bucket any more; nothing was sent.
        ConfigurationError: a staged file's URL cannot be signed for long enough, or is refused when it is tried, or
            the journal cannot be kept where it is configured, or the archive key names a folder of another purpose;
            nothing was sent.
        StorageError: the bucket or the journal failed. With a `request_id`: that one was accepted and could not be
            recorded; without one, nothing was sent.
    """
    by_field(inputs, staged)
    client, destination, hooks, policy = engine.client, engine.destination, engine.hooks, engine.policy

    async def prepare() -> ModelInputs:
        asked = inputs.body()
        destination.check_place(
            model=inputs.model_id, generation=spec.key, prompt=prompt_of(asked), seed=asked.get("seed")
        )
        await asyncio.to_thread(check_folder)
        if destination.signing is not None:
            await asyncio.to_thread(destination.signing.check)
        await asyncio.to_thread(engine.store.check)
        if (price := base_price_of(inputs)) is not None:
            seen = (await engine.run_times.load()).dearest(workload_of(inputs.model_id, asked))
            dearest = "" if seen is None else f"; the dearest of its kind cost {seen:g} USD"
            hooks.log.info("Price %s%s", price.sentence, dearest)
        return await _signed(inputs, staged, engine)

    async def intact(archive: Archive) -> bool:
        return await asyncio.to_thread(verify_exists, archive.videos, engine.store)

    async def interrupted(submission: Submission) -> None:
        key, request_id = submission.generation_key, submission.request_id
        await handle_cancellation(client, hooks, destination, key, request_id, policy.on_interrupt)

    spec = GenerationSpec(
        inputs, client.base_url, tuple(staged), variation,
        run=await hooks.run_id(), flow_run=hooks.run_facts(), store=destination.uri,
    )  # fmt: skip
    spec = await known_spec(engine.journal, spec)  # so that errors and logs name the right one
    began = datetime.now(UTC)
    with (
        noticing_ctrl_c(hooks.notices_ctrl_c),
        end_emitted(hooks, destination, spec.key, None),
        submitting(spec.key, inputs.model_id, staged, hooks) as made,
    ):
        submission = await submit_once(
            client, engine.journal, spec,
            prepare=prepare, intact=intact, on_uncertain=policy.on_uncertain, on_interrupt=interrupted,
            authorise=authorise,
        )  # fmt: skip
        is_ours = submission.archive is None and submission.submitted_at >= began
        if is_ours:
            made(submission)
    key, request_id = submission.generation_key, submission.request_id
    if is_ours:
        hooks.changed(
            StateChange(
                EntryState.SUBMITTED, destination.uri, key=key, request_id=request_id, model_id=submission.model_id
            )
        )
    done = "is archived already" if submission.archive else "submitted"
    hooks.log.info("Request %s (generation %s) %s", request_id, key[:12], done)
    return submission


async def wait(
    client: RunComfyClient,
    submission: Submission | str,
    destination: Destination | None,
    run_times: RunTimes,
    policy: RunPolicy,
    hooks: Hooks,
    *,
    show: Callable[[Poll], Awaitable[None]] | None = None,
) -> tuple[Result, Answer | None]:
    """Wait until a request has succeeded; can be repeated at any time, from the request id alone.

    Args:
        client: The account, open.
        submission: The submission, or just the request's id.
        destination: Where the journal is that records how it ended.
        run_times: The run-time cache.
        policy: When it is cancelled in the queue, when a running one is given up, how often to poll, and what to do
            with it when the waiting is cancelled.
        hooks: The program around it.
        show: Awaited with each poll.

    Returns:
        The result, and the answer that it came with, whose URLs are to be used at once, and never stored. If the
        generation is archived already, immediately and without a call to the service.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a video.
        QueueTimeout: it was cancelled at the queue deadline.
        RunTimeout, PollingFailed: it may be running and billed; fetch it later.
        ServiceError: the service refuses to answer.
        TypeError: there is no submission and no request id.
    """
    if isinstance(submission, Submission) and submission.archive is not None:
        return submission.archive.result, None
    if not isinstance(submission, Submission | str):  # such as what `allow_failure` passes on from a task that failed
        raise TypeError(f"there is no submission or request id to wait for, but a {type(submission).__name__}")
    known = submission if isinstance(submission, Submission) else None
    request_id = known.request_id if known else str(submission)
    key = known.generation_key if known else None
    async with handled_if_interrupted(client, hooks, destination, key, request_id, policy.on_interrupt):
        await run_times.load()
        async with end_recorded(hooks, destination, key, request_id), waiting(submission, hooks) as polled:
            async for poll in poll_until_done(
                client,
                request_id,
                submitted_at=known.submitted_at if known else None,
                deadlines=policy.deadlines,
                polling=policy.polling,
                clock=Clock(sleep=hooks.sleep),
                workload=workload(submission),
                run_times=run_times,
            ):
                polled(poll)
                if poll.result is not None:
                    break
                if show is not None:
                    await show(poll)
            else:
                raise AssertionError("polling a request ends with a result or an error")
    if show is not None:  # out here, since there is nothing left to cancel
        await show(poll)
    return poll.result, poll.answer


def workload(submission: Submission | str) -> str | None:
    """Return what a request has in common with others that take as long, if that is known."""
    return submission.workload if isinstance(submission, Submission) else None


async def generate(
    order: Order,
    staged: Sequence[StagedFile],
    engine: Engine,
    *,
    label: str,
    authorise: Authorise | None = None,
    on_accepted: Callable[[Submission], Awaitable[None]] | None = None,
) -> Outcome:
    """Submit, wait, archive, and return the outcome: one generation among many, whose failure is its own.

    Args:
        order: What is asked for.
        staged: Its media.
        engine: The account, the bucket and the policy.
        label: Its name in the outcome.
        authorise: See `Authorise`; what it raises becomes the outcome.
        on_accepted: Awaited as soon as the journal has the generation: submitted now or before, or archived.
    """
    began, key, accepted = time.monotonic(), None, None
    uris, verdicts, cost_usd = tuple[str, ...](), verdicts_of(()), None
    try:
        inputs = order.inputs(staged)
        key = await known_key(engine.journal, inputs, staged, variation=order.variation)
        submission = await _submitted(engine, inputs, staged, order.variation, authorise)
        accepted = submission.request_id
        if on_accepted is not None:
            handled = handled_if_interrupted(
                engine.client,
                engine.hooks,
                engine.destination,
                submission.generation_key,
                accepted,
                engine.policy.on_interrupt,
            )
            async with handled if submission.archive is None else nullcontext():
                await on_accepted(submission)
        result, answer = await wait(
            engine.client, submission, engine.destination, engine.run_times, engine.policy, engine.hooks
        )
        facts, videos = await archive_with_retries(
            engine, result, model_id=inputs.model_id, inputs=inputs, staged=staged, submission=submission, answer=answer
        )
        uris, cost_usd = tuple(video.uri for video in videos), facts.cost_usd if facts else result.cost_usd
        verdicts = verdicts_of(videos)
        refuse_defects(videos, engine.destination)
    except DefectiveOutput as error:
        failed = outcome_of(error, label, key=key, accepted=accepted, seconds=time.monotonic() - began)
        # it is archived, or was rejected by a person, and was paid for
        return failed.model_copy(update={"uris": uris, "verdicts": verdicts, "cost_usd": cost_usd})
    except RunComfyError as error:
        return outcome_of(error, label, key=key, accepted=accepted, seconds=time.monotonic() - began)
    except Exception as error:
        engine.hooks.log.exception("%s failed with an unexpected error", label)
        unexpected = RunComfyError(f"{type(error).__name__}: {error}")
        return outcome_of(unexpected, label, key=key, accepted=accepted, seconds=time.monotonic() - began)
    return Outcome(
        label=label,
        status=OutcomeStatus.EXISTING if submission.archive is not None else OutcomeStatus.ARCHIVED,
        generation_key=submission.generation_key,
        request_id=submission.request_id,
        uris=uris,
        verdicts=verdicts,
        cost_usd=cost_usd,
        seconds=round(time.monotonic() - began, 3),
    )


async def _submitted(
    engine: Engine, inputs: ModelInputs, staged: Sequence[StagedFile], variation: str, authorise: Authorise | None
) -> Submission:
    """Submit, a few at a time; if the service says that it is too much, try again until the queue deadline."""
    until = time.monotonic() + engine.policy.deadlines.queue_timeout_seconds
    while True:
        try:
            async with engine.submitting:
                return await submit(engine, inputs, staged=staged, variation=variation, authorise=authorise)
        except RateLimited as error:
            if time.monotonic() >= until or not error.retryable:
                raise
            pause_seconds = min(error.retry_after_seconds or _LIMITED_SECONDS, _LIMITED_SECONDS)
            engine.hooks.log.info("The service accepts no more at the moment; this one is tried again")
        await asyncio.sleep(pause_seconds)


async def _signed(inputs: ModelInputs, staged: Sequence[StagedFile], engine: Engine) -> ModelInputs:
    """Return the inputs with signed URLs, each tried out."""
    store, lifetime = engine.store, engine.policy.deadlines.signed_for
    for file in staged:
        await asyncio.to_thread(store.find_region, file.bucket)
        if await asyncio.to_thread(store.head, file.key, file.bucket) is None:
            raise ImageUnavailable(
                f"{file.uri} is not in the bucket any more, so nothing was sent or paid for. Run it again: "
                f"{file.source} is staged again."
            )
        if not engine.client.is_local:
            check_reachable(await asyncio.to_thread(sign, file, store, lifetime))
        warning = await asyncio.to_thread(
            check_signed_url, store, file.key, bucket=file.bucket, size_bytes=file.size_bytes, lifetime=lifetime
        )
        if warning:
            engine.hooks.log.warning(warning)
    return await asyncio.to_thread(signed, inputs, staged, lambda file: sign(file, store, lifetime))
