"""What deployments need on a Prefect server, each made once: made, left as it is, or changed if that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from runcomfy.errors import ConfigurationError

__all__ = [
    "Confirm",
    "Outcome",
    "Step",
    "ensure_block_type",
    "ensure_limit",
    "ensure_work_pool",
]

Outcome: TypeAlias = Literal["created", "unchanged", "updated", "differs", "skipped"]
Confirm: TypeAlias = Callable[[str], bool]
"""Is shown what would change, and says whether it may."""

_POOL_LIMIT, _GENERATIONS = 10, 5


@dataclass(frozen=True)
class Step:
    """One thing on the server, and what became of it."""

    what: str
    name: str
    outcome: Outcome
    detail: str = ""


async def ensure_work_pool(client: PrefectClient, name: str, limit: int | None, confirm: Confirm) -> Step:
    """Make sure that there is a work pool of type process.

    Args:
        client: Speaks to the server.
        name: The pool.
        limit: How many runs at once; `None` leaves what is there, and is ten for a new one.
        confirm: Is asked before the limit changes.

    Raises:
        ConfigurationError: a pool of this name is of another type.
    """
    try:
        pool = await client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        wanted = limit or _POOL_LIMIT
        await client.create_work_pool(
            WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=wanted)
        )
        return Step("work pool", name, "created", f"type process, {wanted} runs at once")
    if pool.type != "process":
        raise ConfigurationError(
            f"The work pool {name} is of type {pool.type}, and the deployments are made for process. Name another "
            "pool: --pool, or RUNCOMFY_WORK_POOL."
        )
    if limit is None or limit == pool.concurrency_limit:
        return Step("work pool", name, "unchanged")
    change = f"runs at once: {pool.concurrency_limit or 'any number'} → {limit}"
    if not confirm(f"Work pool {name}: {change}"):
        return Step("work pool", name, "differs", change)
    await client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
    return Step("work pool", name, "updated", change)


async def ensure_block_type(client: PrefectClient, kind: type[Block]) -> Step:
    """Register a block type, or its newest fields, which takes nothing from blocks that are there."""
    slug = kind.get_block_type_slug()
    known = await _newest_schema(client, slug)
    await kind.aregister_type_and_schema(client=client)
    if known is None:
        return Step("block type", slug, "created")
    return Step("block type", slug, "unchanged" if await _newest_schema(client, slug) == known else "updated")


async def ensure_limit(client: PrefectClient, name: str, limit: int | None, confirm: Confirm) -> Step:
    """Make sure that there is a global concurrency limit.

    Args:
        client: Speaks to the server.
        name: The limit.
        limit: How many at once; `None` leaves what is there, and is five for a new one.
        confirm: Is asked before it changes.
    """
    try:
        standing = await client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        wanted = limit or _GENERATIONS
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=wanted))
        return Step("limit", name, "created", f"{wanted} at once")
    if limit is None or limit == standing.limit:
        return Step("limit", name, "unchanged")
    change = f"at once: {standing.limit} → {limit}"
    if not confirm(f"Limit {name}: {change}"):
        return Step("limit", name, "differs", change)
    await client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=limit))
    return Step("limit", name, "updated", change)


async def _newest_schema(client: PrefectClient, slug: str) -> object:
    try:
        kind = await client.read_block_type_by_slug(slug)
    except ObjectNotFound:
        return None
    schema = await client.get_most_recent_block_schema_for_block_type(kind.id)
    return schema.id if schema else None
