"""Batches of hundreds, in one process and sharded over workers, with processes killed in the middle.

`BATCH_ROWS` sets another size.
"""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from runcomfy.journal import Entry, EntryState, adopt, release
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from tests.deployments.conftest import ROOT, BusyServer, PrefectServer

pytestmark = pytest.mark.slow

ROWS = int(os.environ.get("BATCH_ROWS", "280"))
AT_ONCE = 100
PATIENCE_SECONDS = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with BusyServer.started(tmp_path_factory.mktemp("prefect")) as started:
        yield started


@pytest.fixture(scope="module")
def service() -> Iterator[Sandbox]:
    settings = SandboxSettings(
        token="sandbox-batch-5b1d", run_seconds=2.0, tiny_videos=True, slots=4 * AT_ONCE, opening_balance_usd=10_000
    )
    with Sandbox(settings) as running:
        yield running


@asynccontextmanager
async def api(server: PrefectServer) -> AsyncIterator[PrefectClient]:
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        async with get_client() as client:
            yield client


class Batch:
    """A manifest, its bucket, and the flow that runs on it in a process of its own."""

    def __init__(self, folder: Path, server: PrefectServer, service: Sandbox, object_store: ObjectStore, prefix: str):
        self.server, self.service, self.folder = server, service, folder
        self.account = RunComfyCredentials(
            api_token=SecretStr(service.token), base_url=service.url, output_hosts=[service.host]
        )
        keys = AwsCredentials(
            aws_access_key_id=object_store.access_key,
            aws_secret_access_key=SecretStr(object_store.secret_key),
            region_name="us-east-1",
            aws_client_parameters=AwsClientParameters(endpoint_url=object_store.endpoint_url),
        )
        self.store = MediaStore(
            bucket="videos", prefix=prefix, credentials=keys, journal_patience_seconds=PATIENCE_SECONDS
        )
        self.name = prefix
        self.manifest = folder / "scenes.csv"
        with self.manifest.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["prompt", "seed"])
            writer.writerows((f"scene {number} of {prefix}", number) for number in range(ROWS))

    async def save_blocks(self, client: PrefectClient) -> dict[str, Any]:
        stored = {
            "credentials": await self.account.save(self.name, client=client),
            "store": await self.store.save(self.name, client=client),
        }
        return {name: {"$ref": {"block_document_id": str(key)}} for name, key in stored.items()}

    @contextlib.contextmanager
    def process(self, **given: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Run the flow in a process; its peak memory goes into the file `memory`."""
        with subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self.manifest), self.name, repr(given)],
            cwd=ROOT,
            env=self.server.environment | {"MEMORY_FILE": str(self.folder / "memory")},
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def pay_for_half(self, process: subprocess.Popen[bytes]) -> None:
        """Let requests end until half of the rows are paid for; then none ends, so that work is left, however fast."""
        deadline = time.monotonic() + 1800
        self.service.hold(queue=False, runs=True)
        while self.paid() < ROWS // 2:
            assert process.poll() is None and time.monotonic() < deadline
            self.service.release()  # what has run for long enough ends now, and nothing else
            self.service.hold(queue=False, runs=True)
            time.sleep(0.02)  # so that others are being submitted

    def paid(self) -> int:
        return self.service.books().submissions_accepted

    def videos(self) -> int:
        pages = self.store.get_store().client.get_paginator("list_objects_v2")
        start = self.store.get_store().key("wan-ai/")
        found = (entry["Key"] for page in pages.paginate(Bucket="videos", Prefix=start) for entry in page["Contents"])
        return sum(key.endswith(".mp4") for key in found)

    async def entries(self, *states: EntryState) -> list[Entry]:
        return [found.entry async for found in self.store.get_journal().entries() if found.entry.state in states]

    async def decide(self) -> int:
        """Do what a person does about submissions whose answer is unknown: look up what they became."""
        made = {request.inputs["prompt"]: request.id for request in self.service.books().requests}
        uncertain = await self.entries(EntryState.UNCERTAIN)
        async with self.account.get_client() as client:
            for entry in uncertain:
                journal, prompt = self.store.get_journal(), entry.inputs["prompt"]
                if prompt in made:
                    await adopt(client, journal, entry.generation_key, made[prompt])
                else:
                    await release(journal, entry.generation_key)
        return len(uncertain)


_PROGRAM = """
import asyncio, ast, os, pathlib, re, sys
from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from runcomfy.policy import Polling
manifest, name, given = sys.argv[1:]
try:
    asyncio.run(batch(manifest, RunComfyCredentials.load(name, _sync=True), MediaStore.load(name, _sync=True),
                      polling=Polling(min_interval_seconds=0.5, default_interval_seconds=0.5),
                      **ast.literal_eval(given)))
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path(os.environ["MEMORY_FILE"]).write_text(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""


@pytest.fixture
def batch(
    tmp_path: Path, server: PrefectServer, service: Sandbox, object_store: ObjectStore, prefix: str
) -> Iterator[Batch]:
    service.release()
    service.reset()
    yield Batch(tmp_path, server, service, object_store, prefix)


async def test_a_batch_in_one_process_survives_a_kill_halfway(batch: Batch, measured: list[str]) -> None:
    """Killed and run again, it ends with one video a row, each paid for once; a person decided the rest."""
    async with api(batch.server) as client:
        await batch.save_blocks(client)
        with batch.process(at_once=AT_ONCE) as process:
            batch.pay_for_half(process)
            process.kill()

        batch.service.release()
        began = time.monotonic()
        with batch.process(at_once=AT_ONCE) as again:
            assert again.wait(1800) == 0
        seconds = time.monotonic() - began
        memory_mb = int((batch.folder / "memory").read_text()) / 1024
        doubtful = await batch.decide()
        with batch.process(at_once=AT_ONCE) as last:
            assert last.wait(1800) == 0

    assert (batch.paid(), batch.videos()) == (ROWS, ROWS)
    assert await batch.entries(EntryState.UNCERTAIN, EntryState.SUBMITTED, EntryState.DETACHED) == []
    measured.append(
        f"{ROWS:,} rows, killed halfway: {doubtful} submissions in doubt; "
        f"the second run took {seconds:.0f} s and {memory_mb:.0f} MB"
    )


async def test_a_batch_on_two_workers_survives_the_death_of_one(batch: Batch, measured: list[str]) -> None:
    """The other worker takes over the rows of the dead one; each row is paid for once, and never beyond the budget."""
    with contextlib.ExitStack() as parts:
        server = batch.server
        server.deploy()
        async with api(server) as client:
            await batch.save_blocks(client)
            budget_usd = 0.25 * (ROWS - ROWS // 10)
            for name in ("one", "two"):
                parts.enter_context(_marked_worker(server, name))
            began = time.monotonic()
            given = {"at_once": AT_ONCE, "rows_per_shard": ROWS // 8, "usd_per_video": 0.25}
            with batch.process(**given, budget_usd=budget_usd) as process:
                batch.pay_for_half(process)
                _kill_all("one")
                batch.service.release()
                assert process.wait(1800) == 0
            seconds = time.monotonic() - began
            within_budget = batch.service.books().usd_charged
            doubtful = await batch.decide()
            with batch.process(**given, budget_usd=0.25 * ROWS) as process:
                assert process.wait(1800) == 0

    assert within_budget <= budget_usd
    assert (batch.paid(), batch.videos()) == (ROWS, ROWS)
    measured.append(
        f"{ROWS:,} rows on two workers, one of them killed: {doubtful} submissions in doubt; {seconds:.0f} s; "
        f"{within_budget:.2f} of {budget_usd:.2f} USD spent"
    )


@contextlib.contextmanager
def _marked_worker(server: PrefectServer, name: str) -> Iterator[None]:
    """A worker whose processes are identified by an environment variable."""
    log = (server.home / f"worker-{name}.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "test-pool", "--name", name, "--limit", "4"],
        cwd=ROOT,
        env=server.environment | {"WORKER_MARK": name},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        yield
    finally:
        _kill_all(name)
        process.wait()


def _kill_all(mark: str) -> None:
    """Kill a worker and all that it started, like a power failure of its machine."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended in the meantime
            if f"WORKER_MARK={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                os.kill(int(place.name), signal.SIGKILL)
