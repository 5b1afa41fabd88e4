"""How much faster a batch is on two workers than on one, against the time that the generations themselves take.

    python -m benchmarks.batch [--rows 1000] [--at-once 40] [--run-seconds 10] [--workers 1 2]

Everything is real but RunComfy, which is the sandbox in a process of its own: a Prefect server on SQLite, process
workers that take one shard at a time, an S3 server. The floor is what the service alone needs with so many at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from blocks import MediaStore, RunComfyCredentials
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore, running_object_store
from tests.deployments.conftest import ROOT, BusyServer, PrefectServer

__all__ = ["main"]


def main() -> None:
    """Run a batch of the same size on each number of workers, and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--run-seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    wanted = parser.parse_args()
    settings = SandboxSettings(run_seconds=wanted.run_seconds, tiny_videos=True, slots=10_000, opening_balance_usd=1e6)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_object_store() as objects,
        Sandbox(settings) as sandbox,
        BusyServer.started(Path(folder)) as server,
    ):
        _deploy(server, sandbox, objects)
        measured = [(count, *_measure(server, sandbox, wanted, count, Path(folder))) for count in wanted.workers]
    _print(wanted, measured)


def _deploy(server: PrefectServer, sandbox: Sandbox, objects: ObjectStore) -> None:
    server.run("prefect", "work-pool", "create", "test-pool", "--type", "process")
    server.run("prefect", "block", "register", "-m", "blocks")
    server.run("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    account = RunComfyCredentials(api_token=SecretStr(sandbox.token), base_url=sandbox.url, output_hosts=[sandbox.host])
    keys = AwsCredentials(
        aws_access_key_id=objects.access_key,
        aws_secret_access_key=SecretStr(objects.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=objects.endpoint_url),
    )

    async def save() -> None:
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            async with get_client() as client:
                await account.save("benchmark", client=client)
                await MediaStore(bucket="videos", prefix="benchmark", credentials=keys).save("benchmark", client=client)

    asyncio.run(save())


_PROGRAM = """
import asyncio, sys
from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
asyncio.run(batch(sys.argv[1], RunComfyCredentials.load("benchmark", _sync=True),
    MediaStore.load("benchmark", _sync=True), at_once=int(sys.argv[2]), rows_per_shard=int(sys.argv[3])))
"""


def _measure(
    server: PrefectServer, sandbox: Sandbox, wanted: Any, workers: int, folder: Path
) -> tuple[float, float, int]:
    """Return the seconds of a batch, the processor seconds of all that it started, and how often was paid."""
    manifest = folder / f"on-{workers}.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "seed"])
        writer.writerows((f"scene {number} on {workers}", number) for number in range(wanted.rows))
    paid = sandbox.books().submissions_accepted
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    with contextlib.ExitStack() as running:
        for number in range(workers):
            running.enter_context(_worker(server, f"{workers}-{number}"))
        time.sleep(5)  # workers poll
        began = time.monotonic()
        shard = -(-wanted.rows // workers)  # rows for each: every shard starts a process of its own
        subprocess.run(  # noqa: S603 - its own program
            [sys.executable, "-c", _PROGRAM, str(manifest), str(wanted.at_once), str(shard)],
            cwd=ROOT, env=server.environment, check=True,
        )  # fmt: skip
        seconds = time.monotonic() - began
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return seconds, processor, sandbox.books().submissions_accepted - paid


@contextlib.contextmanager
def _worker(server: PrefectServer, name: str) -> Iterator[None]:
    with server.running("prefect", "worker", "start", "--pool", "test-pool", "--limit", "1", "--name", name):
        yield


def _print(wanted: Any, measured: list[tuple[int, float, float, int]]) -> None:
    first = measured[0]
    table = Table(
        title=f"{wanted.rows:,} rows, {wanted.at_once} at once on each worker, {wanted.run_seconds:.0f} s each"
    )
    for column in ("workers", "paid", "seconds", "floor", "of the floor", "rows a second", "growth", "CPU ms a row"):
        table.add_column(column, justify="right")
    for workers, seconds, processor, paid in measured:
        floor = wanted.rows / (wanted.at_once * workers) * wanted.run_seconds
        table.add_row(
            str(workers),
            f"{paid:,}",
            f"{seconds:.0f}",
            f"{floor:.0f}",
            f"{seconds / floor:.2f} x",
            f"{wanted.rows / seconds:.1f}",
            f"{first[1] / seconds:.2f} x",
            f"{1000 * processor / wanted.rows:.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
