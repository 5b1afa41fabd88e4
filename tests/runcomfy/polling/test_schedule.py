"""When polls come: their number, and how long a result waits, on a clock that the test controls."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import Clock, RateLimiter
from runcomfy.api.responses import State
from runcomfy.journal import Journal, memory_journal_store
from runcomfy.models import TextToVideo, workload_of
from runcomfy.policy import Polling
from runcomfy.polling.forecast import Forecast, RunTimes
from runcomfy.polling.poll import Poll, poll_until_done
from runcomfy.polling.schedule import due_in

START = datetime(2026, 11, 21, tzinfo=UTC)
VIDEO = {"video": "https://x.runcomfy.net/a.mp4"}
WORKLOAD = workload_of("m", {"resolution": "720p"})


class Job:
    """A service with one request that is queued, runs, and ends; sleeping moves its clock on."""

    def __init__(self, run_seconds: float, queue_seconds: float = 0.0, queue_length: int | None = None) -> None:
        self.seconds = 0.0
        self.run_seconds, self.queue_seconds, self.queue_length = run_seconds, queue_seconds, queue_length
        self.polls: list[tuple[float, str]] = []
        self.clock = Clock(
            lambda: START + timedelta(seconds=self.seconds), lambda: self.seconds, self._sleep, lambda: 0.0
        )

    async def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds

    def _handle(self, request: httpx.Request) -> httpx.Response:
        finished = self.seconds >= self.queue_seconds + self.run_seconds
        if request.url.path.endswith("/result"):
            return httpx.Response(200, json={"request_id": "r", "status": "succeeded", "output": VIDEO})
        state = "completed" if finished else "in_queue" if self.seconds < self.queue_seconds else "in_progress"
        self.polls.append((self.seconds, state))
        answer: dict[str, Any] = {"request_id": "r", "status": state}
        if state == "in_queue" and self.queue_length:
            answer["queue_position"] = math.ceil(self.queue_length * (1 - self.seconds / self.queue_seconds))
        return httpx.Response(200, json=answer)

    async def polled(self, run_times: RunTimes, polling: Polling | None = None, *, known: bool = True) -> list[Poll]:
        async with RunComfyClient("token-of-tests", transport=httpx.MockTransport(self._handle)) as client:
            return [
                poll
                async for poll in poll_until_done(
                    client, "r", submitted_at=START if known else None, clock=self.clock, polling=polling,
                    workload=WORKLOAD, run_times=run_times,
                )
            ]  # fmt: skip

    @property
    def delay(self) -> float:
        return self.seconds - self.queue_seconds - self.run_seconds

    def times(self, state: str) -> list[float]:
        return [at for at, seen in self.polls if seen == state]


def knowing(seconds: Iterable[float]) -> RunTimes:
    run_times = RunTimes()
    for each in seconds:
        run_times.record(WORKLOAD, each)
    return run_times


def log_normal(spread: float, count: int, seed: int, mean: float = 120.0) -> list[float]:
    chance, sigma = random.Random(seed), math.sqrt(math.log(1 + spread**2))
    return [math.exp(chance.gauss(math.log(mean) - sigma**2 / 2, sigma)) for _ in range(count)]


def poll_all(seen: list[float], jobs: list[float]) -> list[Job]:
    async def run() -> list[Job]:
        done = []
        for seconds in jobs:
            await (job := Job(seconds)).polled(knowing(seen))
            done.append(job)
        return done

    return asyncio.run(run())


@pytest.mark.parametrize("seconds", [7.3, 61.0, 600.0, 3000.0])
async def test_an_unknown_workload_is_polled_at_a_fixed_interval(seconds: float) -> None:
    """Without knowledge, any other schedule can be worse: a result waits for the interval at most."""
    job = Job(seconds)
    await job.polled(RunTimes())

    assert 0 <= job.delay <= 2.0
    assert len(job.polls) <= seconds / 2 + 2


def test_twenty_that_were_seen_make_polls_few_and_delays_short() -> None:
    """For times that spread by five per cent: within half as much again of the best schedule, whose product is 6.0."""
    jobs = [job for seed in range(6) for job in poll_all(log_normal(0.05, 20, seed), log_normal(0.05, 25, 100 + seed))]
    product = statistics.fmean(len(job.polls) for job in jobs) * statistics.fmean(job.delay for job in jobs)

    assert product <= 1.5 * 6.0
    late = sorted(job.delay / job.run_seconds for job in jobs)
    assert late[int(0.99 * len(late))] <= 0.05


def test_times_that_spread_widely_are_no_worse_than_a_fixed_interval() -> None:
    """For times that spread by half, the product is at most a tenth above that of any fixed interval, which is 60."""
    jobs = [job for seed in range(6) for job in poll_all(log_normal(0.5, 20, seed), log_normal(0.5, 25, 100 + seed))]

    assert statistics.fmean(len(job.polls) for job in jobs) * statistics.fmean(job.delay for job in jobs) <= 66


@given(st.lists(st.floats(0.1, 10_000), min_size=3, max_size=40), st.floats(0.01, 3500), st.floats(0, 3500))
@settings(max_examples=40)
def test_the_worst_case_is_bounded_whatever_was_seen(seen: list[float], seconds: float, queued: float) -> None:
    """A service slower or faster than it ever was costs no more than the longest interval, and few more polls."""
    job = Job(seconds, queued)
    polling = Polling()
    asyncio.run(job.polled(knowing(seen), polling))

    assert job.delay <= polling.max_interval_seconds
    assert len(job.polls) <= (seconds + queued) / polling.min_interval_seconds + 3
    gaps = [b - a for (a, _), (b, _) in zip(job.polls, job.polls[1:], strict=False)]
    assert all(gap >= polling.min_interval_seconds - 1e-9 for gap in gaps)


@given(st.lists(st.floats(0.1, 10_000), min_size=1, max_size=40), st.floats(0.0, 50_000))
@settings(max_examples=200, deadline=None)
def test_a_forecast_is_consistent(seen: list[float], age: float) -> None:
    """Half of the rest end in the time that is left, within rounding; and wider is never narrower."""
    forecast = Forecast.of(seen)
    wider = forecast.widened(age)

    left = forecast.seconds_left(age)
    assert math.isfinite(left) and left >= 0
    if 1e-9 < forecast.odds(age) < 1e9:
        assert forecast.odds(age + left) == pytest.approx(1 + 2 * forecast.odds(age), rel=1e-3)
        assert forecast.age_when(forecast.odds(age) / (1 + forecast.odds(age))) == pytest.approx(age, rel=1e-3)
    assert wider.age_when(0.01) <= forecast.age_when(0.01) <= forecast.age_when(0.99) <= wider.age_when(0.99)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
async def test_one_that_ends_far_earlier_than_any_before_does_not_wait_for_their_time(share: float) -> None:
    """It waits for less than half the usual time, at the cost of one poll for each of the others."""
    await (early := Job(share * 120)).polled(knowing([119.0, 120.0, 121.0] * 6))
    await (usual := Job(120.0)).polled(knowing([119.0, 120.0, 121.0] * 6))

    assert early.delay <= 0.45 * 120
    assert sum(at <= 100 for at, _ in usual.polls) <= 3


async def test_a_service_that_becomes_faster_is_learnt_from_a_few() -> None:
    """The first is noticed late, the sixth within a twentieth of its time."""
    run_times, late = knowing([120.0] * 20), []
    for _ in range(6):
        await (job := Job(30.0)).polled(run_times)
        late.append(job.delay)

    assert late[0] > late[-1]
    assert late[-1] <= 0.1 * 30


async def test_a_service_that_becomes_slower_is_polled_ever_more_rarely() -> None:
    """Nothing waits longer because less was expected, with a quarter of the polls of the fixed interval."""
    run_times = knowing([120.0] * 20)
    await (job := Job(1200.0)).polled(run_times)

    assert job.delay <= 0.05 * 1200
    assert len(job.polls) <= 1200 / 2 / 4


async def test_a_long_queue_is_polled_rarely_while_many_are_before_it() -> None:
    """The position in the queue and how fast it moves say when the request will run."""
    with_positions, without = Job(120.0, 1800.0, queue_length=60), Job(120.0, 1800.0)
    for job in (with_positions, without):
        await job.polled(knowing([120.0] * 20))

    assert len(with_positions.times("in_queue")) <= 30
    assert with_positions.delay <= 0.05 * 1920
    assert without.delay <= 0.05 * 1920


async def test_run_times_are_shared_through_the_journal() -> None:
    """Three that were polled from the start are enough; other workers read them beside the journal's entries."""
    journal = Journal(memory_journal_store("run times"))
    run_times = RunTimes(journal)
    for _ in range(3):
        await Job(120.0).polled(run_times)
    await run_times.save()
    other = await RunTimes(journal).load()

    assert (forecast := other.forecast(WORKLOAD)) is not None
    assert forecast.median_seconds == pytest.approx(120, rel=0.02)
    assert other.forecast(workload_of("m", {"resolution": "480p"})) is None
    assert [versioned async for versioned in journal.entries()] == []
    await (job := Job(120.0)).polled(other)
    assert len(job.polls) < 60


async def test_a_request_that_is_found_running_is_not_recorded() -> None:
    """After a crash it is unknown when it began to run."""
    run_times = RunTimes()
    late = Job(120.0)
    late.seconds = 100.0
    await late.polled(run_times)
    await Job(120.0).polled(run_times, known=False)

    assert not run_times.has_unsaved


_ODD_NOTES = [b'{"run_seconds": {"a": [9, 9, %s]}}' % odd for odd in (b"-1", b'"x"', b"Infinity", b"1e999")]


@pytest.mark.parametrize("note", [b"", b"not JSON", *_ODD_NOTES])
async def test_a_cache_that_cannot_be_read_is_ignored(note: bytes) -> None:
    """It costs a few polls, and the next one that records something writes it again."""
    journal = Journal(memory_journal_store("unreadable"))
    await journal.write_note("run-times", note)
    run_times = await RunTimes(journal).load()

    assert run_times.forecast("a") is None
    run_times.record("a", 5.0)
    await run_times.save()
    assert not run_times.has_unsaved
    assert b"5.0" in (await journal.read_note("run-times") or b"")


async def test_the_cache_keeps_the_latest_of_each() -> None:
    """It stays small."""
    journal = Journal(memory_journal_store("latest"))
    run_times = RunTimes(journal)
    for number in range(700):
        for _ in range(40):
            run_times.record(f"workload {number}", 100.0 + number)
        await run_times.save()

    note = await journal.read_note("run-times")
    assert note is not None and len(note) < 200_000
    assert run_times.forecast("workload 699") is not None
    assert run_times.forecast("workload 0") is None


def test_content_is_no_part_of_a_workload() -> None:
    """Prompt, image and seed do not decide how long it takes; the settings do, and the prompt stays private."""
    one = TextToVideo(prompt="a secret plan", seed=1)
    other = TextToVideo(prompt="another", seed=2)
    longer = TextToVideo(prompt="another", num_frames=97)

    assert workload_of(one.model_id, one.body()) == workload_of(other.model_id, other.body())
    assert workload_of(one.model_id, one.body()) != workload_of(longer.model_id, longer.body())
    assert "secret" not in workload_of(one.model_id, one.body())
    assert workload_of("a/b", {"lyrics": "Anna", "voice": "low"}) == workload_of("a/b", {"voice": "low"})


def due_seconds(run_times: RunTimes, age: float, state: State = State.IN_PROGRESS) -> float:
    return due_in(run_times, WORKLOAD, timedelta(seconds=age), state).total_seconds()


@pytest.mark.parametrize(
    ("age", "state", "least", "most"),
    [
        (0, State.IN_PROGRESS, 100, 110),
        (60, State.IN_PROGRESS, 40, 50),
        (60, State.IN_QUEUE, 100, 110),
        (150, State.IN_PROGRESS, 37, 38),
        (4000, State.IN_PROGRESS, 1000, 1000),
        (4000, State.IN_QUEUE, 1000, 1000),
        (1e6, State.IN_PROGRESS, 86400, 86400),
    ],
)
def test_it_is_due_when_most_of_its_kind_have_ended(age: float, state: State, least: float, most: float) -> None:
    """One that takes longer is polled again after a quarter of its age."""
    wait = due_seconds(knowing([100.0] * 20), age, state)

    assert least <= wait <= most


@pytest.mark.parametrize("state", [State.IN_PROGRESS, State.IN_QUEUE])
@pytest.mark.parametrize("seconds", [5, 100, 900])
def test_one_that_never_ends_is_polled_some_dozens_of_times_in_a_day(state: State, seconds: float) -> None:
    """After that a person decides; a poll every few seconds would keep `reconcile` busy for nothing."""
    age, polls = 0.0, 0
    while age < 86400:
        age += max(20, due_seconds(knowing([seconds] * 20), age, state))
        polls += 1

    assert polls < 50


def test_an_unknown_workload_is_due_after_half_its_age() -> None:
    """Up to a day."""
    assert [due_seconds(RunTimes(), age) for age in (0, 60, 600, 1e9)] == [0, 30, 300, 86400]


class Crowd:
    """A virtual clock on which many wait at once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self.clock = Clock(
            lambda: START + timedelta(seconds=self.seconds), lambda: self.seconds, self._sleep, lambda: 0.5
        )

    async def _sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.seconds + seconds, len(self._sleepers), woken))
        await woken.wait()

    async def run(self, work: list[asyncio.Task[Any]]) -> None:
        while not all(task.done() for task in work):
            for _ in range(30):  # let everyone who can continue do so
                await asyncio.sleep(0)
            if self._sleepers:
                self._sleepers.sort(key=lambda sleeper: sleeper[:2])
                self.seconds, _, woken = self._sleepers.pop(0)
                woken.set()


@pytest.mark.parametrize("known", [False, True])
async def test_any_number_in_flight_keeps_within_the_rate(known: bool) -> None:
    """Two hundred requests of a minute, ten calls a second: no second has more, and none waits for long."""
    crowd, calls = Crowd(), list[float]()
    ends = dict(zip(map(str, range(200)), log_normal(0.05, 200, 7, mean=60.0), strict=True))

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(crowd.seconds)
        *_, name, call = request.url.path.split("/")
        if call == "result":
            return httpx.Response(200, json={"request_id": name, "status": "succeeded", "output": VIDEO})
        state = "completed" if crowd.seconds >= ends[name] else "in_progress"
        return httpx.Response(200, json={"request_id": name, "status": state})

    run_times = knowing([60.0, 61.0, 59.0] * 7) if known else RunTimes()
    rate_limiter = RateLimiter(10.0, crowd.clock)
    async with RunComfyClient(
        "token-of-tests", transport=httpx.MockTransport(handle), rate_limiter=rate_limiter
    ) as client:

        async def one(name: str) -> None:
            async for _ in poll_until_done(
                client, name, submitted_at=START, clock=crowd.clock, workload=WORKLOAD, run_times=run_times
            ):
                pass

        tasks = [asyncio.create_task(one(name)) for name in ends]
        await crowd.run(tasks)
        await asyncio.gather(*tasks)

    busiest = max(sum(at <= other < at + 1 for other in calls) for at in calls)
    assert busiest <= 11
    # 200 results take at least 400 calls: 40 s at this rate
    assert crowd.seconds <= max(ends.values()) + 60
    assert rate_limiter.backpressure == 1.0


async def test_a_pause_that_the_service_requests_holds_for_all() -> None:
    """One 429 pauses the calls of all that wait for the same account."""
    crowd, calls = Crowd(), list[float]()

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(crowd.seconds)
        if len(calls) == 1:
            return httpx.Response(429, json={"error_message": "no"}, headers={"Retry-After": "30"})
        if request.url.path.endswith("result"):
            return httpx.Response(200, json={"request_id": "r", "status": "succeeded", "output": VIDEO})
        return httpx.Response(200, json={"request_id": "r", "status": "completed"})

    rate_limiter = RateLimiter(100.0, crowd.clock)
    async with RunComfyClient(
        "token-of-tests", transport=httpx.MockTransport(handle), rate_limiter=rate_limiter
    ) as client:

        async def one(name: str) -> None:
            async for _ in poll_until_done(client, name, submitted_at=START, clock=crowd.clock):
                pass

        tasks = [asyncio.create_task(one(name)) for name in ("a", "b")]
        await crowd.run(tasks)
        await asyncio.gather(*tasks)

    assert [at for at in calls if 0.1 < at < 30] == []


async def test_a_suspended_process_does_not_catch_up_at_once() -> None:
    """Calls that became due in the meantime are made one by one, at the rate."""
    rate_limiter, made = RateLimiter(100.0), list[float]()

    async def one() -> None:
        await rate_limiter.acquire()
        made.append(time.monotonic())

    tasks = [asyncio.create_task(one()) for _ in range(30)]
    await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251 - the process is suspended
    await asyncio.gather(*tasks)

    gaps = [b - a for a, b in pairwise(made)]
    assert min(gaps) >= 0.009
