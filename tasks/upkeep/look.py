"""The look of `reconcile` at the slots, as a task."""

from __future__ import annotations

from prefect import get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from tasks.upkeep.held import SlotsInspection, free_leaked_slots

__all__ = ["inspect_slots"]


@task(task_run_name="look at the slots", cache_policy=NO_CACHE)
async def inspect_slots(limit: str) -> SlotsInspection:
    """Free the slots that nobody holds any more, of the account's concurrency limit and of our deployments'.

    Args:
        limit: The account's concurrency limit; empty where it has none.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    context = FlowRunContext.get()
    async with get_client() as client:
        look = await free_leaked_slots(client, [limit] if limit else [], context.flow_run if context else None)
    logger = get_run_logger()
    for each in look.held:
        if each.freed:
            logger.warning("Freed %d slot(s) of %s that no run held any more", each.freed, each.name)
        elif each.note:
            logger.warning("Slots of %s may be held by nobody, and are left as they are: %s", each.name, each.note)
        elif each.leaked:
            logger.info("%d slot(s) of %s are held by no run that is known", each.leaked, each.name)
    return look
