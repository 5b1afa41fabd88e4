"""How many looks a way of polling takes, and how long a result waits, against the best that is possible.

    python -m benchmarks.polling [--jobs 1000]

On a clock of its own, so it needs no service and no network. Ours is the real `follow` with what it has learnt itself;
the others are fixed intervals, as these clients publish them. `looks x delay` is what a way is judged by: looking twice
as often halves the delay, so for a fixed interval it is about half the time, whatever the interval. The best possible
is that of the inspection problem (Barlow and Proschan 1965) for somebody who knows the distribution.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from runcomfy.client import RunComfyClient
from runcomfy.clock import Clock
from runcomfy.polling.forecast import RunTimes
from runcomfy.polling.poll import follow

__all__ = ["main"]

_PEERS = {
    "fal-client": 0.1,
    "replicate": 0.5,
    "RunComfy's command line": 2.0,
    "RunComfy's ComfyUI nodes": 5.0,
    "prefect-dbt, prefect-databricks": 10.0,
}
_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Times:
    """Log-normal running times in seconds."""

    mean: float
    spread: float

    @property
    def normal(self) -> NormalDist:
        """The distribution of the logarithm."""
        sigma = math.sqrt(math.log(1 + self.spread**2))
        return NormalDist(math.log(self.mean) - sigma**2 / 2, sigma)

    def drawn(self, count: int, seed: int) -> list[float]:
        """Return some."""
        return [math.exp(each) for each in self.normal.samples(count, seed=seed)]

    def best(self) -> float:
        """Return the least product of looks and mean delay: ½ (∫ √(density x survival))²."""
        normal = self.normal
        logs = [normal.mean + normal.stdev * step / 100 for step in range(-800, 801)]
        roots = [math.sqrt(normal.pdf(each) / math.exp(each) * (1 - normal.cdf(each))) for each in logs]
        ages = [math.exp(each) for each in logs]
        return sum((b - a) * (r + q) / 2 for a, b, r, q in zip(ages, ages[1:], roots, roots[1:], strict=False)) ** 2 / 2


@dataclass(frozen=True)
class _Outcome:
    looks: float
    delays: Sequence[float]
    shares: Sequence[float]

    @property
    def product(self) -> float:
        return self.looks * statistics.fmean(self.delays)


def _fixed(interval: float, times: Sequence[float]) -> _Outcome:
    """A look at once, and then one each interval."""
    looks = [math.ceil(each / interval) for each in times]
    delays = [count * interval - each for count, each in zip(looks, times, strict=True)]
    shares = [delay / each for delay, each in zip(delays, times, strict=True)]
    return _Outcome(statistics.fmean(looks) + 1, delays, shares)


class _Service:
    """One request that runs, and a clock that sleeping moves on."""

    def __init__(self) -> None:
        self.now = self.ends = 0.0
        self.looks = 0
        self.clock = Clock(lambda: _START + timedelta(seconds=self.now), lambda: self.now, self._sleep, random.random)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/result"):
            video = {"video": "https://files.runcomfy.net/a.mp4"}
            return httpx.Response(200, json={"request_id": "r", "status": "succeeded", "output": video})
        self.looks += 1
        state = "completed" if self.now >= self.ends else "in_progress"
        return httpx.Response(200, json={"request_id": "r", "status": state})


async def _ours(before: int, law: _Times, jobs: int) -> _Outcome:
    """Follow jobs one after the other: in groups that each begin with nothing known and learn from so many."""
    service, looks, delays, shares = _Service(), list[int](), list[float](), list[float]()
    async with RunComfyClient("no-token", transport=httpx.MockTransport(service.answer)) as client:
        for group in range(max(1, jobs // 40)):
            seen: list[float] = []
            for number, seconds in enumerate(law.drawn(before + (40 if before else 1), 1000 * before + group)):
                service.now, service.ends, service.looks = 0.0, seconds, 0
                known = _knowing(seen)
                async for look in follow(
                    client, "r", submitted_at=_START, clock=service.clock, workload="w", run_times=known
                ):
                    if look.result is not None and number < before:
                        seen.append(look.result.running_seconds or 0.0)
                if number >= before:
                    looks.append(service.looks)
                    delays.append(service.now - seconds)
                    shares.append((service.now - seconds) / seconds)
    return _Outcome(statistics.fmean(looks), delays, shares)


def _knowing(seen: Sequence[float]) -> RunTimes:
    run_times = RunTimes()
    for seconds in seen:
        run_times.saw("w", seconds)
    return run_times


def _row(name: str, outcome: _Outcome, best: float) -> tuple[str, ...]:
    late, shares = sorted(outcome.delays), sorted(outcome.shares)
    at = int(0.99 * len(late))
    return (
        name,
        f"{outcome.looks:,.1f}",
        f"{statistics.fmean(late):.2f}",
        f"{late[at]:.2f}",
        f"{100 * shares[at]:.1f} %",
        f"{outcome.product:.1f}",
        f"{outcome.product / best:.2f}",
    )


def main() -> None:
    """Simulate, and print a table for each distribution."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000, help="for each row")
    jobs: int = parser.parse_args().jobs
    laws: list[_Times] = [_Times(120, spread) for spread in (0.05, 0.1, 0.25, 0.5)] + [
        _Times(30, 0.1),
        _Times(900, 0.1),
    ]
    for law in laws:
        table = Table(title=f"Jobs of {law.mean:.0f} s, spread {law.spread:.0%}")
        heads: Any = ("way", "looks", "mean delay s", "p99 delay s", "p99 of own time", "looks x delay", "x best")
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left")
        best, times = law.best(), law.drawn(jobs, 1)
        table.add_row("the best possible", *[""] * 4, f"{best:.1f}", "1.00")
        for seen in (20, 5, 0):
            name = f"ours, {seen} seen" if seen else "ours, the first"
            table.add_row(*_row(name, asyncio.run(_ours(seen, law, jobs if seen else 40 * jobs)), best))
        for name, interval in _PEERS.items():
            table.add_row(*_row(f"{name} ({interval:g} s)", _fixed(interval, times), best))
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
