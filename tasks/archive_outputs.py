"""Bring what was generated into the bucket."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from blocks import MediaStore, RunComfyCredentials
from runcomfy.archiving import archive_answer
from runcomfy.errors import InvalidInput
from runcomfy.expectation import Expectation
from runcomfy.journal import note_archived, tell_archived
from runcomfy.models import ModelInputs, inputs_class
from runcomfy.outcome import collect
from runcomfy.values import Archive, ArchivedVideo, GenerationFacts, Result, StagedImage, Submission
from runcomfy.wire import Answer
from tasks.artifacts import publish
from tasks.context import flow_run_facts
from tasks.events import end_of_request_told, tell_archived_event
from tasks.known_request import origin_of
from tasks.naming import fact, task_name
from tasks.retrying import worth_retrying
from tasks.service import Service, open_service
from tasks.telemetry import archiving

__all__ = ["archive", "archive_outputs"]

_T = TypeVar("_T")
_name = task_name(lambda given: f"archive {fact(given['result'], 'request_id')}", otherwise="archive a request")


@task(
    task_run_name=_name,
    retries=4,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
async def archive_outputs(
    result: Result | str,
    credentials: RunComfyCredentials,
    store: MediaStore,
    *,
    model_id: str | None = None,
    inputs: ModelInputs | None = None,
    image: StagedImage | None = None,
    submission: Submission | None = None,
) -> list[ArchivedVideo]:
    """Move every file of a finished request into the store, checked, with its provenance beside it; tell the journal.

    It may be done again at any time, and then finds what it did before. The files' URLs are asked for here and now, so
    that each attempt has fresh ones, and none is ever kept.

    Without a submission, the journal is asked which generation the request is of: what it was asked for, where it is to
    be archived, and whether it is already.

    Args:
        result: The result, or just the request's id.
        credentials: Whose request it is, and which hosts its files may come from.
        store: Where to archive.
        model_id: The model that made them; it is part of the key. Not needed with a submission, nor where the journal
            knows the request.
        inputs: What was asked for; goes into the provenance, and is compared with what came.
        image: The staged picture, for the provenance.
        submission: The submission, for the provenance and the journal.

    Raises:
        InvalidInput: it was submitted to another model than is said here, or to one that nobody knows of.
        NotFinished: the request is not finished.
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a file.
        ArchiveError: a file could not be archived; nothing half-written is visible, and it can be fetched again.
        StorageError: the store refused.
    """
    began = time.monotonic()
    request_id = result if isinstance(result, str) else result.request_id
    if submission is None:
        origin = await origin_of(request_id, credentials.base_url, store, model_id)
        model_id, store, submission = origin.model_id, origin.store, origin.submission
        if submission is not None:  # the journal knows better than who asks
            inputs, image = origin.inputs, origin.image
    elif model_id not in (None, submission.model_id):
        raise InvalidInput(
            f"Request {request_id} was submitted to {submission.model_id}, not to {model_id}. Nothing was archived.",
            request_id=request_id, generation_key=submission.generation_key, model_id=submission.model_id,
        )  # fmt: skip
    model_id = submission.model_id if submission else str(model_id)
    async with open_service(credentials, store) as service:
        facts, videos = await archive(
            service, result, model_id=model_id, inputs=inputs, image=image, submission=submission
        )
    took = time.monotonic() - began if facts is not None else None
    if facts is None and submission is not None and submission.archive is not None:
        done = submission.archive.result
        facts = _facts(done, model_id, done, inputs.body() if inputs else None, image, submission)
    if facts is not None:
        await publish(facts, videos, store, archiving_seconds=took)
    return videos


async def archive(
    service: Service,
    result: Result | str,
    *,
    model_id: str,
    inputs: ModelInputs | None = None,
    image: StagedImage | None = None,
    submission: Submission | None = None,
    answer: Answer | None = None,
) -> tuple[GenerationFacts | None, list[ArchivedVideo]]:
    """Do what the task `archive_outputs` does, with what is open already, and without artifacts.

    Args:
        service: The account and the store.
        result: As there, as are those that follow.
        model_id: The model.
        inputs: What was asked for.
        image: The staged picture.
        submission: The submission.
        answer: What the service said a moment ago, which saves a call; it is asked all the same if it named no cost.

    Returns:
        What is known of the generation, `None` where it was archived before; and its files.
    """
    if not isinstance(result, Result | str):  # such as what `allow_failure` hands on of a task that failed
        raise TypeError(f"there is no result or request id to archive, but a {type(result).__name__}")
    request_id = result if isinstance(result, str) else result.request_id
    if submission is not None and submission.archive is not None:
        done = [video.model_copy(update={"already_archived": True}) for video in submission.archive.videos]
        for video in done:
            _log(video)
        return None, done
    key = submission.generation_key if submission else None
    async with (
        end_of_request_told(service.store, key, request_id),
        archiving(request_id, model_id, submission) as archived,
    ):
        if answer is None or answer.cost_usd is None:
            answer = await collect(service.client, request_id)
        waited = result if isinstance(result, Result) else None
        asked = inputs.body() if inputs is not None else None
        if waited is None or asked is None:  # by its id alone: what was sent, also if this version would refuse it
            asked = await _asked(service, key) or asked
        facts = _facts(answer, model_id, waited, asked, image, submission)
        videos = await archive_answer(
            answer,
            facts,
            service.store.get_store(),
            expected=_expectation(model_id, inputs),
            hosts=service.credentials.host_policy(),
            template=service.store.key_template(),
            mark=service.store.mark_ai_generated,
        )
        archived(facts, videos)
    for video in videos:
        tell_archived_event(facts, video, image, service.store)
    if key is not None:
        ended = result if isinstance(result, Result) else _late(answer)
        ended = ended.model_copy(update={"cost_usd": answer.cost_usd})
        entry = await tell_archived(service.journal, key, request_id, Archive(result=ended, videos=tuple(videos)))
        if entry is not None:
            await note_archived(service.journal, entry)
    for video in videos:
        _log(video)
    return facts, videos


async def _asked(service: Service, key: str | None) -> dict[str, Any] | None:
    """Return what the journal says was asked for."""
    found = await service.journal.read(key) if key is not None else None
    return found.entry.inputs if found is not None else None


def _late(answer: Answer) -> Result:
    """What is known of the waiting where nobody waited."""
    return Result(
        request_id=answer.request_id, output_count=len(answer.outputs), noticed_at=datetime.now(UTC),
        queued_seconds=None, running_seconds=None, polls=0,
        created_at=answer.created_at, finished_at=answer.finished_at, cost_usd=answer.cost_usd,
    )  # fmt: skip


def _facts(
    answer: Answer | Result,
    model_id: str,
    result: Result | None,
    asked: dict[str, Any] | None,
    image: StagedImage | None,
    submission: Submission | None,
) -> GenerationFacts:
    seed = (asked or {}).get("seed")
    return GenerationFacts(
        model_id=model_id,
        request_id=answer.request_id,
        generation_key=submission.generation_key if submission else None,
        inputs=asked,
        image=image,
        seed=seed if isinstance(seed, int) else None,
        submitted_at=submission.submitted_at if submission else None,
        finished_noticed_at=result.noticed_at if result else None,
        service_created_at=answer.created_at,
        service_finished_at=answer.finished_at,
        queued_seconds=result.queued_seconds if result else None,
        running_seconds=result.running_seconds if result else None,
        cost_usd=answer.cost_usd,
        polls=result.polls if result else None,
        flow_run=flow_run_facts(),
    )


def _expectation(model_id: str, inputs: ModelInputs | None) -> Expectation:
    asked = inputs.body() if inputs is not None else {}
    return Expectation(
        video=inputs_class(model_id).makes_video,
        frames=_of(asked, "num_frames", int),
        frames_per_second=_of(asked, "frames_per_second", int),
        resolution=_of(asked, "resolution", str),
        aspect_ratio=_of(asked, "aspect_ratio", str),
    )


def _of(asked: dict[str, Any], name: str, kind: type[_T]) -> _T | None:
    """Return a setting where the model has it, and means by it what others mean."""
    return value if isinstance(value := asked.get(name), kind) else None


def _log(video: ArchivedVideo) -> None:
    logger = get_run_logger()
    media = video.media
    logger.info(
        "%s %s (%s, %s x %s, %s frames, %d bytes)",
        "Already archived:" if video.already_archived else "Archived",
        video.uri,
        media.codec or media.container,
        media.width,
        media.height,
        media.frames,
        video.size_bytes,
    )
    for warning in video.warnings:
        logger.warning("%s: %s", video.uri, warning)
