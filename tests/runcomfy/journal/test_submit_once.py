"""Submitting once: every state that a generation may be found in, over the wire, with a real bucket for a journal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from runcomfy.api.client import RunComfyClient
from runcomfy.errors import (
    ConfigurationError,
    GenerationCancelled,
    GenerationErased,
    GenerationFailed,
    InsufficientBalance,
    InvalidInput,
    RequestNotFound,
    RunComfyError,
    StoreUnavailable,
    UncertainSubmission,
)
from runcomfy.journal import (
    RESTARTABLE,
    BucketJournalStore,
    Entry,
    EntryState,
    GenerationSpec,
    Journal,
    MemoryJournalStore,
    adopt,
    known_spec,
    record_archived,
    release,
)
from runcomfy.models import TextToVideo, earlier_key
from runcomfy.sandbox import Sandbox
from runcomfy.storage.store import Store
from runcomfy.values import Archive, ArchivedVideo, MediaFacts, Result, Submission
from tests.runcomfy.journal.making import FailingStore, Later, instantly, journal_at, spec_for, submit_for
from tests.runcomfy.journal.world import START

_S = EntryState


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[RunComfyClient]:
    async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
        yield client


@pytest.fixture
def journal(store: Store) -> Journal:
    return journal_at(BucketJournalStore(store), retry_seconds=10.0)


@pytest.fixture
def spec(sandbox: Sandbox) -> GenerationSpec:
    return spec_for(sandbox.url, run="run-1")


def another_run(spec: GenerationSpec, run: str = "run-2") -> GenerationSpec:
    return GenerationSpec(spec.inputs, spec.service, run=run)


def archive_of(request_id: str) -> Archive:
    result = Result(
        request_id=request_id, output_count=1, noticed_at=START, queued_seconds=None, running_seconds=None, polls=0
    )
    video = ArchivedVideo(
        bucket="videos", key="a.mp4", provenance_key="a.mp4.json", sha256="a" * 64, size_bytes=1, index=0,
        content_type="video/mp4", request_id=request_id, media=MediaFacts(container="mp4"), already_archived=False,
    )  # fmt: skip
    return Archive(result=result, videos=(video,))


async def entry_of(journal: Journal, spec: GenerationSpec) -> Entry:
    found = await journal.read(spec.key)
    assert found is not None
    return found.entry


async def put(journal: Journal, spec: GenerationSpec, state: EntryState, **changes: Any) -> Entry:
    """Write an entry that another worker has left."""
    current = await journal.create(spec.intent("other-host:1"))
    assert current is not None
    if state is _S.INTENT:
        return current.entry
    moved = await journal.replace(current, current.entry.moved(state, worker="other-host:1", **changes))
    assert moved is not None
    return moved.entry


def old(journal: Journal) -> Journal:
    """The same journal, read when every intent is old."""
    return journal_at(Later(journal.store))


# ---- the state that is found


async def test_the_intent_is_written_before_the_call_and_the_request_after_it(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """The history has both in order, and the service was called once."""
    submission = await submit_for(client, journal, spec)

    entry = await entry_of(journal, spec)
    assert [event.state for event in entry.history] == [_S.INTENT, _S.SUBMITTED]
    assert (entry.state, entry.request_id, entry.attempt) == (_S.SUBMITTED, submission.request_id, 1)
    assert entry.submitted_at == submission.submitted_at
    assert sandbox.books().submissions_received == 1


async def test_an_archived_generation_is_returned_without_a_call(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """The archive comes from the journal; the service is not called."""
    submission = await submit_for(client, journal, spec)
    archive = archive_of(submission.request_id)
    await record_archived(journal, spec.key, submission.request_id, archive)
    before = sandbox.books()

    again = await submit_for(client, journal, another_run(spec))

    assert (again.request_id, again.archive) == (submission.request_id, archive)
    assert sandbox.books() == before


async def test_an_archive_that_is_gone_is_collected_again(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """Its request is polled again, and not paid for again."""
    submission = await submit_for(client, journal, spec)
    await record_archived(journal, spec.key, submission.request_id, archive_of(submission.request_id))

    async def gone(archive: Archive) -> bool:
        return False

    again = await submit_for(client, journal, another_run(spec), intact=gone)

    assert (again.request_id, again.archive) == (submission.request_id, None)
    assert (await entry_of(journal, spec)).state is _S.DETACHED
    assert sandbox.books().submissions_received == 1


@pytest.mark.parametrize("state", [_S.SUBMITTED, _S.DETACHED])
async def test_a_submitted_request_is_polled(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, state: EntryState
) -> None:
    """The same request, by whatever run, and no call to the service."""
    submission = await submit_for(client, journal, spec)
    if state is _S.DETACHED:
        await journal.advance(spec.key, submission.request_id, state)

    again = await submit_for(client, journal, another_run(spec))

    assert (again.request_id, again.submitted_at) == (submission.request_id, submission.submitted_at)
    assert sandbox.books().submissions_received == 1


async def test_an_intent_is_waited_for_during_its_lease(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """The second worker gets the first one's request."""
    await put(journal, spec, _S.INTENT)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            current = await journal.read(spec.key)
            assert current is not None
            moved = current.entry.moved(_S.SUBMITTED, worker="other-host:1", request_id="r-other")
            assert await journal.replace(current, moved)

    waiting = journal_at(journal.store, sleep=sleep)
    assert (await submit_for(client, waiting, another_run(spec))).request_id == "r-other"
    assert len(slept) == 3 and all(0 < seconds <= 2 for seconds in slept)
    assert sandbox.books().submissions_received == 0


@pytest.mark.parametrize("ended", [_S.REFUSED, _S.RELEASED])
async def test_an_intent_that_fails_during_its_lease_is_taken_over(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, ended: EntryState
) -> None:
    """The worker that waited for it submits, as the next attempt."""
    await put(journal, spec, _S.INTENT)

    async def sleep(seconds: float) -> None:
        current = await journal.read(spec.key)
        assert current is not None
        assert await journal.replace(current, current.entry.moved(ended, worker="other-host:1"))

    submission = await submit_for(client, journal_at(journal.store, sleep=sleep), another_run(spec))

    entry = await entry_of(journal, spec)
    assert (entry.attempt, entry.request_id, entry.run) == (2, submission.request_id, "run-2")
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.parametrize(("ended", "error"), [(_S.FAILED, GenerationFailed), (_S.CANCELLED, GenerationCancelled)])
async def test_the_failure_of_an_attempt_that_was_waited_for_is_shared(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, ended: EntryState,
    error: type[RunComfyError],
) -> None:  # fmt: skip
    """Of twenty that wait for one, not nineteen pay after it has failed."""
    await put(journal, spec, _S.INTENT)

    async def sleep(seconds: float) -> None:
        current = await journal.read(spec.key)
        assert current is not None
        submitted = current.entry.moved(_S.SUBMITTED, worker="other-host:1", request_id="r1")
        assert await journal.replace(current, submitted.moved(ended, worker="other-host:1", reason="bad luck"))

    with pytest.raises(error, match="bad luck") as caught:
        await submit_for(client, journal_at(journal.store, sleep=sleep), another_run(spec))
    assert caught.value.request_id == "r1"
    assert sandbox.books().submissions_received == 0


async def test_a_stale_intent_is_uncertain(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """When its worker died is unknown: a person decides, and no run pays, also the next time."""
    await put(journal, spec, _S.INTENT)

    for _ in range(2):
        with pytest.raises(UncertainSubmission, match=r"other-host:1 did not say.*adopt.*release") as caught:
            await submit_for(client, old(journal), another_run(spec))
    assert (caught.value.generation_key, caught.value.model_id) == (spec.key, spec.inputs.model_id)
    assert (await entry_of(journal, spec)).state is _S.UNCERTAIN
    assert sandbox.books().submissions_received == 0


async def test_an_uncertain_request_that_the_service_knows_is_polled(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """An answer that named a request beside an error left its id; one call shows that it exists."""
    other = await submit_for(client, journal_at(MemoryJournalStore()), spec)
    await put(journal, spec, _S.UNCERTAIN, request_id=other.request_id)

    assert (await submit_for(client, journal, another_run(spec))).request_id == other.request_id
    assert (await entry_of(journal, spec)).state is _S.SUBMITTED
    assert sandbox.books().submissions_received == 1


@pytest.mark.parametrize("state", [_S.UNCERTAIN, _S.EXPIRED])
async def test_a_request_that_the_service_does_not_know_is_for_a_person(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, state: EntryState
) -> None:
    """Uncertain stays uncertain, expired is not found; neither is paid for again."""
    await put(journal, spec, state, request_id="r-unknown")

    with pytest.raises(UncertainSubmission if state is _S.UNCERTAIN else RequestNotFound, match="release") as caught:
        await submit_for(client, journal, another_run(spec))
    assert caught.value.request_id == "r-unknown"
    assert (await entry_of(journal, spec)).state is state
    assert sandbox.books().submissions_received == 0


async def test_an_expired_request_that_is_known_after_all_is_polled(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """A 404 may be a moment's mistake."""
    submission = await submit_for(client, journal, spec)
    await journal.advance(spec.key, submission.request_id, _S.EXPIRED)

    assert (await submit_for(client, journal, another_run(spec))).request_id == submission.request_id
    assert sandbox.books().submissions_received == 1


async def test_an_outage_does_not_mean_that_a_request_is_unknown(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """If the service cannot be asked, the entry stays as it is, and the error may be retried."""
    await put(journal, spec, _S.UNCERTAIN, request_id="r1")
    sandbox.inject("http_503", endpoint="status")

    with pytest.raises(RunComfyError) as caught:
        await submit_for(client, journal, another_run(spec))
    assert caught.value.retryable
    assert (await entry_of(journal, spec)).state is _S.UNCERTAIN


async def test_pay_again_pays_again(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """`pay_again` begins another attempt after an uncertain one; a retry of that run does not begin a third."""
    await put(journal, spec, _S.UNCERTAIN)

    submission = await submit_for(client, journal, another_run(spec), on_uncertain="pay_again")

    entry = await entry_of(journal, spec)
    assert (entry.attempt, entry.state) == (2, _S.SUBMITTED)
    assert entry.request_ids == [submission.request_id]
    assert sandbox.books().submissions_accepted == 1


async def test_a_run_that_pays_again_does_so_once(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """Answer after answer is lost: two are paid for by one run, however often it is retried."""
    sandbox.inject("lost_answer", endpoint="submit", times=9)

    for _ in range(4):
        with pytest.raises(UncertainSubmission):
            await submit_for(client, journal, spec, on_uncertain="pay_again")
    assert sandbox.books().submissions_accepted == 2


async def test_pay_again_does_not_pay_for_a_request_that_the_service_knows(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """Asking costs nothing: an uncertain request that exists is polled, whatever was allowed."""
    other = await submit_for(client, journal_at(MemoryJournalStore()), spec)
    await put(journal, spec, _S.UNCERTAIN, request_id=other.request_id)

    again = await submit_for(client, journal, another_run(spec), on_uncertain="pay_again")
    assert again.request_id == other.request_id
    assert sandbox.books().submissions_received == 1


@pytest.mark.parametrize("state", [_S.SUBMITTED, _S.DETACHED, _S.ARCHIVED])
async def test_paying_again_is_only_for_uncertain_submissions(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, state: EntryState
) -> None:
    """A known request is polled all the same."""
    await put(journal, spec, state, request_id="r1", archive=archive_of("r1"))

    assert (await submit_for(client, journal, another_run(spec), on_uncertain="pay_again")).request_id == "r1"
    assert sandbox.books().submissions_received == 0


async def test_an_intent_is_not_paid_for_again_during_its_lease(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """`pay_again` waits for a worker that is submitting, too."""
    await put(journal, spec, _S.INTENT)

    async def sleep(seconds: float) -> None:
        raise InterruptedError("it waits")

    with pytest.raises(InterruptedError):
        await submit_for(
            client, journal_at(journal.store, sleep=sleep), another_run(spec), on_uncertain="pay_again"
        )  # fmt: skip
    assert sandbox.books().submissions_received == 0


# ---- another attempt


@pytest.mark.parametrize("state", sorted(RESTARTABLE))
async def test_a_generation_that_ended_without_a_video_is_submitted_again_by_another_run(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, state: EntryState
) -> None:
    """As the next attempt, whose entry keeps the history."""
    await put(journal, spec, state, request_id="r-old")

    submission = await submit_for(client, journal, another_run(spec))

    entry = await entry_of(journal, spec)
    assert (entry.attempt, entry.state, entry.run) == (2, _S.SUBMITTED, "run-2")
    assert entry.request_ids == ["r-old", submission.request_id]
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.parametrize(("state", "error"), [(_S.FAILED, GenerationFailed), (_S.CANCELLED, GenerationCancelled)])
async def test_a_run_that_has_had_its_attempt_does_not_pay_again(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, state: EntryState,
    error: type[RunComfyError],
) -> None:  # fmt: skip
    """A retry of the same run gets the same failure."""
    await put(journal, spec, state, request_id="r1", reason="bad luck")

    with pytest.raises(error, match="bad luck") as caught:
        await submit_for(client, journal, spec)
    assert caught.value.request_id == "r1"
    assert sandbox.books().submissions_received == 0


async def test_a_run_that_has_had_its_attempt_does_not_pay_again_after_another_runs_attempt(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """Two runs that are retried do not pay in turns."""
    for run in ("run-1", "run-2"):
        submission = await submit_for(client, journal, another_run(spec, run))
        await journal.advance(spec.key, submission.request_id, _S.FAILED)

    with pytest.raises(GenerationFailed):
        await submit_for(client, journal, spec)
    assert sandbox.books().submissions_accepted == 2


async def test_a_run_that_has_had_its_attempt_does_not_pay_again_after_another_run_was_refused(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """The other's attempt was refused; this run's own has failed all the same."""
    submission = await submit_for(client, journal, spec)
    await journal.advance(spec.key, submission.request_id, _S.FAILED)
    sandbox.inject("error_400002", endpoint="submit")
    with pytest.raises(InsufficientBalance):
        await submit_for(client, journal, another_run(spec))

    with pytest.raises(GenerationFailed):
        await submit_for(client, journal, spec)
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.parametrize("state", [_S.REFUSED, _S.RELEASED])
async def test_a_run_that_was_refused_may_try_again(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, state: EntryState
) -> None:
    """Nothing was paid for, or a person has allowed it: the very same run submits."""
    await put(journal, spec, state)

    await submit_for(client, journal, spec)
    assert sandbox.books().submissions_accepted == 1


async def test_runs_without_a_name_are_not_the_same_run(
    client: RunComfyClient, journal: Journal, sandbox: Sandbox
) -> None:
    """Outside of Prefect there is no run; each call is one."""
    nameless = spec_for(sandbox.url)
    await put(journal, nameless, _S.FAILED, request_id="r1")

    await submit_for(client, journal, nameless)
    assert sandbox.books().submissions_accepted == 1


async def test_a_refusal_is_recorded_and_the_next_try_submits(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """No balance now is no reason to ask a person later."""
    sandbox.inject("error_400002", endpoint="submit")
    with pytest.raises(InsufficientBalance):
        await submit_for(client, journal, spec)
    assert (await entry_of(journal, spec)).state is _S.REFUSED

    await submit_for(client, journal, spec)
    assert (await entry_of(journal, spec)).attempt == 2
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.parametrize("fault", ["lost_answer", "no_request_id"])
async def test_a_lost_answer_is_uncertain_until_a_person_adopts_it(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, fault: str
) -> None:
    """Paid once: the error, and the same error the next time, then the adopted request."""
    sandbox.inject(fault, endpoint="submit")
    for number in range(2):
        with pytest.raises(UncertainSubmission, match="may be running and billed") as caught:
            await submit_for(client, journal, another_run(spec, f"run-{number}"))
        adopt_it = f"journal adopt {spec.key[:12]} REQUEST_ID --bucket {journal.store.where.removesuffix('/journal')}`"
        assert adopt_it in caught.value.message
    (paid,) = sandbox.books().requests

    adopted = await adopt(client, journal, spec.key[:12], paid.id)

    assert (adopted.state, adopted.request_id) == (_S.SUBMITTED, paid.id)
    assert (await submit_for(client, journal, spec)).request_id == paid.id
    assert sandbox.books().submissions_accepted == 1


# ---- another service


@pytest.mark.parametrize("state", [_S.SUBMITTED, _S.DETACHED, _S.ARCHIVED, _S.INTENT, _S.EXPIRED])
async def test_an_entry_of_another_service_is_not_ours(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox, state: EntryState
) -> None:
    """A sandbox's video is not the real one: a setting is wrong, and nothing is submitted."""
    real = GenerationSpec(spec.inputs, "https://model-api.runcomfy.net", run="run-1")
    await put(journal, real, state, request_id="r1", archive=archive_of("r1"))

    with pytest.raises(ConfigurationError, match="prefix of its own"):
        await submit_for(client, journal, another_run(spec))
    assert sandbox.books().submissions_received == 0


def test_the_same_service_by_another_name_is_the_same() -> None:
    """A gateway before the real service does not make two generations of one; two sandboxes are two."""
    real = spec_for("https://model-api.runcomfy.net")
    assert real.is_for("https://gateway.example.com")
    assert not real.is_for("http://127.0.0.1:1")
    assert not spec_for("http://127.0.0.1:1").is_for("http://127.0.0.1:2")


# ---- the journal fails


@pytest.mark.parametrize("call", ["read", "check", "create"])
async def test_without_a_journal_nothing_is_submitted(
    client: RunComfyClient, spec: GenerationSpec, sandbox: Sandbox, call: str
) -> None:
    """Whatever fails before the paid call fails for free."""
    journal_store = FailingStore()
    journal_store.failures[call] = -1

    with pytest.raises(StoreUnavailable) as caught:
        await submit_for(client, journal_at(journal_store), spec)
    assert caught.value.request_id is None
    assert sandbox.books().submissions_received == 0


async def test_inputs_that_cannot_be_prepared_leave_no_intent(
    client: RunComfyClient, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """What may fail fails before the first write."""
    journal_store = FailingStore()

    async def prepare() -> TextToVideo:
        raise InvalidInput("no image")

    with pytest.raises(InvalidInput):
        await submit_for(client, journal_at(journal_store), spec, prepare=prepare)
    assert list(journal_store.names()) == []
    assert sandbox.books().submissions_received == 0


async def test_the_journal_is_tried_again_for_a_while(
    client: RunComfyClient, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """A few failures of each call are not noticed."""
    journal_store = FailingStore()
    journal_store.failures = {"read": 3, "check": 3, "create": 3, "replace": 6}
    journal = journal_at(journal_store, retry_seconds=60, record_seconds=60, sleep=instantly)

    submission = await submit_for(client, journal, spec)

    assert (await entry_of(journal, spec)).request_id == submission.request_id
    assert sandbox.books().submissions_received == 1


async def test_an_id_that_cannot_be_recorded_is_in_the_error(
    client: RunComfyClient, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """Tried hard, for longer than anything else; then the error says which request, and what to do with it."""
    journal_store = FailingStore()
    journal_store.where = "s3://videos/clips/journal"
    journal_store.failures["replace"] = -1
    journal = journal_at(journal_store, record_seconds=0.3, sleep=instantly)

    with pytest.raises(StoreUnavailable) as caught:
        await submit_for(client, journal, spec)

    (paid,) = sandbox.books().requests
    assert caught.value.facts["request_id"] == paid.id
    assert caught.value.generation_key == spec.key
    assert f"`prefect-runcomfy journal adopt {spec.key[:12]} {paid.id} --bucket s3://videos/clips`" in str(caught.value)
    assert journal_store.calls.count("replace") > 10
    assert (await entry_of(journal, spec)).state is _S.INTENT

    journal_store.failures.clear()
    journal_store.older_by_seconds = 200
    with pytest.raises(UncertainSubmission):
        await submit_for(client, journal, another_run(spec))
    await adopt(client, journal, spec.key, paid.id)
    assert (await submit_for(client, journal, another_run(spec))).request_id == paid.id
    assert sandbox.books().submissions_accepted == 1


async def test_the_probe_of_an_unfit_store_comes_before_the_paid_call(
    client: RunComfyClient, store: Store, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """A bucket without conditional writes is refused in time."""

    def drop(params: dict[str, Any], **_: Any) -> None:
        params["headers"].pop("If-None-Match", None)

    store.client.meta.events.register("before-call.s3.PutObject", drop)

    with pytest.raises(ConfigurationError, match="Nothing was submitted"):
        await submit_for(client, journal_at(BucketJournalStore(store)), spec)
    assert sandbox.books().submissions_received == 0


# ---- interruptions


class SlowService:
    """Accepts a submission, and answers when `answer` is set."""

    def __init__(self) -> None:
        self.sent, self.answer = asyncio.Event(), asyncio.Event()
        self.outcome: Callable[[], httpx.Response] = lambda: httpx.Response(200, json={"request_id": "r1"})
        self.submissions = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.submissions += 1
        self.sent.set()
        await self.answer.wait()
        return self.outcome()

    def client(self) -> RunComfyClient:
        return RunComfyClient("token-of-tests", transport=httpx.MockTransport(self.handle))


async def test_cancelled_while_the_answer_is_on_its_way_the_request_is_recorded() -> None:
    """It is handed over, the journal knows it, and the cancellation goes on."""
    service, journal, spec = SlowService(), journal_at(MemoryJournalStore()), spec_for("https://model-api.runcomfy.net")
    handed_over: list[Submission] = []

    async def take(submission: Submission) -> None:
        assert (await entry_of(journal, spec)).request_id == submission.request_id
        handed_over.append(submission)

    run = asyncio.ensure_future(submit_for(service.client(), journal, spec, on_interrupt=take))
    await service.sent.wait()
    for _ in range(3):
        run.cancel()
        await asyncio.sleep(0)
    service.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert [submission.request_id for submission in handed_over] == ["r1"]
    entry = await entry_of(journal, spec)
    assert (entry.state, entry.request_id) == (_S.SUBMITTED, "r1")
    assert (await submit_for(service.client(), journal, spec)).request_id == "r1"
    assert service.submissions == 1


async def test_cancelled_while_the_request_is_being_recorded_it_is_recorded() -> None:
    """The write that the store does not take at first goes on."""
    service, journal_store = SlowService(), FailingStore()
    journal_store.failures["replace"] = 3
    writing = asyncio.Event()

    async def sleep(seconds: float) -> None:
        writing.set()
        await asyncio.sleep(0.01)

    journal, spec = (
        journal_at(journal_store, record_seconds=60, sleep=sleep),
        spec_for("https://model-api.runcomfy.net"),
    )
    service.answer.set()
    run = asyncio.ensure_future(submit_for(service.client(), journal, spec))
    await writing.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (await entry_of(journal, spec)).request_id == "r1"


async def test_cancelled_before_anything_was_sent_is_refused_and_not_uncertain() -> None:
    """While it waits for another try, nothing is accepted: the next run submits, and nobody is asked."""
    service = SlowService()
    service.answer.set()
    service.outcome = lambda: httpx.Response(429, json={"error_code": 499999, "error_message": "no"})
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    journal, spec = journal_at(MemoryJournalStore(), sleep=sleep), spec_for("https://model-api.runcomfy.net")
    run = asyncio.ensure_future(submit_for(service.client(), journal, spec))
    await waiting.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (await entry_of(journal, spec)).state is _S.REFUSED

    service.outcome = lambda: httpx.Response(200, json={"request_id": "r2"})
    assert (await submit_for(service.client(), journal, spec)).request_id == "r2"


async def test_a_loop_that_shuts_down_in_the_middle_of_the_call_leaves_it_uncertain() -> None:
    """Every task is cancelled, that of the call too: perhaps it was accepted."""
    service, journal, spec = SlowService(), journal_at(MemoryJournalStore()), spec_for("https://model-api.runcomfy.net")
    run = asyncio.ensure_future(submit_for(service.client(), journal, spec))
    await service.sent.wait()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()

    with pytest.raises(UncertainSubmission):
        await run
    assert (await entry_of(journal, spec)).state is _S.UNCERTAIN


class _Signal(BaseException):
    """What a signal handler raises, as Prefect's TerminationSignal and KeyboardInterrupt are."""


async def test_a_signal_in_the_middle_of_the_call_leaves_it_uncertain() -> None:
    """Raised in the very step that reads the answer, it says nothing of the request: the next run does not pay."""
    service, journal, spec = SlowService(), journal_at(MemoryJournalStore()), spec_for("https://model-api.runcomfy.net")
    service.answer.set()

    def interrupted() -> httpx.Response:
        raise _Signal

    service.outcome = interrupted
    with pytest.raises((_Signal, UncertainSubmission)):
        await submit_for(service.client(), journal, spec)

    assert (await entry_of(journal, spec)).state in (_S.INTENT, _S.UNCERTAIN)


async def test_a_loop_that_shuts_down_while_the_request_is_recorded_does_not_lose_its_id() -> None:
    """The store is away, and every task is cancelled: the id is in the journal, or in the error."""
    service, journal_store = SlowService(), FailingStore()
    service.answer.set()
    journal_store.failures["replace"] = -1
    writing = asyncio.Event()

    async def sleep(seconds: float) -> None:
        writing.set()
        await asyncio.Event().wait()

    journal, spec = (
        journal_at(journal_store, record_seconds=60, sleep=sleep),
        spec_for("https://model-api.runcomfy.net"),
    )
    run = asyncio.ensure_future(submit_for(service.client(), journal, spec))
    await writing.wait()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()

    with pytest.raises(UncertainSubmission, match="Look for request r1 in RunComfy's dashboard") as caught:
        await run
    assert caught.value.request_id == "r1"


# ---- slow workers


async def test_a_worker_that_was_taken_for_dead_records_its_request_all_the_same(
    client: RunComfyClient, sandbox: Sandbox
) -> None:
    """Called uncertain, or released, while its call was under way: the request is the generation's."""
    for released in (False, True):
        service, journal = SlowService(), journal_at(MemoryJournalStore())
        spec = spec_for("https://model-api.runcomfy.net", "released" if released else "uncertain")
        run = asyncio.ensure_future(submit_for(service.client(), journal, spec))
        await service.sent.wait()
        with pytest.raises(UncertainSubmission):
            await submit_for(service.client(), old(journal), another_run(spec))
        if released:
            await release(old(journal), spec.key)
        service.answer.set()
        assert (await run).request_id == "r1"

        entry = await entry_of(journal, spec)
        assert (entry.state, entry.request_id, service.submissions) == (_S.SUBMITTED, "r1", 1)


async def test_a_request_that_comes_after_the_next_attempt_is_kept_in_the_history(
    client: RunComfyClient, sandbox: Sandbox
) -> None:
    """A person released it, and another run has paid: the first request is not forgotten, nor does it take over."""
    first, second = SlowService(), SlowService()
    second.answer.set()
    second.outcome = lambda: httpx.Response(200, json={"request_id": "r2"})
    journal, spec = journal_at(MemoryJournalStore()), spec_for("https://model-api.runcomfy.net")
    run = asyncio.ensure_future(submit_for(first.client(), journal, spec))
    await first.sent.wait()
    await release(old(journal), spec.key)
    assert (await submit_for(second.client(), journal, another_run(spec))).request_id == "r2"
    first.answer.set()
    assert (await run).request_id == "r1"

    entry = await entry_of(journal, spec)
    assert (entry.state, entry.request_id, entry.attempt) == (_S.SUBMITTED, "r2", 2)
    assert set(entry.request_ids) == {"r1", "r2"}
    assert {event.request_id: event.attempt for event in entry.history if event.request_id} == {"r1": 1, "r2": 2}


async def test_a_worker_whose_intent_was_released_sends_nothing_more() -> None:
    """While it waits for its next try, a person releases it, and another run pays: it does not."""
    service = SlowService()
    service.answer.set()
    service.outcome = lambda: httpx.Response(429, json={"error_code": 499999, "error_message": "no"})
    journal_store, spec = MemoryJournalStore(), spec_for("https://model-api.runcomfy.net")

    async def sleep(seconds: float) -> None:
        if service.submissions > 1:
            return
        await release(journal_at(Later(journal_store)), spec.key)
        service.outcome = lambda: httpx.Response(200, json={"request_id": "r2"})
        await submit_for(service.client(), journal_at(journal_store), another_run(spec))

    with pytest.raises(RunComfyError, match="not sent"):
        await submit_for(service.client(), journal_at(journal_store, lease_seconds=0.0, sleep=sleep), spec)
    assert service.submissions == 2
    assert (await entry_of(journal_at(journal_store), spec)).request_id == "r2"


# ---- many at once


async def test_fifty_tasks_at_once_submit_once(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """They all get the one request."""
    submissions = await asyncio.gather(
        *(submit_for(client, journal, another_run(spec, f"run-{number}")) for number in range(50))
    )

    (paid,) = sandbox.books().requests
    assert {submission.request_id for submission in submissions} == {paid.id}
    assert sandbox.books().submissions_received == 1


def test_threads_with_clients_of_their_own_submit_once(
    object_store: Any, prefix: str, sandbox: Sandbox, spec: GenerationSpec
) -> None:
    """Eight event loops, eight journals on one bucket: as many processes would see it."""
    start = threading.Barrier(8)

    async def submit_here(number: int) -> str:
        store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
        start.wait()
        async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
            journal = journal_at(BucketJournalStore(store), retry_seconds=10.0)
            return (await submit_for(client, journal, another_run(spec, f"run-{number}"))).request_id

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: asyncio.run(submit_here(number)), range(8)))

    (paid,) = sandbox.books().requests
    assert set(found) == {paid.id}


# ---- texts that earlier versions knew by another key


def given_otherwise(spec: GenerationSpec) -> tuple[GenerationSpec, GenerationSpec]:
    """The same text with a blank at its end, as it is given now, and as an earlier version wrote it down."""
    now = replace(spec, inputs=TextToVideo(prompt="rain "))
    earlier = earlier_key(now.inputs)
    assert earlier is not None and now.key == spec.key
    return now, replace(now, known_as=earlier, run="earlier")


@pytest.mark.parametrize("state", list(_S))
async def test_an_entry_under_an_earlier_key_is_continued_there(
    state: _S, client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """In any state: what may be paid for is waited for or left to a person, what may be retried is retried there."""
    now, earlier = given_otherwise(spec)
    running = await submit_for(client, journal_at(MemoryJournalStore()), spec_for(sandbox.url, "another"))
    known = {} if state in (_S.REFUSED, _S.UNCERTAIN, _S.INTENT) else {"request_id": running.request_id}
    archive = {"archive": archive_of(running.request_id)} if state is _S.ARCHIVED else {}
    lost = {"request_id": "gone"} if state is _S.EXPIRED else {}
    await put(journal, earlier, state, **{**known, **archive, **lost})

    try:
        found: Any = await submit_for(client, old(journal), now)
    except (UncertainSubmission, RequestNotFound, GenerationErased) as error:
        found = error

    entry = await entry_of(journal, earlier)
    assert found.generation_key == entry.generation_key == earlier.key
    assert await journal.read(spec.key) is None
    paid = sandbox.books().submissions_received - 1
    if state in RESTARTABLE:
        assert (paid, entry.attempt, entry.state) == (1, 2, _S.SUBMITTED)
        assert entry.inputs["prompt"] == "rain"
    elif state in (_S.UNCERTAIN, _S.INTENT, _S.EXPIRED, _S.ERASED):
        assert isinstance(found, RunComfyError) and (paid, entry.attempt) == (0, 1)
    else:
        assert found.request_id == running.request_id and (paid, entry.attempt) == (0, 1)


async def test_a_text_in_any_form_is_paid_for_once(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """Without an entry under an earlier key, all forms share one entry, whichever comes first."""
    forms = ["rain ", "rain", "\ufeffrain\r\n", "rain\u00a0"]

    made = [
        await submit_for(client, journal, replace(spec, inputs=TextToVideo(prompt=form), variation=form))
        for form in forms
    ]

    assert len({submission.request_id for submission in made}) == sandbox.books().submissions_received == 1
    entries = [found.entry async for found in journal.entries()]
    assert [(entry.inputs["prompt"], entry.variation) for entry in entries] == [("rain", "rain")]


async def test_many_workers_with_forms_of_one_text_pay_once(
    client: RunComfyClient, journal: Journal, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """At the same time."""
    forms = ["rain", "rain ", " rain", "rain\n", "\u200brain", "rain\r\n"] * 3

    made = await asyncio.gather(
        *(submit_for(client, journal, replace(spec, inputs=TextToVideo(prompt=form))) for form in forms)
    )

    assert len({submission.request_id for submission in made}) == sandbox.books().submissions_received == 1


async def test_a_normal_text_costs_no_further_read(spec: GenerationSpec) -> None:
    """Only other texts need a second read."""
    journal_store = FailingStore()

    normal = await known_spec(journal_at(journal_store), spec)
    assert (normal.key, journal_store.calls) == (spec.key, [])

    other = await known_spec(journal_at(journal_store), given_otherwise(spec)[0])
    assert (other.key, journal_store.calls) == (spec.key, ["read"])


async def test_a_journal_that_cannot_be_read_is_no_reason_to_pay_again(
    client: RunComfyClient, spec: GenerationSpec, sandbox: Sandbox
) -> None:
    """Whether an entry exists under the earlier key has to be known first."""
    journal_store = FailingStore()
    journal_store.failures["read"] = 1

    with pytest.raises(StoreUnavailable):
        await submit_for(client, journal_at(journal_store), given_otherwise(spec)[0])

    assert sandbox.books().submissions_received == 0
