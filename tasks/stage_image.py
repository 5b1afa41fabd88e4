"""Put an image where the service can fetch it."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from blocks import MediaStore
from runcomfy.generation.generate import stage
from runcomfy.values import StagedImage
from tasks.runtime.hooks import PREFECT, worth_retrying

__all__ = ["stage_image"]


@task(
    task_run_name="stage image",
    retries=3,
    retry_delay_seconds=exponential_backoff(1),
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
async def stage_image(image: str, store: MediaStore) -> StagedImage:
    """Check an image and put it into the store, under a key made of its content; a second time uploads nothing.

    Args:
        image: A local path, an `https://` URL, or an `s3://` URI.
        store: Where to put it.

    Raises:
        InvalidInput: it is not an image that the service would accept, or cannot be read; nothing was paid for.
        StorageError: the store could not write or read it.
    """
    return await stage(image, store.get_store(), PREFECT)
