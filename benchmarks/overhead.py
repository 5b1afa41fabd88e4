"""What Prefect and this project add to a generation, against a flow of tasks that do nothing.

    python -m benchmarks.overhead [--generations 500] [--at-once 40] [--single 5] [--run-seconds 5]

Many: so many generations that are ready at once, in one process, by the flow `batch`, by the engine without Prefect,
and as many tasks that do nothing. Single: the flow `image_to_video` beyond the time that its request runs, against a
flow of four tasks that do nothing. One Prefect server, S3 server and sandbox for all of it, none of them counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.in_flight import TOKEN, running_sandbox
from benchmarks.in_flight_ways import WAYS, Surroundings
from runcomfy.sandbox.objectstore import running_object_store
from tests.deployments.conftest import ROOT, BusyServer

__all__ = ["main", "measure"]

_FLOOR = "tasks that do nothing"


def main() -> None:
    """Measure both in a process of its own, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--single", type=int, default=5, help="how often each single flow is run")
    parser.add_argument("--run-seconds", type=float, default=5.0, help="how long the request of a single flow runs")
    wanted = parser.parse_args()
    with contextlib.ExitStack() as running:
        objects = running.enter_context(running_object_store())
        url = running.enter_context(running_sandbox("--slots", "100000", "--opening-balance-usd", "1e9"))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        environment = running.enter_context(BusyServer.started(folder)).environment | {"PREFECT_LOGGING_LEVEL": "ERROR"}
        where = Surroundings(
            url=url, token=TOKEN, endpoint_url=objects.endpoint_url, access_key=objects.access_key,
            secret_key=objects.secret_key, prefix="overhead", generations=wanted.generations,
            run_seconds=0.0, spread=0.0, at_once=wanted.at_once, calls_per_second=10_000.0,
        )  # fmt: skip
        asked = json.dumps({"where": asdict(where), "single": wanted.single, "run_seconds": wanted.run_seconds})
        done = subprocess.run(  # noqa: S603 - its own program
            [sys.executable, "-c", f"from benchmarks.overhead import measure; measure({asked!r})"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    _print(wanted, json.loads(done.stdout.splitlines()[-1]))


def measure(asked: str) -> None:
    """Measure in this process, and print what it took as one line of JSON."""
    wanted = json.loads(asked)
    where = Surroundings(**wanted["where"])
    ways: dict[str, Callable[[Surroundings], Coroutine[Any, Any, None]]] = {
        _FLOOR: _empty_tasks,
        "engine, without Prefect": WAYS["engine"](),
        "flow batch": WAYS["batch"](),
    }
    many = {}
    for name, way in ways.items():
        asyncio.run(way(replace(where, generations=where.at_once, prefix=f"warm {name}")))
        used, began = time.process_time(), time.monotonic()
        asyncio.run(way(replace(where, prefix=name)))
        many[name] = time.monotonic() - began, time.process_time() - used
    single = {
        "four tasks that do nothing": [_timed(_four_empty_tasks) for _ in range(wanted["single"] + 1)][1:],
        "flow image_to_video": _single(where, wanted["run_seconds"], wanted["single"] + 1)[1:],
    }
    print(json.dumps({"many": many, "single": single}))


async def _empty_tasks(where: Surroundings) -> None:
    from prefect import flow, task

    @task
    async def nothing(number: int) -> int:
        return number

    @flow
    async def many() -> None:
        slots = asyncio.Semaphore(where.at_once)

        async def one(number: int) -> None:
            async with slots:
                await nothing(number)

        await asyncio.gather(*(one(number) for number in range(where.generations)))

    await many()


async def _four_empty_tasks() -> None:
    from prefect import flow, task

    @task
    async def nothing(number: int) -> int:
        return number

    @flow
    async def four() -> None:
        for number in range(4):
            await nothing(number)

    await four()


def _single(where: Surroundings, run_seconds: float, times: int) -> list[float]:
    """How long the flow took each time, beyond what its request ran; each with an image and a seed."""
    from flows.image_to_video import image_to_video
    from flows.parameters import ImageSource
    from runcomfy.models import ImageToVideoSettings

    account, store = where.blocks()
    image = ImageSource(str(ROOT / "deployments" / "demo.jpg"))
    prompt = f"snow [sandbox: run_seconds={run_seconds}]"

    async def one(seed: int) -> None:
        await image_to_video(image, prompt, account, store, settings=ImageToVideoSettings(seed=seed))

    return [_timed(functools.partial(one, seed)) - run_seconds for seed in range(times)]


def _timed(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    async def run() -> float:
        began = time.monotonic()
        await work()
        return time.monotonic() - began

    return asyncio.run(run())


def _print(wanted: Any, measured: dict[str, Any]) -> None:
    table = Table("way", "a second", "CPU ms each", "x the floor's CPU", title=f"{wanted.generations:,}, many at once")
    floor = measured["many"][_FLOOR][1]
    for name, (seconds, processor) in measured["many"].items():
        table.add_row(
            name,
            f"{wanted.generations / seconds:.0f}",
            f"{1000 * processor / wanted.generations:.1f}",
            f"{processor / floor:.1f}",
        )
    Console().print(table)
    table = Table("flow", "seconds beyond the request's own", title=f"single, median of {wanted.single}")
    for name, seconds in measured["single"].items():
        table.add_row(name, f"{statistics.median(seconds):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
