"""What a person decides about a generation whose request is uncertain or lost."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.journal import Entry, adopt, release
from tasks.runtime.hooks import worth_retrying
from tasks.runtime.naming import fact, task_name

__all__ = ["mark_adopted", "mark_released"]


_adopting = task_name(lambda given: f"adopt {fact(given['request_id'])}", otherwise="adopt a request")
_releasing = task_name(lambda given: f"release {fact(given['key'])[:12]}", otherwise="release a generation")


@task(task_run_name=_adopting, retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def mark_adopted(key: str, request_id: str, credentials: RunComfyCredentials, store: MediaStore) -> Entry:
    """Record which request a generation's submission became; a second time changes nothing.

    Args:
        key: The generation, or at least eight digits of it.
        request_id: Its request, from RunComfy's dashboard or a log.
        credentials: Whose request it is.
        store: Where the journal is.

    Raises:
        RequestNotFound: the service does not know the request, or it is another account's.
        ConfigurationError: there is no such generation, or its request is known.
        StorageError: the journal could not be read or written.
    """
    async with credentials.get_client() as client:
        entry = await adopt(client, store.get_journal(), key, request_id)
    get_run_logger().info("Generation %s has become request %s", entry.generation_key[:12], request_id)
    return entry


@task(task_run_name=_releasing, retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def mark_released(key: str, store: MediaStore) -> Entry:
    """Allow another submission of a generation; a second time changes nothing.

    Args:
        key: The generation, or at least eight digits of it.
        store: Where the journal is.

    Raises:
        ConfigurationError: there is no such generation, a worker is submitting it right now, or it needs no release.
        StorageError: the journal could not be read or written.
    """
    entry = await release(store.get_journal(), key)
    known = ", ".join(entry.request_ids)
    get_run_logger().warning(
        "Generation %s is released: the next run submits it again. %s",
        entry.generation_key[:12],
        f"What was submitted before may be billed: {known}" if known else "An earlier submission may be billed",
    )
    return entry
