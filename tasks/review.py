"""What a person decides about a file that was set aside, and what waits for that."""

from __future__ import annotations

import asyncio
from typing import Literal

from prefect import get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from blocks import MediaStore
from runcomfy.archive.place import archived_as
from runcomfy.review import accept, choose, reject
from tasks.pages.artifacts import show
from tasks.pages.markdown import text
from tasks.pages.review import page_of, waiting_for_review
from tasks.runtime.events import emit_archived
from tasks.runtime.hooks import worth_retrying
from tasks.runtime.naming import fact, task_name

__all__ = ["count_set_aside", "decide", "show_review"]

_deciding = task_name(lambda given: f"{fact(given['decision'])} {fact(given['file'])[:60]}", otherwise="decide")


@task(
    task_run_name=_deciding,
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
)
async def decide(
    decision: Literal["accept", "reject"],
    file: str,
    store: MediaStore,
    *,
    by: str,
    output: int | None = None,
    reason: str = "",
    delete: bool = False,
) -> str:
    """Accept or reject a file that was set aside; a second time changes nothing.

    A file that is accepted is archived now, and Prefect is told so: the event, and its asset.

    Args:
        decision: Which of both.
        file: The generation's key, or at least eight digits of it; or the file's `s3://` address.
        store: The archive, with the journal.
        by: Who decides.
        output: Which of the generation's files, where several were set aside.
        reason: Why.
        delete: Whether the file of a rejected one is deleted.

    Returns:
        Where the file is now, and what was decided.

    Raises:
        InvalidInput: no file or several are named so, its file is gone, or somebody else has decided otherwise.
        ArchiveConflict: another object is at its usual place; nothing was changed.
        StorageError: the store refused; it can be repeated.
    """
    destination = store.destination()
    item = await choose(destination, file, output)
    if decision == "accept":
        decided = await accept(destination, item, by=by, reason=reason or None)
        emit_archived(
            decided.provenance,
            archived_as(decided.store, decided.key, decided.provenance, already_archived=True),
            decided.provenance.image,
            decided.store,
        )
    else:
        decided = await reject(destination, item, by=by, reason=reason or None, delete=delete)
    said = f"{decided.uri} is {decided.review.sentence if decided.review else 'at its usual place already'}"
    get_run_logger().info("%s", said)
    return said


@task(task_run_name="count what was set aside", retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def count_set_aside(store: MediaStore) -> int:
    """Return how many files wait for a decision; of more than 2,000 below `quarantine/`, the first are looked at.

    Args:
        store: Whose.

    Raises:
        StorageError: it could not be listed or read.
    """
    waiting, _ = await asyncio.to_thread(waiting_for_review, store)
    return len(waiting)


@task(task_run_name="show what waits", retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def show_review(store: MediaStore, said: str = "") -> int:
    """Make the artifact `runcomfy-review`: what waits for a decision, with images; return how much that is.

    Args:
        store: Whose.
        said: What was decided now, if anything was.

    Raises:
        StorageError: the store could not be listed or read.
    """
    page, count = await page_of(store)
    line = f"{count:,} file{'s' * (count != 1)} wait{'s' * (count == 1)} for a decision"
    await show(
        acreate_markdown_artifact(
            "\n\n".join(filter(None, (said and f"{text(said)}.", page))),
            key="runcomfy-review",
            description=f"{text(said)}. {line}." if said else f"{line}.",
        )
    )
    return count
