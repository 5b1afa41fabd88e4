"""When a request that nobody waits for is polled again, and which ones are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from runcomfy.api.client import RunComfyClient
from runcomfy.api.responses import State
from runcomfy.journal import Entry, EntryState, Finding, MemoryJournalStore, reconcile_entry
from runcomfy.models import workload_of
from tests.runcomfy.journal.making import journal_at


def entry(age_seconds: float, state: str) -> Entry:
    submitted = datetime.now(UTC) - timedelta(seconds=age_seconds)
    return Entry(
        generation_key="a" * 64, state=state, model_id="m", service="https://model-api.runcomfy.net",
        inputs={"prompt": "rain"}, request_id=None if state == "intent" else "r", submitted_at=submitted,
        created_at=submitted, updated_at=submitted,
        history=({"at": submitted, "state": state, "worker": "w:1", "request_id": "r"},),
    )  # fmt: skip


def due_in(workload: str, age: timedelta, state: State) -> timedelta:
    assert (workload, state) == (workload_of("m", {"prompt": "snow"}), State.IN_PROGRESS)
    return timedelta(seconds=105) - age


async def polled(state: str, answer: dict[str, object], abandoned: bool | None) -> tuple[Finding, int]:
    calls = 0

    def handle(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(200, json=answer)

    journal = journal_at(MemoryJournalStore())
    found = await journal.create(entry(60, state))
    assert found is not None
    client = RunComfyClient("token-of-tests", transport=httpx.MockTransport(handle))
    finding = await reconcile_entry(
        client, journal, found, abandoned_after=timedelta(minutes=15), abandoned=abandoned, due_in=due_in
    )
    return finding, calls


@pytest.mark.parametrize(("abandoned", "calls"), [(True, 1), (False, 0), (None, 0)])
async def test_only_requests_of_ended_runs_are_polled_so_soon(abandoned: bool | None, calls: int) -> None:
    """Then its due time counts; otherwise the 15 minutes."""
    finding, asked = await polled("submitted", {"request_id": "r", "status": "in_progress"}, abandoned)

    assert asked == calls and finding.entry.state is EntryState.SUBMITTED
    assert (finding.due is not None) == (calls == 1)
    assert finding.due is None or timedelta(seconds=30) < finding.due - datetime.now(UTC) < timedelta(seconds=60)


@pytest.mark.parametrize("abandoned", [True, False, None])
async def test_an_intent_keeps_its_lease_whatever_is_known_of_its_run(abandoned: bool | None) -> None:
    """Its process may be sending at this moment; it is due when the lease ends."""
    finding, asked = await polled("intent", {}, abandoned)

    assert (asked, finding.entry.state) == (0, EntryState.INTENT)
    assert (finding.due is not None) is (abandoned is True)
    assert finding.due is None or finding.due > datetime.now(UTC) + timedelta(seconds=170)
