"""A part that runs finds within seconds that another one was stopped."""

from __future__ import annotations

import asyncio

import pytest

from runcomfy.batch.circuit_breaker import CircuitBreaker
from runcomfy.batch.halt import Halt, halting
from runcomfy.errors import CommonCause
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store


async def test_a_part_that_runs_begins_no_more_once_another_was_stopped(object_store: ObjectStore, prefix: str) -> None:
    """Rows that wait for their turn are told of it as well."""
    store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    halt, proving = Halt(store, store.key("batches/x/halt.json")), CircuitBreaker(first_at_once=1)
    async with halting(halt, proving, look_seconds=0.05):
        await proving.begin("model")
        waiting = asyncio.create_task(proving.begin("model"))
        halt.tell(CommonCause("20 in a row."))

        with pytest.raises(CommonCause, match="20 in a row"):
            await asyncio.wait_for(waiting, 10)
