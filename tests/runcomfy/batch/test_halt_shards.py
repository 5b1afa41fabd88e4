"""A shard that runs finds within seconds that another one was stopped."""

from __future__ import annotations

import asyncio

import pytest

from runcomfy.batch.circuit_breaker import CircuitBreaker
from runcomfy.batch.halt import Halt, stop_on_halt
from runcomfy.errors import CommonCause
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store


async def test_a_shard_begins_no_more_once_another_was_stopped(object_store: ObjectStore, prefix: str) -> None:
    """Rows that wait for their turn are stopped as well."""
    store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    halt, breaker = Halt(store, store.key("batches/x/halt.json")), CircuitBreaker(first_at_once=1)
    async with stop_on_halt(halt, breaker, poll_seconds=0.05):
        await breaker.begin("model")
        waiting = asyncio.create_task(breaker.begin("model"))
        halt.publish(CommonCause("20 in a row."))

        with pytest.raises(CommonCause, match="20 in a row"):
            await asyncio.wait_for(waiting, 60)
