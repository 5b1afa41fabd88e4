"""Allow another submission of a generation whose request is lost, or was given up."""

from __future__ import annotations

from blocks import MediaStore
from runcomfy.journal import Entry
from tasks import mark_released
from tasks.runtime.flow import flow
from tasks.runtime.naming import fact, flow_name

__all__ = ["release_generation"]


@flow(
    name="release-generation",
    flow_run_name=flow_name(lambda given: f"release-{fact(given['key'])}", otherwise="release"),
)
async def release_generation(key: str, store: MediaStore) -> Entry:
    """Let the next run of the same inputs submit it again. A paid request that is still running is then abandoned.

    Args:
        key: The generation, or at least eight digits of it: `prefect-runcomfy journal list` shows them.
        store: The bucket with the journal.
    """
    return await mark_released(key, store)
