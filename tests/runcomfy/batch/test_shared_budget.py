"""Any number of runs share a budget, killed ones too: the service never bills more than it allows."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import httpx
import pytest

from runcomfy.api.requests import collect
from runcomfy.batch.account import account_of
from runcomfy.batch.budget import Budget
from runcomfy.batch.shared_budget import SharedBudget, shared_budget_name
from runcomfy.errors import BudgetReached, RunComfyError, StorageError, StoreUnavailable
from runcomfy.journal import (
    Entry,
    EntryState,
    GenerationSpec,
    Journal,
    MemoryJournalStore,
    record_outcome,
    release,
    submit_once,
)
from runcomfy.journal.stores import Stored
from runcomfy.models import TextToVideo
from tests.runcomfy.journal.stepping import How
from tests.runcomfy.journal.world import World

ROWS = tuple(f"scene {number}" for number in range(6))
COST = 0.25
_TROUBLE = ("none",) * 6 + ("not sent", "refused", "rate", "rate but accepted", "lost", "broken", "accepted and broken")
_ENDS = ("kill before", "kill after", "interrupt before", "interrupt after")


class Shop(World):
    """A service that bills whatever it accepts, and runs of one manifest that share a budget there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reached: Counter[str] = Counter()

    @property
    def billed_usd(self) -> float:
        return len(self.requests) * COST

    def _submit(self, prompt: str) -> httpx.Response | Exception:
        if self.post_faults and self.post_faults[0] == "rate but accepted":
            self.post_faults.popleft()
            self._accept(prompt)
            return httpx.Response(429, json={"error_code": 499999, "error_message": "no"})
        return super()._submit(prompt)

    async def batch(self, run: str, rows: tuple[str, ...], limit_usd: float, price_usd: float) -> float:
        """Generate rows one after the other, as a batch does, and return what it says that all have cost."""
        journal = self.journal(lease_seconds=20.0)
        keys = {row: self.spec(row).key for row in rows}
        shared_budget = SharedBudget(Budget(limit_usd, price_usd), journal, shared_budget_name(keys.values()))
        await shared_budget.open(keys.values(), await self.read(journal, *keys.values()))
        for row, key in keys.items():
            try:
                shared_budget.begin(key)
                await self.generate(journal, shared_budget, row, run)
            except BudgetReached:
                self.reached[run] += 1
            except RunComfyError:
                pass
            with suppress(StorageError):
                await shared_budget.settle(key, (await self.read(journal, key)).get(key))
        price = shared_budget.budget.price_usd
        return sum(account_of(entry).cost_usd(price) for entry in (await self.read(journal, *keys.values())).values())

    async def generate(self, journal: Journal, shared_budget: SharedBudget, row: str, run: str) -> None:
        spec = self.spec(row, run)

        async def prepare() -> TextToVideo:
            return TextToVideo(prompt=row)

        async def intact(_: Any) -> bool:
            return True

        submission = await submit_once(
            self.client, journal, spec,
            prepare=prepare, intact=intact, authorise=lambda: shared_budget.authorise(spec.key),
            on_uncertain="pay_again",
        )  # fmt: skip
        if submission.archive is None:
            async with record_outcome(journal, spec.key, submission.request_id):
                result = await self._waited(submission)
                answer = await collect(self.client, submission.request_id)
            await self.archive(journal, spec.key, result.model_copy(update={"cost_usd": answer.cost_usd}))

    async def read(self, journal: Journal, *keys: str) -> dict[str, Entry]:
        return {found.entry.generation_key: found.entry async for found in journal.read_all(keys)}


@contextmanager
def shop() -> Iterator[Shop]:
    made = Shop()
    try:
        yield made
    finally:
        made.steps.close()


def live_through(world: Shop, draw: random.Random, limit_usd: float, price_usd: float) -> list[Any]:
    """Three runs at once, in any order of steps, of which some are killed and begun again; return those that ended."""
    started = 0

    def start() -> Any:
        nonlocal started
        started += 1
        rows = tuple(draw.sample(ROWS, len(ROWS)))
        run = f"run {started}"
        return world.steps.start(run, lambda: world.batch(run, rows, limit_usd, price_usd), run=run)

    runs = [start() for _ in range(3)]
    for _ in range(6000):
        alive = [worker for worker in runs if worker.alive]
        if not alive:
            break
        worker, end = draw.choice(alive), "done"
        if draw.random() < 0.003 and started < 9:
            end = draw.choice(_ENDS)
        if not world.post_faults:
            world.post_faults.append(draw.choice(_TROUBLE))
        if not world.plans:
            world.plans.append(draw.choice(("succeeded", "succeeded", "failed")))
        world.steps.step(worker, cast(How, end))
        if end != "done":
            runs.append(start())
    assert not any(worker.alive for worker in runs)
    return runs


def schedules(count: int, quick: int) -> list[Any]:
    """Return this many seeds, of which the first few are tried at every commit, and the others with the slow tests."""
    return [pytest.param(seed, marks=[pytest.mark.slow] if seed >= quick else []) for seed in range(count)]


@pytest.mark.parametrize("seed", schedules(50, quick=20))
def test_never_more_is_paid_than_the_budget_allows(seed: int) -> None:
    """Whatever is killed, lost, refused, answered with a false 429, or paid again while it is uncertain."""
    draw = random.Random(seed)
    limit = draw.choice((0.5, 1.0, 1.3, 2.0))
    with shop() as world:
        runs = live_through(world, draw, limit, price_usd=COST)
        last = world.steps.start("last", lambda: world.batch("last", ROWS, limit, COST), run="last")
        world.post_faults.clear()
        world.plans.clear()
        world.steps.finish(last, most=3000)

        assert world.billed_usd <= limit + 1e-9
        assert not last.alive
    assert all(not worker.alive for worker in runs)


@pytest.mark.parametrize("seed", schedules(10, quick=4))
def test_a_higher_price_exceeds_it_only_by_the_requests_in_flight(seed: int) -> None:
    """Three runs have one in flight each, so at most three."""
    draw, limit, price = random.Random(seed), 1.0, 0.1
    with shop() as world:
        live_through(world, draw, limit, price)

        assert world.billed_usd <= limit + 3 * (COST - price) + 1e-9 + COST


def test_without_trouble_all_of_it_is_spent_and_each_run_reports_the_same() -> None:
    """Three runs at once, and the sum that each reports is what the service has billed."""
    with shop() as world:
        runs = [
            world.steps.start(name, lambda name=name: world.batch(name, ROWS, 1.0, COST), run=name)  # type: ignore[misc]
            for name in "abc"
        ]
        while any(worker.alive for worker in runs):
            for worker in runs:
                world.steps.step(worker)

        assert world.billed_usd == 1.0
        assert not world.violations
        assert [worker.task.result() for worker in runs] == [1.0] * 3


def test_a_release_frees_the_reservation_and_an_adoption_does_not() -> None:
    """A submission whose answer is unknown stays reserved until a person decides."""
    with shop() as world:
        world.post_faults.append("broken")

        def run(name: str, rows: tuple[str, ...]) -> float:
            worker = world.steps.start(name, lambda: world.batch(name, rows, COST, COST), run=name)
            world.steps.finish(worker)
            return float(worker.task.result())

        rows = ("scene 0", "scene 1")
        assert run("a", rows) == COST
        assert world.billed_usd == 0 and world.reached["a"] == 1
        key = world.spec("scene 0").key[:12]
        world.steps.finish(world.steps.start("person", lambda: release(world.journal(), key), role="person"))
        assert run("b", rows) == COST
        assert world.billed_usd == COST


class Counting(MemoryJournalStore):
    """A journal store that counts what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def create(self, name: str, body: bytes) -> str | None:
        self.writes += name.startswith(".budget")
        return super().create(name, body)

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        self.writes += name.startswith(".budget")
        return super().replace(name, body, tag)

    def read(self, name: str) -> Stored | None:
        return super().read(name)


async def test_waiting_reservations_are_written_together() -> None:
    """Sixty-four at once take a few writes, and those that cannot be afforded are refused among them."""
    store = Counting()
    journal = Journal(store)
    specs = [GenerationSpec(TextToVideo(prompt=row), "https://model-api.runcomfy.net") for row in map(str, range(64))]
    shared_budget = SharedBudget(Budget(10.0, 0.25), journal, "x")
    for spec in specs:
        await journal.create(spec.intent("w"))

    ends = await asyncio.gather(*(shared_budget.authorise(spec.key) for spec in specs), return_exceptions=True)

    assert Counter(map(type, ends)) == {type(None): 40, BudgetReached: 24}
    assert shared_budget.budget.committed_usd == 10.0
    assert store.writes <= 4


async def test_a_send_takes_no_longer_the_more_rows_there_are() -> None:
    """A batch may have 100,000: they are neither added up nor read again for each one that is begun and sent."""
    calls: Counter[int] = Counter()
    for rows in (10, 2000):
        shared_budget = SharedBudget(Budget(1e6, 0.25), Journal(MemoryJournalStore()), "x")
        await asyncio.gather(*(shared_budget.authorise(f"{row:024x}") for row in range(rows)))
        await asyncio.sleep(0)
        gc.collect()

        def count(_frame: object, event: str, _argument: object, rows: int = rows) -> None:
            calls[rows] += event == "call"

        sys.setprofile(count)
        shared_budget.begin("f" * 64)
        await shared_budget.authorise("f" * 64)
        sys.setprofile(None)
        assert len(shared_budget.budget.accounts) == rows + 1 and shared_budget.budget.spent_usd == 0

    assert calls[2000] < calls[10] + 100


@pytest.mark.parametrize("body", [b"", b"[]", b'{"accounts": {"a": "much"}}'])
async def test_a_note_that_cannot_be_read_stops_every_send(body: bytes) -> None:
    """With what to do about it; deleted, it is made again from the journal."""
    journal = Journal(MemoryJournalStore())
    await journal.write_note("budget-x", body)
    shared_budget = SharedBudget(Budget(1.0, 0.25), journal, "x")

    for call in (shared_budget.open(["a" * 64], {}), shared_budget.authorise("a" * 64)):
        with pytest.raises(StorageError, match=r"budget-x\.json cannot be read .* delete it"):
            await call


async def test_a_write_that_was_lost_is_not_counted() -> None:
    """What the note says counts, and not what was to be written into it."""
    store = Lossy()
    shared_budget = SharedBudget(Budget(1.0, 0.25), Journal(store, retry_seconds=0.0), "x")
    await shared_budget.authorise("a" * 64)
    store.loses = True
    with pytest.raises(StorageError):
        await shared_budget.settle("b" * 64, GenerationSpec(TextToVideo(prompt="b"), "https://a.example").intent("w"))
    store.loses = False
    await shared_budget.authorise("c" * 64)

    assert set(shared_budget.budget.accounts) == {"a" * 24, "c" * 24}
    assert shared_budget.budget.committed_usd == sum(
        each.committed_usd(0.25) for each in shared_budget.budget.accounts.values()
    )


async def test_an_ended_request_is_in_flight_until_its_cost_is_counted() -> None:
    """Or a row that waits for what is left over would be refused for good, a moment before it could be afforded."""
    spec = GenerationSpec(TextToVideo(prompt="rain"), "https://model-api.runcomfy.net")
    idle = []

    class Watched(MemoryJournalStore):
        def replace(self, name: str, body: bytes, tag: str) -> str | None:
            idle.append(shared_budget.budget.is_idle)
            return super().replace(name, body, tag)

    shared_budget = SharedBudget(Budget(1.0, 0.5), Journal(Watched()), "x")
    shared_budget.begin(spec.key)
    await shared_budget.authorise(spec.key)
    await shared_budget.settle(spec.key, spec.intent("w").moved(EntryState.REFUSED, worker="w"))

    assert idle == [False] and shared_budget.budget.is_idle and shared_budget.budget.committed_usd == 0


class Lossy(MemoryJournalStore):
    """A journal store whose writes are lost for a while."""

    loses = False

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        if self.loses:
            raise StoreUnavailable("It is down.")
        return super().replace(name, body, tag)


async def test_the_note_is_corrected_from_the_journal() -> None:
    """What a killed run left reserved is free as soon as the journal says that it was refused."""
    journal = Journal(MemoryJournalStore())
    spec = GenerationSpec(TextToVideo(prompt="rain"), "https://model-api.runcomfy.net")
    intent = await journal.create(spec.intent("w"))
    assert intent is not None
    await SharedBudget(Budget(0.25, 0.25), journal, "x").authorise(spec.key)

    later = SharedBudget(Budget(0.25, 0.25), journal, "x")
    await later.open([spec.key], {})
    with pytest.raises(BudgetReached):
        later.begin("another")
    await journal.replace(intent, intent.entry.moved(EntryState.REFUSED, worker="w"))
    await later.open([spec.key], {})
    later.begin("another")


async def test_an_intent_that_is_not_authorised_is_not_reported_as_paid() -> None:
    """A run writes its intent before it reserves money: another run that ends in between counts it as nothing."""
    journal = Journal(MemoryJournalStore())
    entries = {}
    for prompt in ("rain", "snow"):
        spec = GenerationSpec(TextToVideo(prompt=prompt), "https://model-api.runcomfy.net")
        entries[spec.key] = spec.intent("w")
        await journal.create(entries[spec.key])
    authorised, waiting = entries
    await SharedBudget(Budget(0.25, 0.25), journal, "x").authorise(authorised)

    ending = SharedBudget(Budget(0.25, 0.25), journal, "x")
    assert await ending.not_sent(entries) == {waiting}
    assert await SharedBudget(Budget(), journal, "x").not_sent(entries) == set(), "there is no limit"


def test_the_same_rows_share_a_budget_whatever_their_order() -> None:
    """It belongs to the rows, not to the name of a file."""
    assert shared_budget_name(["a", "b"]) == shared_budget_name(["b", "a"]) != shared_budget_name(["a"])
