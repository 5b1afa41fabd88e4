"""How the journal handles answers that are odd, late, or from a machine whose clock is wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from blocks import MediaStore
from runcomfy.api.client import LINE_SECONDS, PAID_CALL_SECONDS, RunComfyClient
from runcomfy.api.requests import collect, token_is_refused
from runcomfy.errors import (
    BudgetReached,
    NoOutput,
    RateLimited,
    RequestNotFound,
    RunComfyError,
    StillRateLimited,
)
from runcomfy.journal import (
    Entry,
    EntryState,
    Journal,
    MemoryJournalStore,
    reconcile_entry,
    record_outcome,
    submission_of,
)
from runcomfy.journal.journal import LEASE_SECONDS
from runcomfy.values import Submission
from tests.runcomfy.journal.making import Later, instantly, journal_at, spec_for, submit_for

_S = EntryState
SPEC = spec_for("https://model-api.runcomfy.net")
LIMITED = httpx.Response(429, json={"error_code": 429000, "error_message": "no"})
UNKNOWN = httpx.Response(404, json={"error_code": 404001, "error_message": "unknown"})


class Service:
    """Answers every call with the same, and counts the submissions."""

    def __init__(self, answer: httpx.Response | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answer, self.submissions = answer, 0

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.submissions += request.url.path.startswith("/v1/models/")
        return self.answer if isinstance(self.answer, httpx.Response) else self.answer(request)

    def client(self) -> RunComfyClient:
        return RunComfyClient("token-of-tests", transport=httpx.MockTransport(self.handle))


def accepted() -> httpx.Response:
    return httpx.Response(200, json={"request_id": "r1"})


async def entry_of(journal: Journal) -> Entry:
    found = await journal.read(SPEC.key)
    assert found is not None
    return found.entry


async def test_a_429_is_answered_with_a_bounded_number_of_submissions_over_all_runs() -> None:
    """Each may have been accepted: six within a day, over all runs; then the error says where to look."""
    service, journal_store = Service(LIMITED), MemoryJournalStore()
    for _ in range(4):
        with pytest.raises(RateLimited):
            await submit_for(service.client(), journal_at(journal_store, sleep=instantly), SPEC)

    assert service.submissions == 6
    with pytest.raises(StillRateLimited, match="dashboard") as caught:
        await submit_for(service.client(), journal_at(journal_store, sleep=instantly), SPEC)
    assert service.submissions == 6 and not caught.value.retryable
    assert (await entry_of(journal_at(journal_store))).state is _S.REFUSED


async def test_after_a_day_a_429_is_forgotten() -> None:
    """It is a limit, and not an end."""
    service, journal = Service(LIMITED), journal_at(MemoryJournalStore(), sleep=instantly)
    for _ in range(2):
        with pytest.raises(RateLimited):
            await submit_for(service.client(), journal, SPEC)
    found = await journal.read(SPEC.key)
    assert found is not None
    long_ago = [event.model_copy(update={"at": event.at - timedelta(days=1)}) for event in found.entry.history]
    await journal.replace(found, found.entry.model_copy(update={"history": tuple(long_ago)}))

    service.answer = accepted()
    assert (await submit_for(service.client(), journal, SPEC)).request_id == "r1"


async def test_each_send_is_authorised_and_a_refusal_there_is_recorded() -> None:
    """The money of a send that was answered with 429 is not free for the next one."""
    service, journal = Service(LIMITED), journal_at(MemoryJournalStore(), sleep=instantly)
    calls = 0

    async def authorise() -> None:
        nonlocal calls
        calls += 1
        assert service.submissions == calls - 1
        if calls == 3:
            raise BudgetReached("no more")

    with pytest.raises(BudgetReached):
        await submit_for(service.client(), journal, SPEC, authorise=authorise)
    assert service.submissions == 2
    entry = await entry_of(journal)
    assert (entry.state, entry.reason) == (_S.REFUSED, "no more")


def test_the_lease_outlives_the_paid_call() -> None:
    """Otherwise a living worker's submission counts as lost, and a person is asked to check for nothing."""
    assert PAID_CALL_SECONDS + LINE_SECONDS + LEASE_SECONDS / 12 < LEASE_SECONDS
    assert MediaStore.model_fields["journal_patience_seconds"].default == LEASE_SECONDS
    assert Entry.model_fields["patience_seconds"].default == LEASE_SECONDS
    assert SPEC.intent("w").patience_seconds == LEASE_SECONDS


async def test_a_shorter_lease_makes_the_paid_call_shorter() -> None:
    """With a lease of a minute, the answer comes within it, the wait for a connection included, or is unknown."""
    timeouts: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"])
        return accepted()

    service = Service(answer)
    await submit_for(service.client(), journal_at(MemoryJournalStore(), lease_seconds=60.0), SPEC)
    await submit_for(service.client(), journal_at(MemoryJournalStore()), SPEC)

    assert [(timeout["read"], timeout["connect"]) for timeout in timeouts] == [(40.0, 10.0), (120.0, 10.0)]


async def _submitted(journal_store: MemoryJournalStore, **changes: Any) -> Submission:
    submission = await submit_for(Service(accepted()).client(), journal_at(journal_store), SPEC)
    if changes:
        journal = journal_at(journal_store)
        found = await journal.read(SPEC.key)
        assert found is not None
        await journal.replace(found, found.entry.model_copy(update=changes))
    return submission


@pytest.mark.parametrize("hours", [-30, -3, -0.5, 0.5, 3, 30])
async def test_when_it_was_submitted_is_by_the_clock_of_the_store(hours: float) -> None:
    """The machine that submitted it 200 seconds ago had a wrong clock, also when it recorded that."""
    journal_store, wrong = MemoryJournalStore(), timedelta(hours=hours)
    await _submitted(journal_store)
    journal = journal_at(journal_store)
    found = await journal.read(SPEC.key)
    assert found is not None and found.entry.submitted_at is not None
    moved = {"submitted_at": found.entry.submitted_at + wrong, "updated_at": found.entry.updated_at + wrong}
    await journal.replace(found, found.entry.model_copy(update=moved))

    again = await submit_for(Service(accepted()).client(), journal_at(Later(journal_store, 200.0)), SPEC)

    assert again.request_id == "r1"
    assert (datetime.now(UTC) - again.submitted_at).total_seconds() == pytest.approx(200, abs=5)


async def test_right_clocks_leave_the_time_of_submission_as_it_is() -> None:
    """What the provenance says is what was recorded."""
    journal_store = MemoryJournalStore()
    first = await _submitted(journal_store)

    again = await submit_for(Service(accepted()).client(), journal_at(journal_store), SPEC)
    assert again.submitted_at == first.submitted_at
    assert submission_of(await entry_of(journal_at(journal_store))).submitted_at == first.submitted_at


async def test_a_request_that_is_unknown_in_its_first_minute_is_not_expired() -> None:
    """It is detached, and polled again; after that the service is trusted, and the entry is expired."""
    journal_store, service = MemoryJournalStore(), Service(UNKNOWN)
    await _submitted(journal_store)
    with pytest.raises(RequestNotFound):
        async with record_outcome(journal_at(journal_store), SPEC.key, "r1"):
            await collect(service.client(), "r1")
    assert (await entry_of(journal_at(journal_store))).state is _S.DETACHED

    for journal, state in ((journal_at(journal_store), _S.DETACHED), (journal_at(Later(journal_store)), _S.EXPIRED)):
        found = await journal.read(SPEC.key)
        assert found is not None
        await reconcile_entry(service.client(), journal, found, abandoned_after=timedelta(minutes=10))
        assert (await entry_of(journal_at(journal_store))).state is state


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_proxy_moves_nothing_in_the_journal(status: int) -> None:
    """It is no reason to release what was paid for."""
    journal_store, service = MemoryJournalStore(), Service(httpx.Response(status, text="<html>no</html>"))
    await _submitted(journal_store)
    journal = journal_at(Later(journal_store, 1e6))
    found = await journal.read(SPEC.key)
    assert found is not None
    finding = await reconcile_entry(service.client(), journal, found, abandoned_after=timedelta(minutes=10))

    assert (finding.entry.state, finding.stuck) == (_S.SUBMITTED, False)
    with pytest.raises(RunComfyError) as caught:
        async with record_outcome(journal, SPEC.key, "r1"):
            await collect(service.client(), "r1")
    assert "journal release" not in str(caught.value)
    assert (await entry_of(journal_at(journal_store))).state is _S.SUBMITTED


async def test_an_output_without_a_file_is_recorded_in_the_journal() -> None:
    """A person sees what the service gave for the money, without its secrets."""
    journal_store = MemoryJournalStore()
    await _submitted(journal_store)
    output = {"video": None, "log": "s3://x/y?token=deadbeef01", "note": "lost at noon"}
    service = Service(httpx.Response(200, json={"status": "succeeded", "output": output}))
    with pytest.raises(NoOutput):
        async with record_outcome(journal_at(journal_store), SPEC.key, "r1"):
            await collect(service.client(), "r1", sleep=instantly)

    entry = await entry_of(journal_at(journal_store))
    assert entry.state is _S.DETACHED and "lost at noon" in str(entry.reason)
    assert "deadbeef01" not in entry.model_dump_json()


@pytest.mark.parametrize(
    ("status", "balance", "refused"),
    [
        (httpx.Response(401, json={"error_code": 400004}), None, True),
        (httpx.Response(200, json={"error_code": 400004}), None, True),
        (UNKNOWN, None, False),
        (httpx.Response(401, json={"message": "Unauthorized"}), httpx.Response(401, text="no"), True),
        (httpx.Response(403, text="<html>"), httpx.Response(200, json={"balance_usd": 3}), False),
        (httpx.Response(503), httpx.Response(503), False),
        (httpx.Response(503), httpx.Response(402, text="<html>"), False),
    ],
)
async def test_a_refused_token_is_confirmed_by_a_second_call(
    status: httpx.Response, balance: httpx.Response | None, refused: bool
) -> None:
    """One refusal may be a proxy's, or about one model: it stops no batch."""

    def answer(request: httpx.Request) -> httpx.Response:
        said = balance if request.url.path.endswith("/balance") else status
        assert said is not None
        return said

    service = Service(answer)
    assert await token_is_refused(service.client()) is refused
    assert service.submissions == 0
