"""Read the deployments that are ours, with what they and their work pools set, and the workers of those pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from tasks.upkeep.facts import DeploymentFacts, WorkerFacts
from tasks.upkeep.marks import NOT_AGAIN_TAG, OURS_TAG

__all__ = ["read_deployments", "read_workers"]

_PAGE = 200
_FREQUENCY = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
_RECONCILE = ":reconcile"
_DECISIONS = (":release_generation",)  # what a person decided yesterday may be wrong today, and may be paid for


async def read_deployments(client: PrefectClient) -> dict[UUID, DeploymentFacts]:
    """Return all deployments with the tag `runcomfy`."""
    wanted, found = DeploymentFilter(tags=DeploymentFilterTags(all_=[OURS_TAG])), list[DeploymentResponse]()
    while page := await client.read_deployments(deployment_filter=wanted, limit=_PAGE, offset=len(found)):
        found += page
    pools = {each.work_pool_name for each in found if each.work_pool_name}
    frequencies = {pool: await _frequency_of_pool(client, pool) for pool in pools}
    flows = {flow_id: (await client.read_flow(flow_id)).name for flow_id in {each.flow_id for each in found}}
    return {each.id: _deployment(each, flows[each.flow_id], frequencies) for each in found}


async def read_workers(client: PrefectClient, pool: str) -> list[WorkerFacts]:
    """Return the workers of a pool; none where it is gone.

    Args:
        client: Speaks to the server.
        pool: The work pool's name.
    """
    found: list[WorkerFacts] = []
    try:
        while page := await client.read_workers_for_work_pool(pool, limit=_PAGE, offset=len(found)):
            for worker in page:
                online = worker.status is WorkerStatus.ONLINE
                found.append(WorkerFacts(pool, worker.name, online, worker.last_heartbeat_time))
    except ObjectNotFound:
        return []
    return found


def _deployment(found: DeploymentResponse, flow: str, frequencies: Mapping[str, float | None]) -> DeploymentFacts:
    entrypoint, options = found.entrypoint or "", found.concurrency_options
    limited = found.global_concurrency_limit is not None
    return DeploymentFacts(
        id=found.id,
        name=f"{flow}/{found.name}",
        paused=bool(found.paused),
        drops_new=bool(limited and options and options.collision_strategy is ConcurrencyLimitStrategy.CANCEL_NEW),
        reconciles=entrypoint.endswith(_RECONCILE),
        again=not entrypoint.endswith(_DECISIONS) and NOT_AGAIN_TAG not in found.tags,
        heartbeat_seconds=_frequency((found.job_variables or {}).get("env"))
        or frequencies.get(found.work_pool_name or ""),
        pool=found.work_pool_name,
    )


async def _frequency_of_pool(client: PrefectClient, name: str) -> float | None:
    try:
        template = (await client.read_work_pool(name)).base_job_template
    except ObjectNotFound:
        return None
    properties: Any = template.get("variables", {}).get("properties", {})
    return _frequency((properties.get("env") or {}).get("default"))


def _frequency(env: object) -> float | None:
    """Return the heartbeat frequency that an environment sets, in seconds."""
    said = env.get(_FREQUENCY) if isinstance(env, Mapping) else None
    try:
        return float(str(said))
    except ValueError:
        return None
