"""Read a manifest, check all of it, and find out what is left to do: nothing is paid for here."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.batch.prepare import BatchPlan, prepare
from tasks.runtime.hooks import worth_retrying

__all__ = ["plan_batch"]


@task(
    task_run_name="check the manifest",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def plan_batch(
    manifest: str,
    credentials: RunComfyCredentials,
    store: MediaStore,
    defaults: dict[str, Any],
    *,
    allow_placeholder_prompts: bool = False,
) -> BatchPlan:
    """Read and check a manifest as a whole, stage its media, and look up what is archived already.

    Args:
        manifest: A path or `s3://bucket/key`: .csv, .tsv, .jsonl, .ndjson, .parquet, .xlsx or .xlsm.
        credentials: Whose catalogue is asked for models that are not pinned.
        store: Where media are staged, and where the journal is.
        defaults: Values for what a row leaves empty.
        allow_placeholder_prompts: Whether a prompt may be what programs write for an empty cell, such as `nan`.

    Raises:
        InvalidInput: it cannot be read, or some rows cannot be used, each of which is named; nothing was paid for.
        StorageError: the store could not be read or written.
    """
    return await prepare(
        manifest,
        store.destination(),
        defaults,
        get_run_logger(),
        client=credentials.get_client,
        allow_placeholder_prompts=allow_placeholder_prompts,
    )
