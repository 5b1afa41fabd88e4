"""Keep within what an account may do at once, over all workers: with one of Prefect's global concurrency limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect import get_client, get_run_logger
from prefect.concurrency.asyncio import concurrency
from prefect.exceptions import ObjectNotFound

from blocks import RunComfyCredentials
from runcomfy.errors import ConfigurationError

__all__ = ["slots"]


@asynccontextmanager
async def slots(credentials: RunComfyCredentials, wanted: int = 1) -> AsyncIterator[int]:
    """Take slots of the account's concurrency limit while the body runs, and say how many.

    They are taken once for a whole flow run, since an acquisition costs a fifth of a second (and far more where many
    compete). A worker that dies gives its slots back after some minutes, when Prefect's lease of them ends.

    Args:
        credentials: The account; without a limit of its own, everybody gets what he wants at once.
        wanted: How many generations are to be under way at the same time; no more than the limit are granted.

    Raises:
        ConfigurationError: the account names a limit that this Prefect server does not have, or that is 0.
    """
    name = credentials.concurrency_limit
    if not name:
        yield wanted
        return
    async with get_client() as client:
        try:
            limit = (await client.read_global_concurrency_limit_by_name(name)).limit
        except ObjectNotFound:
            raise ConfigurationError(
                f"The account names the concurrency limit {name!r}, which this Prefect server does not have: create it "
                f"(`prefect gcl create {name} --limit 20`), or leave it empty in the credentials block."
            ) from None
    if limit < 1:
        raise ConfigurationError(f"The concurrency limit {name!r} is 0, so nothing may run: raise it.")
    granted = min(wanted, limit)
    if granted < wanted:
        get_run_logger().info("%d at once instead of %d, as the concurrency limit %s says", granted, wanted, name)
    # A lease that cannot be renewed must not cancel what is paid for: Prefect's server may be away for a while.
    async with concurrency(name, occupy=granted, strict=True, raise_on_lease_renewal_failure=False):
        yield granted
