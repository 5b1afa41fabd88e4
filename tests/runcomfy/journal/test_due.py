"""When a request that nobody waits for is looked at again, and which ones are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from runcomfy.client import RunComfyClient
from runcomfy.journal import Entry, EntryState, Finding, MemoryPlace, look_after
from runcomfy.journal.due import due_at
from runcomfy.models import workload_of
from runcomfy.polling.forecast import RunTimes
from runcomfy.wire import State
from tests.runcomfy.journal.making import journal_at

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry(age_seconds: float = 0.0, state: str = "submitted", at: datetime = NOW) -> Entry:
    submitted = at - timedelta(seconds=age_seconds)
    return Entry(
        generation_key="a" * 64, state=state, model_id="m", service="https://model-api.runcomfy.net",
        inputs={"prompt": "rain"}, request_id=None if state == "intent" else "r", submitted_at=submitted,
        created_at=submitted, updated_at=submitted,
        history=({"at": submitted, "state": state, "worker": "w:1", "request_id": "r"},),
    )  # fmt: skip


def known(seconds: float) -> RunTimes:
    run_times = RunTimes()
    for _ in range(20):
        run_times.saw(workload_of("m", {"prompt": "snow"}), seconds)
    return run_times


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
    """One that takes longer is looked at again after a quarter of its age."""
    wait = (due_at(entry(age), state, known(100), NOW) - NOW).total_seconds()

    assert least <= wait <= most


@pytest.mark.parametrize("state", [State.IN_PROGRESS, State.IN_QUEUE])
@pytest.mark.parametrize("seconds", [5, 100, 900])
def test_one_that_never_ends_is_looked_at_some_dozens_of_times_in_a_day(state: State, seconds: float) -> None:
    """After that it is a person's; looks each few seconds would keep `reconcile` at work for nothing."""
    age, looks = 0.0, 0
    while age < 86400:
        age += max(20, (due_at(entry(age), state, known(seconds), NOW) - NOW).total_seconds())
        looks += 1

    assert looks < 50


def test_of_which_nothing_is_known_is_looked_at_when_it_is_half_as_old_again() -> None:
    """Up to a day; and one whose clock was ahead, at once."""
    waits = [
        (due_at(entry(age), State.IN_PROGRESS, RunTimes(), NOW) - NOW).total_seconds() for age in (0, 60, 600, 1e9, -50)
    ]

    assert waits == [0, 30, 300, 86400, 0]


async def looked_at(state: str, answer: dict[str, object], abandoned: bool | None) -> tuple[Finding, int]:
    calls = 0

    def handle(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(200, json=answer)

    journal = journal_at(MemoryPlace())
    found = await journal.create(entry(60, state, datetime.now(UTC)))
    assert found is not None
    client = RunComfyClient("token-of-tests", transport=httpx.MockTransport(handle))
    finding = await look_after(
        client, journal, found, abandoned_after=timedelta(minutes=15), abandoned=abandoned, run_times=known(100)
    )
    return finding, calls


@pytest.mark.parametrize(("abandoned", "calls"), [(True, 1), (False, 0), (None, 0)])
async def test_only_what_a_run_left_that_ended_is_looked_at_so_soon(abandoned: bool | None, calls: int) -> None:
    """Then it is said when it is due; else the 15 minutes count."""
    finding, asked = await looked_at("submitted", {"request_id": "r", "status": "in_progress"}, abandoned)

    assert asked == calls and finding.entry.state is EntryState.SUBMITTED
    assert (finding.due is not None) == (calls == 1)
    assert finding.due is None or timedelta(seconds=30) < finding.due - datetime.now(UTC) < timedelta(seconds=60)


@pytest.mark.parametrize("abandoned", [True, False, None])
async def test_an_intent_keeps_its_lease_whatever_is_known_of_its_run(abandoned: bool | None) -> None:
    """Its process may be sending at this moment; it is due when the lease ends."""
    finding, asked = await looked_at("intent", {}, abandoned)

    assert (asked, finding.entry.state) == (0, EntryState.INTENT)
    assert (finding.due is not None) is (abandoned is True)
    assert finding.due is None or finding.due > datetime.now(UTC) + timedelta(seconds=170)
