"""An entry of the journal: which state may follow which, what is kept, and what never gets in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcomfy.api.client import RunComfyClient
from runcomfy.errors import UnreadableEntry
from runcomfy.journal import OPEN, RESTARTABLE, Entry, EntryState, Event, GenerationSpec, MemoryJournalStore
from runcomfy.models import ImageToVideo, TextToVideo
from runcomfy.sandbox import Sandbox
from runcomfy.values import Archive, ArchivedVideo, MediaFacts, Result, StagedImage
from tests.runcomfy.journal.making import journal_at, spec_for, submit_for

_S = EntryState
NOW = datetime(2026, 11, 21, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
STATES = st.sampled_from(list(EntryState))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
NUMBERS = st.floats(0, 1e6)
RESULTS = st.builds(
    Result, request_id=TEXTS, output_count=st.integers(0, 5), noticed_at=TIMES, queued_seconds=st.none() | NUMBERS,
    running_seconds=st.none() | NUMBERS, polls=st.integers(0, 99), cost_usd=st.none() | NUMBERS,
    created_at=st.none() | TEXTS,
)  # fmt: skip
VIDEOS = st.builds(
    ArchivedVideo, bucket=TEXTS, key=TEXTS, provenance_key=TEXTS, sha256=TEXTS, size_bytes=st.integers(0, 2**40),
    content_type=TEXTS, index=st.integers(0, 9), request_id=TEXTS, already_archived=st.booleans(),
    media=st.builds(MediaFacts, container=st.just("mp4"), width=st.none() | st.integers(1, 9)),
)  # fmt: skip
IMAGES = st.builds(
    StagedImage, bucket=TEXTS, key=TEXTS, sha256=TEXTS, size_bytes=st.integers(0, 9), content_type=TEXTS,
    width=st.integers(1, 9), height=st.integers(1, 9), source=TEXTS, uploaded=st.booleans(),
)  # fmt: skip
EVENTS = st.builds(
    Event, at=TIMES, state=STATES, worker=TEXTS, request_id=st.none() | TEXTS, reason=st.none() | TEXTS
)  # fmt: skip
ENTRIES = st.builds(
    Entry, generation_key=TEXTS, state=STATES, model_id=TEXTS, service=TEXTS,
    inputs=st.dictionaries(TEXTS, JSON, max_size=3), image=st.none() | IMAGES, variation=TEXTS,
    attempt=st.integers(1, 99), run=TEXTS, flow_run=st.dictionaries(TEXTS, TEXTS, max_size=2),
    request_id=st.none() | TEXTS, submitted_at=st.none() | TIMES, reason=st.none() | TEXTS,
    cost_usd=st.none() | NUMBERS,
    archive=st.none() | st.builds(Archive, result=RESULTS, videos=st.lists(VIDEOS, max_size=2).map(tuple)),
    created_at=TIMES, updated_at=TIMES, history=st.lists(EVENTS, max_size=3).map(tuple),
)  # fmt: skip


def entry(state: EntryState = _S.INTENT, **changes: Any) -> Entry:
    spec = GenerationSpec(TextToVideo(prompt="rain"), "https://model-api.runcomfy.net", run="run-1")
    return spec.intent("host:1").model_copy(update={"state": state} | changes)


def reachable(start: EntryState) -> set[EntryState]:
    """Return every state that the same request may come into sooner or later."""
    found, left = {start}, [start]
    while left:
        here = entry(left.pop())
        new = {state for state in EntryState if here.may_become(state)} - found
        found |= new
        left += new
    return found


@pytest.mark.parametrize("state", list(EntryState))
def test_every_state_has_an_answer_for_every_other(state: EntryState) -> None:
    """No state follows itself, none leads back to an intent, and each comes to an end that is known."""
    here = entry(state)

    assert not here.may_become(state)
    assert not here.may_become(_S.INTENT)
    assert state in OPEN | RESTARTABLE | {_S.ARCHIVED, _S.ERASED}
    assert _S.ARCHIVED in reachable(state)


# Each pair of states for the same request, from that of the line into that of the column: `+` allowed, `.` refused.
# REASONS says why each line is as it is. A new attempt is begun by `Entry.begun_again`, so no line leads to an intent.
_TABLE = """
              intent submitted detached uncertain expired archived failed refused cancelled released erased
    intent         .         +        .         +       .        .      .       +         .        .      .
    submitted      .         .        +         .       +        +      +       .         +        +      .
    detached       .         .        .         .       +        +      +       .         +        +      .
    uncertain      .         +        .         .       .        .      +       .         +        +      .
    expired        .         +        +         .       .        +      +       .         +        +      .
    archived       .         .        +         .       .        .      .       .         .        .      +
    failed         .         +        .         .       .        +      .       .         .        .      +
    refused        .         +        .         .       .        .      .       .         .        .      +
    cancelled      .         +        +         .       .        +      +       .         .        .      +
    released       .         +        .         .       .        +      .       .         .        .      +
    erased         .         .        .         .       .        .      .       .         .        +      .
"""
REASONS = {
    _S.INTENT: "It has no request id yet: the paid call was accepted, refused, or its outcome is unknown. Only what "
    "has an id can be detached, end or expire; and a person releases what is uncertain, not what may be sent now.",
    _S.SUBMITTED: "The service knows it: it ends in any way that a request can, or is detached, or a person releases "
    "it. It cannot have been refused, and is never uncertain again, since its id is recorded.",
    _S.DETACHED: "As submitted, only that nobody waits: anyone who collects it finds any end. It is not submitted to "
    "anything again: a run that waits for it leaves it as it is until it ends.",
    _S.UNCERTAIN: "A person adopts it, or its worker records late that it was accepted; or a person releases it. If "
    "the answer named a request, that is seen to fail or to be cancelled; if it is done, it is submitted first. It may "
    "be paid for, so it is never simply refused.",
    _S.EXPIRED: "The service may know it again, in any state; a person may adopt or release it. It was accepted once, "
    "so it is neither refused nor uncertain.",
    _S.ARCHIVED: "The end. Only if its file is gone from the bucket it is collected again, as a detached one is; it is "
    "never paid for again.",
    _S.FAILED: "It may be found done after all, and a person may adopt a request for it. What failed needs no "
    "release, and does not run.",
    _S.REFUSED: "It has no request: only one that was accepted after all, or that a person adopts, may follow.",
    _S.CANCELLED: "The answer to a cancel is wrong at times: it runs (detached), is done, or failed; a person may "
    "adopt it. It needs no release.",
    _S.RELEASED: "A person released it; it may be found done all the same, or be adopted after all. No other state is "
    "of interest, since another attempt may have begun.",
    _S.ERASED: "Only what has ended is erased, so nothing more arrives for it; and nobody but a person allows another "
    "submission of it.",
}
"""Why the same request may come from a state into those that the table allows, and into no other."""


def pairs() -> dict[tuple[EntryState, EntryState], bool]:
    """Return whether each state may follow each, as the table above says."""
    columns, *lines = [line.split() for line in _TABLE.strip().splitlines()]
    return {
        (EntryState(before), EntryState(after)): mark == "+"
        for before, *marks in lines
        for after, mark in zip(columns, marks, strict=True)
    }


def test_the_table_has_every_pair_and_a_reason_for_each_state() -> None:
    """A new state is not forgotten."""
    assert pairs().keys() == {(before, after) for before in EntryState for after in EntryState}
    assert REASONS.keys() == set(EntryState)
    assert OPEN.isdisjoint(RESTARTABLE)


@pytest.mark.parametrize(("before", "after"), pairs(), ids=lambda state: str(state))
def test_each_step_is_allowed_or_refused_on_purpose(before: EntryState, after: EntryState) -> None:
    """No step that is needed disappears, and none appears that loses track of what is being paid for."""
    assert entry(before).may_become(after) is pairs()[before, after], REASONS[before]


def test_a_state_that_may_be_running_is_never_restartable() -> None:
    """Another attempt follows only what ended without a video, was never accepted, or was released by a person."""
    assert {_S.FAILED, _S.REFUSED, _S.CANCELLED, _S.RELEASED} == RESTARTABLE


@given(ENTRIES)
@settings(max_examples=150)
def test_an_entry_round_trips(written: Entry) -> None:
    """Every entry that can be built comes back as it was, the absent fields too."""
    assert Entry.model_validate_json(written.to_json()) == written


@given(ENTRIES, st.lists(st.tuples(STATES, st.none() | st.sampled_from(["r1", "r2", "r3"]), TEXTS), max_size=8))
@settings(max_examples=100)
def test_history_only_grows_and_forgets_no_request(now: Entry, steps: list[tuple[EntryState, str | None, str]]) -> None:
    """Each version has the steps of the one before, one more, and bytes of its own."""
    for state, request_id, reason in steps:
        changes = {"request_id": request_id} if request_id else {}
        later = now.moved(state, worker="host:1", reason=reason, **changes)

        assert later.history[:-1] == now.history
        assert (later.history[-1].state, later.history[-1].request_id) == (state, later.request_id)
        assert set(now.request_ids) <= set(later.request_ids)
        assert later.to_json() != now.to_json()
        now = later
    again = now.begun_again(entry(run="run-2"), worker="host:2")
    assert (again.state, again.attempt, again.run, again.request_id) == (_S.INTENT, now.attempt + 1, "run-2", None)
    assert again.request_ids == now.request_ids
    assert (again.archive, again.cost_usd, again.submitted_at) == (None, None, None)


@given(st.dictionaries(TEXTS.filter(lambda name: name not in Entry.model_fields), JSON, min_size=1, max_size=3))
@settings(max_examples=30)
async def test_fields_of_a_later_version_do_no_harm(unknown: dict[str, Any]) -> None:
    """They are ignored, also within a step of the history, and the next version can be written."""
    journal_store, current = MemoryJournalStore(), entry()
    document = json.loads(current.to_json()) | unknown
    document["history"][0]["colour"] = "green"
    journal_store.create(f"{current.generation_key}.json", json.dumps(document).encode())
    journal = journal_at(journal_store)

    found = await journal.read(current.generation_key)

    assert found is not None and found.entry == current
    assert await journal.replace(found, current.moved(_S.REFUSED, worker="host:1"))


@pytest.mark.parametrize(
    "change",
    [{"schema_version": 2}, {"state": "teleported"}, {"attempt": 0}, {"generation_key": None}, None],
)
async def test_an_entry_that_cannot_be_read_stops_everything(sandbox: Sandbox, change: dict[str, Any] | None) -> None:
    """Another schema, an unknown state, no JSON at all: a clear error, nothing submitted, nothing overwritten."""
    journal_store, spec = MemoryJournalStore(), spec_for(sandbox.url)
    current = json.loads(spec.intent("host:1").to_json())
    document = json.dumps(current | change).encode() if change is not None else b"<html>"
    journal_store.create(f"{spec.key}.json", document)

    async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
        with pytest.raises(UnreadableEntry, match="left as it is, and nothing was submitted") as caught:
            await submit_for(client, journal_at(journal_store), spec, on_uncertain="pay_again")

    assert not caught.value.retryable
    assert caught.value.generation_key == spec.key
    assert sandbox.books().submissions_received == 0
    stored = journal_store.read(f"{spec.key}.json")
    assert stored is not None and stored.body == document


SIGNED = "https://bucket.s3.amazonaws.com/a.png?X-Amz-Credential=AKIA123&X-Amz-Signature=deadbeef01"
SECRETS = ("deadbeef01", "AKIA123", "s3cr3t-t0k3n-1")


def test_no_reason_holds_a_secret() -> None:
    """A reason from the service or the store is redacted before it is recorded."""
    reason = f"could not read {SIGNED} with Authorization: Bearer s3cr3t-t0k3n-1"

    document = entry().moved(_S.FAILED, worker="host:1", reason=reason).to_json().decode()

    assert not [secret for secret in SECRETS if secret in document]


def test_the_signed_url_of_an_image_is_not_recorded() -> None:
    """An intent names the image by its URI in the bucket, whatever URL the inputs carry."""
    image = StagedImage(
        bucket="images", key="a.png", sha256="b" * 64, size_bytes=5, content_type="image/png", width=8, height=6,
        source="a.png", uploaded=True,
    )  # fmt: skip
    inputs = ImageToVideo(prompt="rain", image_url=SIGNED)

    document = GenerationSpec(inputs, "https://model-api.runcomfy.net", (image,)).intent("host:1").to_json().decode()

    assert not [secret for secret in SECRETS if secret in document]
    assert json.loads(document)["inputs"]["image_url"] == "s3://images/a.png"
