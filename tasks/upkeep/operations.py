"""Show how the runs of the deployments are, on one page that each `reconcile` makes again."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore
from runcomfy.journal import Finding
from tasks.pages.artifacts import show
from tasks.upkeep.facts import HeldSlots
from tasks.upkeep.healing import Healed
from tasks.upkeep.operations_page import headline, operations_page

__all__ = ["show_operations"]


@task(task_run_name="show the operations page", cache_policy=NO_CACHE)
async def show_operations(
    healed: Healed, findings: Sequence[Finding], slots: Sequence[HeldSlots], store: MediaStore
) -> None:
    """Make the artifact `runcomfy-operations`.

    Args:
        healed: What was found of the runs, and done about them.
        findings: What was found of the journal's open generations.
        slots: The slots of each limit, against the runs that are alive.
        store: Whose journal it is.
    """
    page, said = operations_page(healed, findings, slots, store), headline(healed, findings, slots)
    await show(acreate_markdown_artifact(page, key="runcomfy-operations", description=f"{said[:1].upper()}{said[1:]}."))
