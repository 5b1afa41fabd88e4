"""Archive the outputs of a request in the bucket, and record it in the journal."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ParamSpec, TypeVar

from runcomfy.api.requests import collect
from runcomfy.api.responses import Answer
from runcomfy.archive.archive import archive_answer, verify_exists
from runcomfy.archive.copies import are_twins, delete_copy
from runcomfy.errors import DefectiveOutput, InvalidInput, RunComfyError
from runcomfy.generation.destination import Destination
from runcomfy.generation.ending import end_recorded
from runcomfy.generation.engine import Engine
from runcomfy.generation.hooks import Log
from runcomfy.generation.origin import Origin, origin_of
from runcomfy.generation.phases import archiving, tried
from runcomfy.journal import Entry, note_archived, record_archived, record_reviewed, rejection_of
from runcomfy.media.validation import OutputValidation
from runcomfy.models import ModelInputs, inputs_class
from runcomfy.retry import with_retries
from runcomfy.values import Archive, ArchivedVideo, GenerationFacts, Quality, Result, StagedFile, Submission, only_image

__all__ = ["archive", "archive_with_retries", "facts_of", "refuse_defects", "what_to_archive"]

_ARCHIVING_ATTEMPTS = 6

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def what_to_archive(
    request_id: str,
    engine: Engine,
    *,
    model_id: str | None = None,
    inputs: ModelInputs | None = None,
    staged: Sequence[StagedFile] = (),
    submission: Submission | None = None,
) -> Origin:
    """Return what is known of a request to archive; without a submission, the journal is asked.

    Args:
        request_id: The request.
        engine: The account and the bucket.
        model_id: The model that it was submitted to, if the caller says so.
        inputs: What was asked for, if the caller says so; the journal takes precedence.
        staged: The staged files, likewise.
        submission: The submission, if the caller has it.

    Raises:
        InvalidInput: it was submitted to another model than `model_id`, or its model is unknown.
        ConfigurationError: it was submitted to another service.
        StorageError: the journal could not be read.
    """
    if submission is None:
        origin = await origin_of(request_id, engine.client.base_url, engine.destination, model_id, engine.hooks.log)
        known = origin.submission is not None
        return origin if known else Origin(origin.model_id, origin.destination, None, inputs, tuple(staged))
    if model_id not in (None, submission.model_id):
        raise InvalidInput(
            f"Request {request_id} was submitted to {submission.model_id}, not to {model_id}. Nothing was archived.",
            request_id=request_id, generation_key=submission.generation_key, model_id=submission.model_id,
        )  # fmt: skip
    return Origin(submission.model_id, engine.destination, submission, inputs, tuple(staged))


async def archive(
    engine: Engine,
    result: Result | str,
    *,
    model_id: str,
    inputs: ModelInputs | None = None,
    staged: Sequence[StagedFile] = (),
    submission: Submission | None = None,
    answer: Answer | None = None,
) -> tuple[GenerationFacts | None, list[ArchivedVideo]]:
    """Copy every file of a finished request into the bucket, checked, with its provenance; record it in the journal.

    Can be repeated at any time: it finds what is archived already.

    Args:
        engine: The account and the bucket.
        result: The result, or just the request's id.
        model_id: The model that made the files; part of the key.
        inputs: What was asked for; written to the provenance, and the output is validated against it.
        staged: The staged files, for the provenance.
        submission: The submission, for the provenance and the journal.
        answer: The service's answer of a moment ago, which saves a call; it is asked again if it named no cost.

    Returns:
        What is known of the generation, `None` if it was archived before; and its files.

    Raises:
        NotFinished: the request is not finished.
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a file.
        OutputRejected: a person rejected one of its files; that is recorded by then, and nothing was fetched.
        ArchiveError: a file could not be archived; nothing half-written is visible, and it can be fetched again.
        StorageError: the store refused.
        TypeError: there is no result and no request id.
    """
    if not isinstance(result, Result | str):  # such as what `allow_failure` passes on from a task that failed
        raise TypeError(f"there is no result or request id to archive, but a {type(result).__name__}")
    request_id = result if isinstance(result, str) else result.request_id
    hooks = engine.hooks
    if submission is not None and submission.archive is not None:
        _refuse_rejected(submission.archive.videos, submission.generation_key, engine.destination, model_id)
        done = [video.model_copy(update={"already_archived": True}) for video in submission.archive.videos]
        for video in done:
            _log(video, hooks.log)
        return None, done
    key, run_facts = submission.generation_key if submission else None, hooks.run_facts()
    async with (
        end_recorded(hooks, engine.destination, key, request_id),
        archiving(request_id, model_id, submission, hooks) as archived,
    ):
        if answer is None or answer.cost_usd is None:
            answer = await collect(engine.client, request_id)
        waited = result if isinstance(result, Result) else None
        asked = inputs.body() if inputs is not None else None
        if waited is None or asked is None:  # by its id alone: what was sent, even if this version would refuse it
            asked = await _asked(engine, key) or asked
        facts = facts_of(answer, model_id, waited, asked, staged, submission, run_facts)
        videos = await archive_answer(
            answer,
            facts,
            engine.store,
            validation=_validation_of(model_id, inputs),
            hosts=engine.hosts,
            template=engine.destination.template,
            mark=engine.destination.mark_ai_generated,
            signing=engine.destination.signing,
            contact_sheet=engine.destination.contact_sheets,
            set_aside=engine.destination.on_defect == "set_aside",
        )
        archived(facts, videos)
    for video in videos:
        if not video.is_rejected:
            hooks.archived(facts, video, only_image(staged), engine.store)
    if key is not None:
        ended = result if isinstance(result, Result) else _result_of(answer)
        ended = ended.model_copy(update={"cost_usd": answer.cost_usd})
        try:
            entry = await record_archived(engine.journal, key, request_id, Archive(result=ended, videos=tuple(videos)))
        except RunComfyError as error:  # it was paid for, and its files exist: archiving again finds them
            error.request_id, error.generation_key = error.request_id or request_id, error.generation_key or key
            raise
        if entry is not None:
            await note_archived(engine.journal, entry)
            videos = await _one_of_each(engine, entry, videos)
    _refuse_rejected(videos, key or "", engine.destination, model_id)
    for video in videos:
        _log(video, hooks.log)
    return facts, videos


async def _one_of_each(engine: Engine, entry: Entry, videos: Sequence[ArchivedVideo]) -> list[ArchivedVideo]:
    """Return the files that count, where another worker put one of them elsewhere: set aside, or at its usual place.

    The one at the usual place stays, unless a person rejected the other one while this call put it there. So only a
    copy is ever deleted, beside a whole one or one that a person decided about.
    """
    known = {(each.request_id, each.index): each for each in entry.archive.videos} if entry.archive else {}
    counting = []
    for video in videos:
        other, store = known.get((video.request_id, video.index)), engine.store
        if other is None or other.key == video.key or not are_twins(store, other, video):
            counting.append(video)
            continue
        if other.is_rejected or video.is_rejected:
            if other.is_rejected and not video.set_aside and not video.already_archived:
                await asyncio.to_thread(delete_copy, store, video.key)
            counting.append(other if other.is_rejected else video)
            continue
        usual, aside = (video, other) if other.set_aside else (other, video)
        if not await asyncio.to_thread(verify_exists, [usual], store):
            counting.append(video)
            continue
        await record_reviewed(engine.journal, entry.generation_key, partial(_as_it_is, usual))
        await asyncio.to_thread(delete_copy, store, aside.key)
        counting.append(usual)
    return counting


async def _as_it_is(video: ArchivedVideo) -> ArchivedVideo:
    return video


def _refuse_rejected(videos: Sequence[ArchivedVideo], key: str, destination: Destination, model_id: str) -> None:
    """End a run of which a person rejected a file.

    Raises:
        OutputRejected: a person did.
    """
    for video in videos:
        if video.is_rejected:
            raise rejection_of(video, key, destination.options, model_id=model_id)


def refuse_defects(videos: Sequence[ArchivedVideo], destination: Destination) -> None:
    """End a run whose files are archived, if it is to fail because of what they were judged to be.

    Args:
        videos: The files.
        destination: Says by `on_defect` whether it is to fail.

    Raises:
        DefectiveOutput: it is, and one of them is suspect or damaged.
    """
    bad = [video for video in videos if video.quality is not None and video.quality.is_bad and video.review is None]
    if not bad or destination.on_defect != "fail":
        return
    first = bad[0]
    quality = first.quality or Quality(verdict="")
    raise DefectiveOutput(
        f"{first.uri} is archived, and {quality.verdict}: {' '.join(quality.reasons)} Look at it; nothing needs to be "
        "fetched or paid for again. The run fails because on_defect is fail.",
        request_id=first.request_id, key=first.key, output_index=first.index,
    )  # fmt: skip


def _retrying(archive_once: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[_T]]:
    async def archive_with_retries(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Archive, up to six times as long as it fails with an error that may pass; see `archive`."""
        attempts = itertools.count(1)

        async def attempt() -> _T:
            number = next(attempts)
            if number > 1:
                kwargs["answer"] = None  # its URLs may have expired
            with tried("archive", number, of=_ARCHIVING_ATTEMPTS):
                return await archive_once(*args, **kwargs)

        return await with_retries(attempt, attempts=_ARCHIVING_ATTEMPTS)

    return archive_with_retries


archive_with_retries = _retrying(archive)


def facts_of(
    answer: Answer | Result,
    model_id: str,
    result: Result | None,
    asked: dict[str, Any] | None,
    staged: Sequence[StagedFile],
    submission: Submission | None,
    run_facts: dict[str, str],
) -> GenerationFacts:
    """Return the facts of a generation, for its provenance and for people.

    Args:
        answer: What the service says of it, now or earlier.
        model_id: Its model.
        result: How the waiting for it went, if a run waited.
        asked: What was sent.
        staged: The staged files.
        submission: The submission.
        run_facts: The facts of the run that archives it.
    """
    seed, image = (asked or {}).get("seed"), only_image(staged)
    return GenerationFacts(
        model_id=model_id,
        request_id=answer.request_id,
        generation_key=submission.generation_key if submission else None,
        inputs=asked,
        image=image,
        staged=() if image else tuple(staged),
        seed=seed if isinstance(seed, int) else None,
        submitted_at=submission.submitted_at if submission else None,
        finished_noticed_at=result.noticed_at if result else None,
        service_created_at=answer.created_at,
        service_finished_at=answer.finished_at,
        queued_seconds=result.queued_seconds if result else None,
        running_seconds=result.running_seconds if result else None,
        cost_usd=answer.cost_usd,
        polls=result.polls if result else None,
        flow_run=run_facts,
    )


async def _asked(engine: Engine, key: str | None) -> dict[str, Any] | None:
    """Return what was asked for, by the journal."""
    found = await engine.journal.read(key) if key is not None else None
    return found.entry.inputs if found is not None else None


def _result_of(answer: Answer) -> Result:
    """Return the result of a request that no run waited for."""
    return Result(
        request_id=answer.request_id, output_count=len(answer.outputs), noticed_at=datetime.now(UTC),
        queued_seconds=None, running_seconds=None, polls=0,
        created_at=answer.created_at, finished_at=answer.finished_at, cost_usd=answer.cost_usd,
    )  # fmt: skip


def _validation_of(model_id: str, inputs: ModelInputs | None) -> OutputValidation:
    asked = inputs.body() if inputs is not None else {}
    return OutputValidation.of(asked, inputs_class(model_id).makes if inputs is None else inputs.makes)


def _log(video: ArchivedVideo, log: Log) -> None:
    if video.set_aside and not video.is_rejected:
        reasons = " ".join(video.quality.reasons) if video.quality else ""
        log.warning("Set aside for a person to decide about: %s. %s", video.uri, reasons)
    facts = (video.media.codec or video.media.container, video.media.extent, f"{video.size_bytes} bytes")
    log.info(
        "%s %s (%s)",
        "Already archived:" if video.already_archived else "Archived",
        video.uri,
        ", ".join(filter(None, facts)),
    )
    for warning in video.warnings:
        log.warning("%s: %s", video.uri, warning)
