"""What a row says about a generation in each of its states."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pytest

from runcomfy.catalogue import COLUMNS, SCHEMA
from runcomfy.catalogue.rows import day_of, row_of_entry, row_of_files
from runcomfy.errors import GenerationFailed, RequestRejected, StorageError
from runcomfy.journal import Entry, EntryState, GenerationSpec
from runcomfy.models import ImageToVideo
from runcomfy.redaction import redact
from runcomfy.storage.store import Store
from runcomfy.values import StagedImage
from tests.runcomfy.catalogue.making import DAY, entry_of, provenance_of

STORE = Store("videos", "p", endpoint_url="http://127.0.0.1:9", region_name="us-east-1")


def row(entry: Entry, *, prompts: bool = True) -> dict[str, Any]:
    return row_of_entry(entry, prompts=prompts)


def accepted(entry: Entry, request_id: str = "r1") -> Entry:
    return entry.moved(EntryState.SUBMITTED, worker="host:1", request_id=request_id, submitted_at=DAY)


def test_a_row_has_every_column_and_nothing_else() -> None:
    """Of a generation as of a request without journal; both fit the types."""
    rows = [row(entry_of()), row_of_files({"s3://a": provenance_of(STORE, "r1")}, prompts=True)]

    for each in rows:
        assert list(each) == SCHEMA.names
    table = pa.Table.from_pylist(rows, SCHEMA)
    for column in COLUMNS:
        assert not column.always or table[column.name].null_count == 0, column.name


@pytest.mark.parametrize("state", [state for state in EntryState if state is not EntryState.ARCHIVED])
def test_every_state_has_its_outcome(state: EntryState) -> None:
    """An intent and a request that is waited for are under way; every other state is an outcome of its own."""
    under_way = state in (EntryState.INTENT, EntryState.SUBMITTED)

    assert row(accepted(entry_of()).moved(state, worker="w"))["outcome"] == ("under_way" if under_way else str(state))


@pytest.mark.parametrize(
    ("steps", "cost", "unknown"),
    [
        ((), None, 1),
        ((EntryState.UNCERTAIN,), None, 1),
        ((EntryState.REFUSED,), None, 0),
        (("r1",), None, 1),
        (("r1", EntryState.FAILED, 0.25), Decimal("0.25"), 0),
        (("r1", EntryState.FAILED, 0.25, "again"), None, 2),
        (("r1", EntryState.FAILED, 0.25, "again", EntryState.REFUSED), None, 1),
        (("r1", EntryState.CANCELLED, "again", "r2", EntryState.FAILED, 0.1), Decimal("0.1"), 1),
        ((EntryState.UNCERTAIN, "r1", EntryState.ARCHIVED, 0.3), Decimal("0.3"), 0),
    ],
)
def test_no_request_is_missing_from_the_cost(steps: tuple[Any, ...], cost: Decimal | None, unknown: int) -> None:
    """A request that may be billed is in the cost, or counted as one of unknown cost; as a budget counts it."""
    entry = entry_of()
    for step in steps:
        if step == "again":
            entry = entry.begun_again(entry_of(), worker="w")
        elif isinstance(step, EntryState):
            entry = entry.moved(step, worker="w")
        elif isinstance(step, float):
            entry = entry.model_copy(update={"cost_usd": step})
        else:
            entry = accepted(entry, step)

    found = row(entry)

    assert (found["cost_usd"], found["requests_without_cost"]) == (cost, unknown)


def test_the_cost_of_earlier_requests_is_kept_if_the_service_reported_it() -> None:
    """Beside `cost_usd`, which is that of the latest; the rest, in `requests_without_cost`, is unknown."""
    failed = accepted(entry_of()).moved(EntryState.FAILED, worker="w", cost_usd=0.25)
    again = accepted(failed.begun_again(entry_of(), worker="w"), "r2").moved(EntryState.CANCELLED, worker="w")
    last = accepted(again.begun_again(entry_of(), worker="w"), "r3").moved(EntryState.FAILED, worker="w", cost_usd=0.3)

    first, found = row(failed), row(last)

    assert (first["earlier_cost_usd"], first["earlier_requests_with_cost"]) == (None, 0)
    assert (found["cost_usd"], found["earlier_cost_usd"]) == (Decimal("0.3"), Decimal("0.25"))
    assert (found["requests_without_cost"], found["earlier_requests_with_cost"]) == (2, 1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GenerationFailed("it failed"), None),
        (RequestRejected("no", error_code=400001, http_status=400), "400001"),
        (RequestRejected("no", http_status=422), "422"),
        (StorageError("no", error_code="AccessDenied", http_status=403), "AccessDenied"),
        (ValueError("from elsewhere"), None),
    ],
)
def test_a_row_names_the_error_that_led_to_its_outcome(error: Exception, code: str | None) -> None:
    """Its class, and the code of the service or store that refused; an outcome that it did not lead to has none."""
    failed = accepted(entry_of()).moved(EntryState.FAILED, worker="w", error=error)

    again = accepted(failed.begun_again(entry_of(), worker="w"), "r2")

    assert (row(failed)["error_type"], row(failed)["error_code"]) == (type(error).__name__, code)
    for later in (again, again.moved(EntryState.FAILED, worker="w"), failed.moved(EntryState.SUBMITTED, worker="w")):
        assert (row(later)["error_type"], row(later)["error_code"]) == (None, None)


def test_an_entry_of_an_earlier_version_has_its_row() -> None:
    """Its steps name no error and no cost."""
    entry = accepted(entry_of()).moved(EntryState.FAILED, worker="w", cost_usd=0.25, error=GenerationFailed("no"))
    document = json.loads(entry.to_json())
    for event in document["history"]:
        for name in ("error_type", "error_code", "cost_usd"):
            del event[name]

    found = row(Entry.model_validate(document))

    assert (found["outcome"], found["cost_usd"], found["error_type"]) == ("failed", Decimal("0.25"), None)


def test_a_row_keeps_its_day() -> None:
    """The day of the first attempt in UTC, whatever is tried later and wherever the first worker was."""
    east = datetime.fromisoformat("2026-11-22T01:30:00+02:00")
    entry = entry_of(begun=east)

    later = entry.moved(EntryState.REFUSED, worker="w").begun_again(entry_of(begun=DAY + timedelta(days=9)), worker="w")

    assert day_of(row(entry)) == day_of(row(later)) == DAY.date()


def test_settings_have_columns_and_all_are_kept() -> None:
    """A seed of more than 64 bits has no column that could hold it, and breaks nothing."""
    found = row(entry_of(seed=2**70, resolution="480p"))

    assert found["resolution"] == "480p" and found["seed"] is None
    assert json.loads(found["settings_json"])["seed"] == 2**70
    assert "prompt" not in json.loads(found["settings_json"])


def test_an_image_is_named_by_where_it_is() -> None:
    """Never by a URL with a signature."""
    image = StagedImage(
        bucket="b", key="images/x.png", sha256="cd" * 32, size_bytes=1, content_type="image/png", width=1, height=1,
        source="x.png", uploaded=True,
    )  # fmt: skip
    signed = "https://host/x.png?X-Amz-Signature=0123456789abcdef"
    spec = GenerationSpec(ImageToVideo(prompt="p", image_url=signed), "https://service.example", (image,))

    staged, unstaged = row(spec.intent("w")), row(replace(spec, staged=()).intent("w"))

    assert (staged["image_uri"], staged["image_sha256"]) == ("s3://b/images/x.png", "cd" * 32)
    assert (unstaged["image_uri"], unstaged["image_sha256"]) == ("https://host/x.png", None)
    assert "Signature" not in f"{staged}{unstaged}"


def test_a_catalogue_without_prompts_has_none() -> None:
    """Only the hash, and not even where the service quotes the prompt in its reason."""
    entry = accepted(entry_of('a "secret"\nplace')).moved(
        EntryState.FAILED, worker="w", reason='refused: {"prompt": "a \\"secret\\"\\nplace"}'
    )

    shown, hidden = row(entry), row(entry, prompts=False)

    assert shown["prompt"] == 'a "secret"\nplace' and hidden["prompt"] is None
    assert shown["prompt_sha256"] == hidden["prompt_sha256"]
    assert "secret" not in str(hidden)


def test_a_file_without_journal_is_a_row_of_its_request() -> None:
    """With all its files, in their order, and its cost once."""
    documents = {f"s3://{index}": provenance_of(STORE, "r1", index) for index in (2, 0, 1)}

    found = row_of_files(documents, prompts=True)

    assert (found["id"], found["outcome"], found["generation_key"]) == ("request:r1", "archived", None)
    assert [output["index"] for output in found["outputs"]] == [0, 1, 2]
    assert (found["output_bytes"], found["cost_usd"]) == (3003, Decimal("0.25"))
    assert found["created_at"] == DAY


def test_poster_source_type_and_flow_run_are_named_as_they_were_recorded() -> None:
    """By the file's provenance, or by the journal; a file that was archived before there were any has none."""
    known: dict[str, Any] = {"poster_uri": "s3://b/x.mp4.jpg", "digital_source_type": "http://cv.iptc.org/x",
             "flow_run": {"id": "f1", "url": "https://prefect.example/f1"}}  # fmt: skip
    names = ("video_poster_uri", "digital_source_type", "flow_run_url")
    journalled = entry_of().model_copy(update={"flow_run": known["flow_run"]})

    found = row_of_files({"s3://a": provenance_of(STORE, "r1", **known)}, prompts=True)
    before = row_of_files({"s3://a": provenance_of(STORE, "r1")}, prompts=True)

    assert [found[name] for name in names] == ["s3://b/x.mp4.jpg", "http://cv.iptc.org/x", "https://prefect.example/f1"]
    assert [before[name] for name in names] == [None, None, None]
    assert row(journalled)["flow_run_url"] == "https://prefect.example/f1"


@pytest.mark.parametrize(
    ("known", "day"),
    [
        ({"submitted_at": DAY - timedelta(days=2), "service_created_at": "2026-11-20T00:00:00Z"}, "2026-11-19"),
        ({"service_created_at": "2026-11-20T23:59:00+00:00"}, "2026-11-20"),
        ({"service_created_at": "2026-11-20T23:59:00"}, "2026-11-20"),
        ({"service_created_at": "yesterday"}, "2026-11-21"),
    ],
)
def test_the_day_of_a_file_without_journal_comes_from_the_best_source(known: dict[str, Any], day: str) -> None:
    """The submission, else what the service says if it can be understood, else the archiving of the first file."""
    found = row_of_files({"s3://a": provenance_of(STORE, "r1", **known)}, prompts=True)

    assert str(day_of(found)) == day
    assert day_of(found) == found["created_at"].astimezone(UTC).date()


def test_nothing_secret_is_in_a_row() -> None:
    """A reason comes redacted out of the journal; redacting the whole row again changes nothing."""
    entry = accepted(entry_of()).moved(
        EntryState.FAILED, worker="w", reason="could not read https://h/x.png?X-Amz-Signature=0123456789abcdef"
    )

    assert redact(str(row(entry))) == str(row(entry))
