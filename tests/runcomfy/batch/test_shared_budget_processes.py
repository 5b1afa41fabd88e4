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

PRICE_USD, LIMIT_USD = 0.25, 6.0
PROMPTS = [f"scene {number}" for number in range(30)]
LEASE_SECONDS, ROUNDS = 9.0, 8


async def run(service: str, endpoint: str, prefix: str) -> None:
    """Submit what can be afforded, as a batch does: in an order of its own, three at a time.

    Each submission waits for a line of the test, so that the process lives until it is killed; none does after the end.
    """
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
                await asyncio.to_thread(sys.stdin.readline)
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

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True)

    def let_submit(process: subprocess.Popen[str]) -> None:
        print(file=process.stdin, flush=True)

    def wait_for_more_than(received: int) -> None:
        until = time.monotonic() + 120
        while sandbox.books().submissions_received == received and time.monotonic() < until:
            time.sleep(0.01)

    chance, running = random.Random(7), [start() for _ in range(3)]
    try:
        for _ in range(ROUNDS):
            before = sandbox.books().submissions_received
            for process in running:
                let_submit(process)
            wait_for_more_than(before)
            time.sleep(chance.uniform(0.0, 0.3))
            victim = chance.randrange(3)
            running[victim].kill()
            assert running[victim].wait() == -signal.SIGKILL
            running[victim] = start()
            assert sandbox.books().usd_charged <= LIMIT_USD
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        assert [process.wait(300) for process in running] == [0, 0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()

    books = sandbox.books()
    assert 0 < books.usd_charged <= LIMIT_USD
    assert max(Counter(request.inputs["prompt"] for request in books.requests).values()) == 1


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
