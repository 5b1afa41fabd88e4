"""Read our deployments with their settings and those of their work pools, the workers of those, and the server's time.

The times of states and events are by the clock of Prefect's server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, Flow, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from tasks.runtime.heartbeats import frequency_given
from tasks.runtime.naming import function_name
from tasks.upkeep.facts import DeploymentFacts, WorkerFacts
from tasks.upkeep.marks import NOT_AGAIN_TAG, OURS_TAG, RECONCILE

__all__ = ["our_deployments", "read_deployments", "read_workers", "server_time"]

_PAGE = 200
_DECISIONS = ("release_generation",)  # what a person decided yesterday may be wrong today, and cost money


async def our_deployments(client: PrefectClient) -> dict[str, DeploymentResponse]:
    """Read all deployments with the tag `runcomfy`, with their limits, by `flow/deployment`."""
    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=[OURS_TAG]))
    found, flows = list[DeploymentResponse](), list[Flow]()
    while page := await client.read_deployments(deployment_filter=wanted, limit=_PAGE, offset=len(found)):
        found += page
    while some := await client.read_flows(deployment_filter=wanted, limit=_PAGE, offset=len(flows)):
        flows += some
    names = {flow.id: flow.name for flow in flows}
    return {f"{names.get(each.flow_id, '?')}/{each.name}": each for each in found}


async def read_deployments(client: PrefectClient) -> dict[UUID, DeploymentFacts]:
    """Return the facts of all deployments with the tag `runcomfy`."""
    found = await our_deployments(client)
    pools = {each.work_pool_name for each in found.values() if each.work_pool_name}
    templates = {pool: await _template(client, pool) for pool in pools}
    return {each.id: _deployment(name, each, templates.get(each.work_pool_name or "")) for name, each in found.items()}


async def read_workers(client: PrefectClient, pool: str) -> list[WorkerFacts]:
    """Return the workers of a pool; none if it no longer exists.

    Args:
        client: Prefect's API.
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


def _deployment(name: str, found: DeploymentResponse, template: Mapping[str, Any] | None) -> DeploymentFacts:
    function, options = function_name(found.entrypoint), found.concurrency_options
    limited = found.global_concurrency_limit is not None
    return DeploymentFacts(
        id=found.id,
        name=name,
        paused=bool(found.paused),
        drops_new=bool(limited and options and options.collision_strategy is ConcurrencyLimitStrategy.CANCEL_NEW),
        reconciles=function == RECONCILE,
        again=function not in _DECISIONS and NOT_AGAIN_TAG not in found.tags,
        heartbeat_seconds=frequency_given(found.job_variables, template),
        pool=found.work_pool_name,
    )


async def _template(client: PrefectClient, pool: str) -> Mapping[str, Any] | None:
    try:
        return (await client.read_work_pool(pool)).base_job_template
    except ObjectNotFound:
        return None


async def server_time(client: PrefectClient) -> datetime:
    """Return the time by the server's clock, to the second; by ours if its answer has no date.

    Any answer will do, even from a server without this endpoint.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    try:
        answer = await client.hello()
    except httpx.HTTPStatusError as error:
        answer = error.response
    try:
        return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)
