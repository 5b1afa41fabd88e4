"""An account's limit holds over all flow runs that share it."""

from __future__ import annotations

import asyncio

import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from pydantic import SecretStr

from blocks import RunComfyCredentials
from runcomfy.errors import ConfigurationError
from tasks.runtime.slots import slots


@pytest.fixture(autouse=True)
def prefect(prefect_api: str) -> None:
    """Every test here runs on the test server."""


def account(limit: str = "") -> RunComfyCredentials:
    return RunComfyCredentials(api_token=SecretStr("t"), concurrency_limit=limit)


async def limited(name: str, limit: int) -> RunComfyCredentials:
    async with get_client() as client:
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=limit))
    return account(name)


async def test_without_a_limit_every_run_gets_its_slots() -> None:
    """At once, and without a call to Prefect."""
    async with slots(account(), 500) as granted:
        assert granted == 500


async def test_a_limit_holds_over_all_runs() -> None:
    """Three runs want two slots of three: they take turns, two of them never at the same time."""
    shared, under_way, most = await limited("shared-by-runs", 3), 0, 0

    @flow
    async def run() -> None:
        nonlocal under_way, most
        async with slots(shared, 2) as granted:
            under_way += granted
            most = max(most, under_way)
            await asyncio.sleep(0.3)
            under_way -= granted

    await asyncio.gather(run(), run(), run())

    assert most == 2


async def test_a_request_for_more_slots_than_exist_gets_all() -> None:
    """A batch that wants a hundred at once of ten gets ten, instead of waiting indefinitely."""
    ten = await limited("ten", 10)

    @flow
    async def run() -> int:
        async with slots(ten, 100) as granted:
            return granted

    assert await run() == 10


async def test_a_missing_limit_is_reported() -> None:
    """With how to create it; nothing was paid for."""
    with pytest.raises(ConfigurationError, match="prefect gcl create no-such-limit"):
        async with slots(account("no-such-limit")):
            pass


async def test_a_limit_of_zero_is_reported() -> None:
    """Instead of waiting indefinitely."""
    with pytest.raises(ConfigurationError, match="is 0"):
        async with slots(await limited("nothing", 0)):
            pass
