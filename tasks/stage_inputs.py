"""Check the inputs of any model, and put its media where the service can fetch them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from blocks import MediaStore, RunComfyCredentials
from runcomfy.generation.models import model_class
from runcomfy.generation.models import stage_inputs as stage
from runcomfy.models import ModelInputs, model_id_of
from runcomfy.values import StagedFile
from tasks.runtime.hooks import PREFECT, open_service, worth_retrying
from tasks.runtime.naming import fact, task_name

__all__ = ["stage_inputs"]


@task(
    task_run_name=task_name(lambda given: f"stage for {fact(given['model'])}", otherwise="stage inputs"),
    retries=3,
    retry_delay_seconds=exponential_backoff(1),
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
async def stage_inputs(
    model: str, inputs: Mapping[str, Any], credentials: RunComfyCredentials, store: MediaStore
) -> tuple[ModelInputs, tuple[StagedFile, ...]]:
    """Check what is given against the model's pinned schema, and stage its media under keys made of their content.

    On the first use of a model its catalogue entry is pinned: kept beside the journal, from where all later runs read
    it.

    Args:
        model: The model's id, as on its page.
        inputs: By the model's own names. A medium is a path on the worker, an `https://` URL or an `s3://` URI, or a
            list of them.
        credentials: Whose catalogue is asked; nothing is paid for.
        store: Where the media are staged, and where the journal is.

    Returns:
        The checked inputs, which name the staged files, and the files: both for `submit_request` and
        `archive_outputs`.

    Raises:
        InvalidInput: there is no such model, an input is wrong, or a file cannot be used; nothing was paid for.
        ServiceError: the catalogue could not be read.
        StorageError: the store could not be written or read.
    """
    model_id = model_id_of(model, "model")
    async with open_service(credentials, store) as engine:
        kind = await model_class(model_id, engine.client, engine.journal)
        return await stage(kind, inputs, engine.store, PREFECT)
