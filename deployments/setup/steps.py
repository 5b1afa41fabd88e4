"""What deployments need on a Prefect server, each made once: made, left as it is, or changed if that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.exceptions import ObjectNotFound

__all__ = [
    "LOOK_ONLY",
    "Allowed",
    "Outcome",
    "Step",
    "ensure_block_type",
    "ensure_limit",
]

Outcome: TypeAlias = Literal["created", "unchanged", "updated", "differs", "missing", "skipped"]

_GENERATIONS = 5


@dataclass(frozen=True)
class Allowed:
    """What may be done on the server.

    Args:
        change: Is shown what would change, and says whether it may.
        make: Whether what is missing may be made.
    """

    change: Callable[[str], bool]
    make: bool = True


LOOK_ONLY = Allowed(change=lambda _: False, make=False)
"""Nothing is allowed: it is only reported what would be done."""


@dataclass(frozen=True)
class Step:
    """One thing on the server, and what was done about it."""

    what: str
    name: str
    outcome: Outcome
    detail: str = ""


async def ensure_block_type(client: PrefectClient, kind: type[Block], allowed: Allowed) -> Step:
    """Register a block type, or its newest fields; existing blocks lose nothing.

    Args:
        client: Speaks to the server.
        kind: The block's class.
        allowed: Whether it may be registered.
    """
    slug = kind.get_block_type_slug()
    known = await _newest_schema(client, slug)
    if not allowed.make:
        if known is None:
            return Step("block type", slug, "missing")
        return Step("block type", slug, "unchanged" if await _has_schema(client, kind) else "differs")
    await kind.aregister_type_and_schema(client=client)
    if known is None:
        return Step("block type", slug, "created")
    return Step("block type", slug, "unchanged" if await _newest_schema(client, slug) == known else "updated")


async def ensure_limit(client: PrefectClient, name: str, limit: int | None, allowed: Allowed) -> Step:
    """Make sure that there is a global concurrency limit.

    Args:
        client: Speaks to the server.
        name: The limit.
        limit: How many at once; `None` leaves the limit as it is, and is five for a new one.
        allowed: Whether it may be made or changed.
    """
    try:
        current = await client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        wanted = limit or _GENERATIONS
        if not allowed.make:
            return Step("limit", name, "missing", f"{wanted} at once")
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=wanted))
        return Step("limit", name, "created", f"{wanted} at once")
    if limit is None or limit == current.limit:
        return Step("limit", name, "unchanged")
    change = f"at once: {current.limit} → {limit}"
    if not allowed.change(f"Limit {name}: {change}"):
        return Step("limit", name, "differs", change)
    await client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=limit))
    return Step("limit", name, "updated", change)


async def _has_schema(client: PrefectClient, kind: type[Block]) -> bool:
    try:
        await client.read_block_schema_by_checksum(kind._calculate_schema_checksum())
    except ObjectNotFound:
        return False
    return True


async def _newest_schema(client: PrefectClient, slug: str) -> object:
    try:
        kind = await client.read_block_type_by_slug(slug)
    except ObjectNotFound:
        return None
    schema = await client.get_most_recent_block_schema_for_block_type(kind.id)
    return schema.id if schema else None
