"""What it takes to have many generations in flight in one process, against bare tasks that know when to poll.

    python -m benchmarks.in_flight [--generations 100 1000 5000] [--run-seconds 300] [--spread 0.05]
        [--submit-seconds 0.3] [--calls-per-second 50] [--ways floor engine batch]

Everything is real but RunComfy, which is the sandbox; it, the S3 server and the Prefect server are processes of their
own, and none of them is counted. The ideal is what the slowest request needs if all are submitted at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.in_flight_ways import WAYS
from runcomfy.sandbox.objectstore import ObjectStore, running_object_store
from tests.deployments.conftest import ROOT, BusyServer

__all__ = ["TOKEN", "main", "running_sandbox"]

TOKEN = "sandbox-token"  # noqa: S105 - it opens a sandbox on loopback


@contextlib.contextmanager
def running_sandbox(*options: str) -> Iterator[str]:
    """Run a sandbox in a process of its own, and yield its URL."""
    command = [sys.executable, "-m", "runcomfy.sandbox", "--port", "0", "--quiet", "--tiny-videos", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - its own program
    try:
        first = process.stdout.readline() if process.stdout else ""
        yield first.partition("listens on ")[2].partition(",")[0]
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure each way with each number of generations, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--run-seconds", type=float, default=300.0)
    parser.add_argument("--spread", type=float, default=0.05, help="standard deviation of the logarithm of the times")
    parser.add_argument("--submit-seconds", type=float, default=0.3, help="how long the answer to a submission takes")
    parser.add_argument("--calls-per-second", type=float, default=50.0, help="what the polls have to keep within")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    wanted = parser.parse_args()
    table = Table(
        "in flight", "way", "seconds", "ideal", "of the ideal", "polls each", "polls in the busiest s", "connections",
        "KB each, waiting", "KB each, peak", "CPU ms each", "loop late, p99 / worst ms",
        title=f"{wanted.run_seconds:.0f} s each, {wanted.spread:.0%} spread, {wanted.calls_per_second:.0f} polls/s",
    )  # fmt: skip
    with contextlib.ExitStack() as running:
        objects = running.enter_context(running_object_store())
        url = running.enter_context(running_sandbox("--slots", "100000", "--opening-balance-usd", "1e9"))
        environment = dict(os.environ)
        if "batch" in wanted.ways:
            folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
            environment = running.enter_context(BusyServer.started(folder)).environment
            environment["PREFECT_LOGGING_LEVEL"] = "ERROR"  # or a warning for each, since the sandbox's videos are tiny
        for count in wanted.generations:
            for way in wanted.ways:
                table.add_row(f"{count:,}", way, *_measure(way, count, wanted, url, objects, environment))
    Console(width=150).print(table)


def _measure(
    way: str, count: int, wanted: Any, url: str, objects: ObjectStore, environment: dict[str, str]
) -> tuple[str, ...]:
    httpx.post(f"{url}/sandbox/reset").raise_for_status()
    if wanted.submit_seconds:
        slow = {"fault": "slow", "endpoint": "submit", "rate": 1.0, "seconds": wanted.submit_seconds}
        httpx.post(f"{url}/sandbox/faults", json=slow).raise_for_status()
    asked = {
        "way": way, "url": url, "token": TOKEN, "endpoint_url": objects.endpoint_url,
        "access_key": objects.access_key, "secret_key": objects.secret_key, "prefix": f"{way}-{count}",
        "generations": count, "run_seconds": wanted.run_seconds, "spread": wanted.spread, "at_once": count,
        "calls_per_second": wanted.calls_per_second,
    }  # fmt: skip
    done = subprocess.run(  # noqa: S603 - its own program
        [sys.executable, "-m", "benchmarks.in_flight_ways", json.dumps(asked)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    took = json.loads(done.stdout.splitlines()[-1])
    books = httpx.get(f"{url}/sandbox/books", timeout=60).json()
    if books["submissions_accepted"] != count or books["downloads"] < count:
        raise SystemExit(f"{way}: {books['submissions_accepted']} paid and {books['downloads']} fetched, not {count}")
    ideal = max(_ran_seconds(request) for request in books["requests"])
    return (
        f"{took['seconds']:.1f}",
        f"{ideal:.1f}",
        f"{took['seconds'] / ideal:.2f}",
        f"{books['polls'] / count:.1f}",
        f"{books['busiest_second']:,}",
        f"{books['connections']:,}",
        f"{took['waiting_bytes'] / count / 1024:.0f}",
        f"{took['peak_bytes'] / count / 1024:.0f}",
        f"{1000 * took['processor_seconds'] / count:.0f}",
        f"{1000 * took['lag_p99_seconds']:.0f} / {1000 * took['lag_worst_seconds']:.0f}",
    )


def _ran_seconds(request: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(request[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()


if __name__ == "__main__":
    main()
