"""Bring what was generated into the bucket."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from blocks import MediaStore, RunComfyCredentials
from runcomfy.generation.archive import archive, facts_of, refuse_defects, what_to_archive
from runcomfy.generation.destination import OnDefect
from runcomfy.models import ModelInputs
from runcomfy.values import ArchivedVideo, Result, StagedFile, StagedImage, Submission
from tasks.pages.artifacts import publish
from tasks.runtime.hooks import PREFECT, open_service, worth_retrying
from tasks.runtime.naming import fact, task_name

__all__ = ["archive_outputs"]

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
    staged: Sequence[StagedFile] = (),
    submission: Submission | None = None,
    on_defect: OnDefect | None = None,
) -> list[ArchivedVideo]:
    """Archive every file of a finished request, checked, with its provenance beside it, and record it in the journal.

    It is safe to repeat at any time: it then finds what it did before. Each attempt asks for the URLs of the files
    again, and none is ever stored.

    Without a submission, the journal is asked for the request's generation: its inputs, where it is to be archived, and
    whether it is already.

    Args:
        result: The result, or just the request's id.
        credentials: Whose request it is, and which hosts its files may come from.
        store: Where to archive.
        model_id: The model that made them; it is part of the key. Not needed with a submission, or if the journal knows
            the request.
        inputs: What was asked for; goes into the provenance, and is compared with what came.
        image: The staged image, for the provenance.
        staged: The staged files of a model that takes others than one image, for the provenance.
        submission: The submission, for the provenance and the journal.
        on_defect: What to do about a file that is judged suspect or damaged, if not as the store says.

    Raises:
        InvalidInput: it was submitted to another model than the one given here, or the model is unknown.
        NotFinished: the request is not finished.
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a file.
        ArchiveError: a file could not be archived; nothing half-written is visible, and it can be fetched again.
        StorageError: the store refused.
        DefectiveOutput: all is archived, one file is suspect or damaged, and `on_defect` is `fail`.
        OutputRejected: a person rejected a file of it; nothing was fetched.
    """
    started = time.monotonic()
    request_id = result if isinstance(result, str) else result.request_id
    files = (image,) if image else staged
    async with open_service(credentials, store) as engine:
        origin = await what_to_archive(
            request_id, engine, model_id=model_id, inputs=inputs, staged=files, submission=submission
        )
        engine, submission = engine.at(origin.destination), origin.submission
        destination = replace(engine.destination, on_defect=on_defect or engine.destination.on_defect)
        engine = replace(engine, destination=destination)
        facts, videos = await archive(
            engine,
            result,
            model_id=origin.model_id,
            inputs=origin.inputs,
            staged=origin.staged,
            submission=submission,
        )
    archiving_seconds = time.monotonic() - started if facts is not None else None
    if facts is None and submission is not None and submission.archive is not None:
        done, asked = submission.archive.result, origin.inputs.body() if origin.inputs else None
        facts = facts_of(done, origin.model_id, done, asked, origin.staged, submission, PREFECT.run_facts())
    if facts is not None:
        await publish(facts, videos, engine.store, destination.options, archiving_seconds=archiving_seconds)
    refuse_defects(videos, destination)
    return videos
