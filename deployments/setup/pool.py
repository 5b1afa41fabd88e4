"""The work pool of the deployments, and its queue for what must not wait behind generations."""

from __future__ import annotations

import copy
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from deployments.doctor.upkeep import UPKEEP_QUEUE
from deployments.setup.steps import Allowed, Step
from tasks.runtime.heartbeats import ENVIRONMENT, FREQUENCY, default_frequency, frequency_given

__all__ = ["ensure_upkeep_queue", "ensure_work_pool"]

_HIGHEST = 1


async def ensure_work_pool(client: PrefectClient, name: str, limit: int | None, allowed: Allowed) -> Step:
    """Make sure that there is a work pool whose runs send heartbeats often enough; a new one is of type process.

    One of another type is used as it is: what its runs start in, such as an image, has to contain this project.

    Args:
        client: Speaks to the server.
        name: The pool.
        limit: How many runs at once; `None` leaves the limit as it is, and sets none for a new pool: a pool's limit
            counts states, those of dead runs too, and would keep `reconcile` waiting. A worker's `--limit` counts
            processes.
        allowed: Whether it may be made or changed.
    """
    heartbeat = f"a heartbeat every {FREQUENCY} s"
    try:
        pool = await client.read_work_pool(name)
    except ObjectNotFound:
        if not allowed.make:
            return Step("work pool", name, "missing")
        template = _with_heartbeat(ProcessWorker.get_default_base_job_template())
        await client.create_work_pool(
            WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=limit)
        )
        at_once = f"{limit} runs at once, " if limit else ""
        return Step("work pool", name, "created", f"type process, {at_once}{heartbeat}")
    update, changes = WorkPoolUpdate(), []
    if limit is not None and limit != pool.concurrency_limit:
        changes.append(f"runs at once: {pool.concurrency_limit or 'any number'} → {limit}")
        update.concurrency_limit = limit
    if frequency_given(None, pool.base_job_template) is None:
        changes.append(f"a heartbeat every {default_frequency()} s → {FREQUENCY} s")
        update.base_job_template = _with_heartbeat(pool.base_job_template)
    if not changes:
        of_type = "" if pool.type == "process" else f"type {pool.type}: what it starts has to hold this project"
        return Step("work pool", name, "unchanged", of_type)
    change = "; ".join(changes)
    if not allowed.change(f"Work pool {name}: {change}"):
        return Step("work pool", name, "differs", change)
    await client.update_work_pool(name, update)
    return Step("work pool", name, "updated", change)


async def ensure_upkeep_queue(client: PrefectClient, pool: str, allowed: Allowed) -> Step:
    """Make sure that there is a queue whose runs a worker takes before all others.

    Args:
        client: Speaks to the server.
        pool: The work pool that it belongs to.
        allowed: Whether it may be made, or its priority changed.
    """
    name = f"{pool}/{UPKEEP_QUEUE}"
    try:
        queue = await client.read_work_queue_by_name(UPKEEP_QUEUE, work_pool_name=pool)
    except ObjectNotFound:
        if not allowed.make:
            return Step("work queue", name, "missing")
        await client.create_work_queue(UPKEEP_QUEUE, priority=_HIGHEST, work_pool_name=pool)
        return Step("work queue", name, "created", f"priority {_HIGHEST}")
    if queue.priority == _HIGHEST:
        return Step("work queue", name, "unchanged")
    change = f"priority: {queue.priority} → {_HIGHEST}"
    if not allowed.change(f"Work queue {name}: {change}"):
        return Step("work queue", name, "differs", change)
    await client.update_work_queue(queue.id, priority=_HIGHEST)
    return Step("work queue", name, "updated", change)


def _with_heartbeat(template: dict[str, Any]) -> dict[str, Any]:
    """Return a base job template whose variable `env` sets the frequency, beside what it has set already."""
    changed = copy.deepcopy(template)
    properties = changed.setdefault("variables", {}).setdefault("properties", {})
    environment = properties.setdefault("env", {"type": "object"})
    environment["default"] = {**(environment.get("default") or {}), **ENVIRONMENT}
    changed.setdefault("job_configuration", {}).setdefault("env", "{{ env }}")
    return changed
