"""One budget for several processes, some killed: the service never bills more than it allows."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from runcomfy.api.client import RunComfyClient
from runcomfy.batch.budget import Budget
from runcomfy.batch.shared_budget import SharedBudget, shared_budget_name
from runcomfy.errors import BudgetReached, UncertainSubmission
from runcomfy.journal import Entry, GenerationSpec, Journal
from runcomfy.journal.bucket import BucketJournalStore
from runcomfy.journal.submit import submit_once
from runcomfy.models import TextToVideo
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.second_tries import enough

PRICE_USD, LIMIT_USD = 0.25, 2.0
PROMPTS = [f"scene {number}" for number in range(14)]
LEASE_SECONDS, ROUNDS = 9.0, 8


async def run(service: str, endpoint: str, prefix: str) -> None:
    """Submit what can be afforded, as a batch does: in an order of its own, three at a time."""
    journal = Journal(BucketJournalStore(Store("videos", prefix, endpoint_url=endpoint)), lease_seconds=LEASE_SECONDS)
    await journal.check()
    specs = [GenerationSpec(TextToVideo(prompt=prompt), service, run=str(os.getpid())) for prompt in PROMPTS]
    shared_budget = SharedBudget(Budget(LIMIT_USD, PRICE_USD), journal, shared_budget_name(spec.key for spec in specs))
    entries: dict[str, Entry] = {found.entry.generation_key: found.entry async for found in journal.entries()}
    await shared_budget.open([spec.key for spec in specs], entries)
    gate = asyncio.Semaphore(3)

    async with RunComfyClient(os.environ["RUNCOMFY_API_TOKEN"], base_url=service) as client:

        async def submit(spec: GenerationSpec) -> None:
            async def prepare() -> TextToVideo:
                return TextToVideo.model_validate(spec.inputs)

            async def intact(archive: object) -> bool:
                return True

            async with gate:
                try:
                    if spec.key not in entries:
                        shared_budget.begin(spec.key)
                    await submit_once(
                        client, journal, spec,
                        prepare=prepare, intact=intact, authorise=lambda: shared_budget.authorise(spec.key),
                    )  # fmt: skip
                except (BudgetReached, UncertainSubmission):
                    pass
                found = await journal.read(spec.key)
                await shared_budget.settle(spec.key, found.entry if found else None)

        await asyncio.gather(*map(submit, random.sample(specs, len(specs))))


@pytest.mark.slow
def test_three_processes_that_are_killed_share_one_budget(
    sandbox: Sandbox, object_store: ObjectStore, prefix: str
) -> None:
    """Eight times one of three is killed and started again; nothing is paid twice, and the last runs end well."""
    sandbox.inject("slow", endpoint="submit", rate=1.0, seconds=0.3)
    keys = {"AWS_ACCESS_KEY_ID": object_store.access_key, "AWS_SECRET_ACCESS_KEY": object_store.secret_key}
    environment = os.environ | keys | {"RUNCOMFY_API_TOKEN": sandbox.token}
    command = [sys.executable, "-m", __name__, sandbox.url, object_store.endpoint_url, prefix]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment)

    chance, running, killed = random.Random(7), [start() for _ in range(3)], 0
    try:
        for _ in range(ROUNDS):
            before = sandbox.books().submissions_received
            until = time.monotonic() + 60
            while sandbox.books().submissions_received == before and time.monotonic() < until:
                if all(process.poll() is not None for process in running):
                    break
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 0.3))
            alive = [number for number, process in enumerate(running) if process.poll() is None]
            if not alive:
                break
            victim = chance.choice(alive)
            running[victim].send_signal(signal.SIGKILL)
            killed += running[victim].wait() == -signal.SIGKILL
            running[victim] = start()
            assert sandbox.books().usd_charged <= LIMIT_USD
        assert [process.wait(300) for process in running] == [0, 0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()

    books = sandbox.books()
    assert 0 < books.usd_charged <= LIMIT_USD
    assert max(Counter(request.inputs["prompt"] for request in books.requests).values()) == 1
    enough(killed >= 3, f"only {killed} processes were killed before the budget was used up")


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
