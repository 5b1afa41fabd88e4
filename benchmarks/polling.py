"""How many polls each way of polling takes, and how long a result waits, against the best possible.

    python -m benchmarks.polling [--jobs 1000]

On a simulated clock, so it needs no service and no network. Ours is the real `poll_until_done` with its run-time cache.
The others are the simplest rule that knows as much (sleep until two spreads before the median, then poll every
twentieth of the age, or fifth of a spread if that is less), and fixed intervals, as these clients publish them.

`polls x delay` is the measure: polling twice as often halves the delay, so for a fixed interval it is about half the
time, whatever the interval. The best possible is that of the inspection problem (Barlow and Proschan 1965) with a known
distribution. `p99` is of the delay's share of the job's own time.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

from rich.console import Console
from rich.table import Table

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import Clock
from runcomfy.api.responses import Answer, State, Status
from runcomfy.polling.forecast import RunTimes
from runcomfy.polling.poll import poll_until_done

__all__ = ["main"]

_PEERS = {
    "fal-client": 0.1,
    "replicate": 0.5,
    "RunComfy's command line": 2.0,
    "RunComfy's ComfyUI nodes": 5.0,
    "prefect-dbt, prefect-databricks": 10.0,
}
_START = datetime(2026, 1, 1, tzinfo=UTC)
_GROUP = 8  # few, so that there are many histories, which vary most
_QUICK = 0.4


@dataclass(frozen=True)
class _Times:
    """Log-normal run times in seconds; a share of them takes only 0.4 of that."""

    mean: float
    spread: float
    quick: float = 0.0

    @property
    def normals(self) -> list[tuple[float, NormalDist]]:
        """The distributions of the logarithm, with the share of each."""
        sigma = math.sqrt(math.log(1 + self.spread**2))
        usual = NormalDist(math.log(self.mean) - sigma**2 / 2, sigma)
        return [(1 - self.quick, usual), (self.quick, usual + math.log(_QUICK))]

    def drawn(self, count: int, seed: int) -> list[float]:
        """Return some run times."""
        chance, ((_, usual), (_, quick)) = random.Random(seed), self.normals  # noqa: S311 - repeatable on purpose
        return [
            math.exp((quick if chance.random() < self.quick else usual).inv_cdf(1 - chance.random()))
            for _ in range(count)
        ]

    def best(self) -> float:
        """Return the least product of polls and mean delay: ½ (∫ √(density x survival))²."""
        middle, sigma = self.normals[0][1].mean, self.normals[0][1].stdev
        logs = [middle + sigma * step / 100 for step in range(-2500, 1001)]
        density = [sum(share * each.pdf(log) for share, each in self.normals) / math.exp(log) for log in logs]
        ended = [sum(share * each.cdf(log) for share, each in self.normals) for log in logs]
        roots = [math.sqrt(f * max(1 - e, 0.0)) for f, e in zip(density, ended, strict=True)]
        ages = [math.exp(each) for each in logs]
        return sum((b - a) * (r + q) / 2 for a, b, r, q in zip(ages, ages[1:], roots, roots[1:], strict=False)) ** 2 / 2


@dataclass(frozen=True)
class _Outcome:
    polls: float
    delays: Sequence[float]
    shares: Sequence[float]

    @property
    def product(self) -> float:
        return self.polls * statistics.fmean(self.delays)


def _fixed(interval: float, times: Sequence[float]) -> _Outcome:
    """One poll at once, and then one each interval."""
    polls = [math.ceil(each / interval) for each in times]
    delays = [count * interval - each for count, each in zip(polls, times, strict=True)]
    shares = [delay / each for delay, each in zip(delays, times, strict=True)]
    return _Outcome(statistics.fmean(polls) + 1, delays, shares)


class _Service(RunComfyClient):
    """One request that runs, and a clock that sleeping moves on."""

    def __init__(self) -> None:
        super().__init__("no-token")
        self.now = self.ends = 0.0
        self.polls = 0
        self.clock = Clock(lambda: _START + timedelta(seconds=self.now), lambda: self.now, self._sleep, random.random)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    async def status(self, request_id: str) -> Status:
        self.polls += 1
        state = State.COMPLETED if self.now >= self.ends else State.IN_PROGRESS
        return Status(request_id, state, str(state))

    async def result(self, request_id: str) -> Answer:
        return Answer(request_id, State.SUCCEEDED, "succeeded", ("https://files.runcomfy.net/a.mp4",))

    async def polled(self, seconds: float, seen: Sequence[float]) -> float | None:
        """Poll a job that runs for so long, knowing how long others did; return how long it was observed to run."""
        self.now, self.ends, self.polls, known = 0.0, seconds, 0, RunTimes()
        for each in seen:
            known.record("w", each)
        async for poll in poll_until_done(
            self, "r", submitted_at=_START, clock=self.clock, workload="w", run_times=known
        ):
            if poll.result is not None:
                return poll.result.running_seconds
        return None


def _groups(before: int, law: _Times, jobs: int) -> list[tuple[list[float], list[float]]]:
    """Return times to learn from and times to measure with, the same for every way that learns."""
    drawn = (law.drawn(before + _GROUP, 1000 * before + group) for group in range(max(1, jobs // _GROUP)))
    return [(each[:before], each[before:]) for each in drawn]


async def _ours(before: int, law: _Times, jobs: int) -> _Outcome:
    """Poll jobs one after the other: in groups that each begin with nothing known and learn from so many."""
    polls, delays, shares = list[int](), list[float](), list[float]()
    async with _Service() as service:
        for learn_from, measured in _groups(before, law, jobs):
            seen = list[float]()
            for seconds in learn_from:
                seen.append(await service.polled(seconds, seen) or 0.0)
            for seconds in measured:
                await service.polled(seconds, seen)
                polls.append(service.polls)
                delays.append(service.now - seconds)
                shares.append((service.now - seconds) / seconds)
    return _Outcome(statistics.fmean(polls), delays, shares)


def _simple_rule(seen: Sequence[float]) -> Callable[[float], float]:
    """Return the rule: the age of the next poll, after one at an age."""
    logs = NormalDist.from_samples([math.log(each) for each in seen])
    median, first = math.exp(logs.mean), math.exp(logs.mean - 2 * logs.stdev)
    return lambda age: max(age + 1, first if age < first else age + min(0.05 * age, 0.2 * logs.stdev * median))


def _simple(before: int, law: _Times, jobs: int) -> _Outcome:
    polls, delays, shares = list[int](), list[float](), list[float]()
    for seen, measured in _groups(before, law, jobs):
        next_age = _simple_rule(seen)
        for seconds in measured:
            age, count = 0.0, 1
            while age < seconds:
                age, count = next_age(age), count + 1
            polls.append(count)
            delays.append(age - seconds)
            shares.append((age - seconds) / seconds)
    return _Outcome(statistics.fmean(polls), delays, shares)


def _row(name: str, outcome: _Outcome, best: float) -> tuple[str, ...]:
    late, shares = sorted(outcome.delays), sorted(outcome.shares)
    at = int(0.99 * len(late))
    return (
        name,
        f"{outcome.polls:,.1f}",
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
    laws = [_Times(120, spread) for spread in (0.05, 0.1, 0.25, 0.5)]
    laws += [_Times(30, 0.1), _Times(900, 0.1), _Times(120, 0.1, quick=0.1)]
    for law in laws:
        quick = f", of which {law.quick:.0%} take {_QUICK} of that" if law.quick else ""
        table = Table(title=f"Jobs of {law.mean:.0f} s, spread {law.spread:.0%}{quick}")
        heads: Any = ("way", "polls", "mean delay s", "p99 delay s", "p99", "polls x delay", "x best")
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left")
        best, times = law.best(), law.drawn(jobs, 1)
        table.add_row("the best possible", *[""] * 4, f"{best:.1f}", "1.00")
        for seen in (20, 5, 0):
            name = f"ours, {seen} seen" if seen else "ours, the first"
            table.add_row(*_row(name, asyncio.run(_ours(seen, law, jobs)), best))
            if seen:
                table.add_row(*_row(f"the simple rule, {seen} seen", _simple(seen, law, jobs), best))
        for name, interval in _PEERS.items():
            table.add_row(*_row(f"{name} ({interval:g} s)", _fixed(interval, times), best))
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
