"""A burst of images, reported twice and out of order, and a worker that is killed: one video for each.

`BURST_IMAGES` sets another number.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from runcomfy.api.client import RunComfyClient
from runcomfy.journal import BucketJournalStore, EntryState, Journal, adopt, release
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.storage.store import Store
from tests.deployments.conftest import BusyServer, PrefectServer
from tests.runcomfy.inbox.cloud import Cloud, painted, running_cloud

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
IMAGES = int(os.environ.get("BURST_IMAGES", "120"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with BusyServer.started(tmp_path_factory.mktemp("prefect")) as running:
        yield running


class Workers:
    """Starts workers of one inbox."""

    def __init__(self, server: PrefectServer, sandbox: Sandbox, cloud: Cloud, store: Store, queue_url: str) -> None:
        self._server, self._log = server, server.home / "inbox.log"
        self._job: dict[str, Any] = {
            "source": f"s3://{store.bucket}/in",
            "queue_url": queue_url,
            "account": {"token": sandbox.token, "host": sandbox.host},
            "store": {
                "bucket": store.bucket,
                "prefix": store.prefix,
                "access_key": cloud.access_key,
                "secret_key": cloud.secret_key,
                "endpoint_url": cloud.endpoint_url,
                "public_endpoint_url": "",
                "patience_seconds": 10,
            },
        }

    def start(self, **changes: Any) -> subprocess.Popen[bytes]:
        """Start one."""
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.inbox.worker"],
            cwd=ROOT, env=self._server.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log.open("ab"),
        )  # fmt: skip
        assert worker.stdin is not None
        # A message that was given back for the second time is hidden for a minute.
        worker.stdin.write(json.dumps({"at_once": 40, "idle_seconds": 75} | self._job | changes).encode())
        worker.stdin.close()
        return worker

    def end_of(self, worker: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Wait for the end of one, and return its output."""
        assert worker.stdout is not None
        said = worker.stdout.read()
        assert worker.wait() == 0, self._log.read_text()[-3000:]
        return dict(json.loads(said))


async def decide(journal: Journal, sandbox: Sandbox, doubted: set[str]) -> set[str]:
    """Do what a person does about each submission whose answer is unknown: look it up, adopt or release it.

    What is released was in doubt the last time as well (`doubted`): a call may still be on its way when a machine that
    was held up for longer than its lease goes on. Returns what is in doubt now.
    """
    still: set[str] = set()
    requests = {entry.inputs["prompt"]: entry.id for entry in sandbox.books().requests}
    async with RunComfyClient(SecretStr(sandbox.token), base_url=sandbox.url) as client:
        async for found in journal.entries():
            key, inputs = found.entry.generation_key, found.entry.inputs
            if found.entry.state is EntryState.UNCERTAIN:
                if inputs["prompt"] in requests:
                    await adopt(client, journal, key, requests[inputs["prompt"]])
                elif key in doubted:
                    await release(journal, key)
                else:
                    still.add(key)
    return still


def test_a_burst_of_images_becomes_one_video_each(server: PrefectServer) -> None:
    """Each is reported twice, in any order; two workers share them, one is killed halfway; a listing finds the rest."""
    settings = SandboxSettings(run_seconds=0.5, tiny_videos=True, slots=100, opening_balance_usd=1e6)
    with running_cloud() as cloud, Sandbox(settings) as sandbox:
        bucket, notified, queue_url = cloud.bucket(), cloud.queue(), cloud.queue()
        store = Store(bucket, "archive", session=cloud.session(), endpoint_url=cloud.endpoint_url)
        journal = Journal(BucketJournalStore(store))
        cloud.notify(bucket, notified, "in/")

        def drop(number: int) -> None:
            cloud.s3.put_object(
                Bucket=bucket, Key=f"in/{number}.png", Body=painted(number), Metadata={"prompt": f"rain {number}"}
            )

        began = time.monotonic()
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(drop, range(IMAGES)))
        bodies = cloud.drain(notified) * 2
        assert len(bodies) == 2 * (IMAGES + 1)
        random.Random(7).shuffle(bodies)
        cloud.send(queue_url, bodies)
        dropped = time.monotonic()
        workers = Workers(server, sandbox, cloud, store, queue_url)
        victim, survivor = workers.start(), workers.start()
        while sandbox.books().submissions_accepted < IMAGES // 2:
            assert victim.poll() is None and survivor.poll() is None
            time.sleep(0.1)
        victim.kill()
        killed = time.monotonic()
        doubted: set[str] = set()
        while survivor.poll() is None:
            doubted = asyncio.run(decide(journal, sandbox, doubted))
            time.sleep(3)
        survived = workers.end_of(survivor)
        ended = time.monotonic()
        collected = workers.end_of(workers.start(queue_url="", idle_seconds=0))
        nothing = workers.end_of(workers.start(queue_url="", idle_seconds=0))
        print(
            f"dropped in {dropped - began:.0f} s, killed after {killed - dropped:.0f} s, worked off after "
            f"{ended - killed:.0f} s: {survived}, then {collected} after {time.monotonic() - ended:.0f} s"
        )

        keys = Counter(
            entry["Key"].rpartition(".")[2]
            for page in cloud.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="archive/wan-ai/")
            for entry in page.get("Contents", [])
        )
        assert keys == dict.fromkeys(("mp4", "jpg", "json"), IMAGES)
        assert sandbox.books().submissions_accepted == IMAGES
        assert {entry.inputs["prompt"] for entry in sandbox.books().requests} == {
            f"rain {number}" for number in range(IMAGES)
        }
        assert cloud.count(queue_url) == (0, 0)
        assert nothing["fates"] == {}
