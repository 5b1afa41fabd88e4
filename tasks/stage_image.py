"""Bring a picture to where the service can fetch it."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from blocks import MediaStore
from runcomfy.staging import stage_image as stage
from runcomfy.values import StagedImage
from tasks.retrying import worth_retrying
from tasks.telemetry import staging

__all__ = ["stage_image"]


@task(
    task_run_name="stage image",
    retries=3,
    retry_delay_seconds=exponential_backoff(1),
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
async def stage_image(image: str, store: MediaStore) -> StagedImage:
    """Check a picture and put it into the store, under a key made of its content; a second time uploads nothing.

    Args:
        image: A local path, an `https://` URL, or an `s3://` URI.
        store: Where to put it.

    Raises:
        InvalidInput: it is not a picture that the service would take, or cannot be read; nothing was paid for.
        StorageError: the store did not take it, or did not give it.
    """
    with staging() as measured:
        staged = await stage(image, store.get_store())
        measured(staged)
    get_run_logger().info(
        "%s %s (%s, %d x %d, %d bytes)",
        "Uploaded" if staged.uploaded else "Already staged:",
        staged.uri,
        staged.content_type,
        staged.width,
        staged.height,
        staged.size_bytes,
    )
    for warning in staged.warnings:
        get_run_logger().warning("%s: %s", staged.source, warning)
    return staged
