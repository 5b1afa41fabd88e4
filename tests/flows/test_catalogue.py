"""The `catalogue` flow and command: the table agrees with what was really done and paid for."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import ParameterTypeError

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.catalogue import catalogue
from flows.fetch_request import fetch_request
from flows.text_to_video import text_to_video
from runcomfy.catalogue import TABLE, Update
from runcomfy.errors import RunComfyError
from runcomfy.journal import EntryState, release
from runcomfy.models import TEXT_TO_VIDEO, TextToVideo
from runcomfy.policy import Deadlines, Polling
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.ledger import RequestEntry
from tests.runcomfy.cli.command_line import CommandLine
from tests.runcomfy.journal.making import submit_with_new_journal

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
PATIENT, IMPATIENT = Deadlines(), Deadlines(queue_timeout_seconds=2, run_timeout_seconds=2)
PRICE = Decimal("0.25")

ENDINGS = {
    "": "archived",
    "[sandbox: result=several_files]": "archived",
    "[sandbox: result=failed]": "failed",
    "[sandbox: submit=http_422]": "refused",
    "[sandbox: submit=lost_answer]": "uncertain",
    "[sandbox: status=expired]": "expired",
    "[sandbox: result=no_output]": "detached",
}
STUCK = {"[sandbox: status=stuck_in_queue]": "cancelled", "[sandbox: status=stuck_running]": "detached"}
"""How a generation ends whose prompt has this; the last two need deadlines that others would not keep."""

ERRORS = {
    ("failed", "GenerationFailed", None),
    ("refused", "RequestRejected", "422000"),
    ("uncertain", "UncertainSubmission", None),
    ("expired", "RequestNotFound", "404001"),
    ("detached", "NoOutput", None),
    ("detached", "RunTimeout", None),
    ("cancelled", "QueueTimeout", None),
}
"""What led to the outcomes that are no success."""


def rows_of(store: MediaStore) -> list[dict[str, Any]]:
    """Return every row of every file of the table."""
    place = store.get_store()
    found: list[dict[str, Any]] = []
    for each in place.list(place.key(TABLE)):
        data = pa.BufferReader(place.read(each.key, limit_bytes=10**8))
        found += pq.read_table(data, partitioning=None).to_pylist()
    return found


async def updated(store: MediaStore, **options: Any) -> Update:
    found: Update = await catalogue(store, **options)
    return found


async def run_all(folder: Path, prompts: list[str], *where: Any, deadlines: Deadlines = PATIENT) -> None:
    manifest = folder / "scenes.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "seed"])
        writer.writeheader()
        writer.writerows({"prompt": prompt, "seed": number} for number, prompt in enumerate(prompts))
    await batch(
        str(manifest), *where, polling=QUICK, deadlines=deadlines, stop_after_alike=len(prompts), return_state=True
    )


def owners(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the row of each request; no request is in two."""
    found = [(request_id, row) for row in rows for request_id in row["request_ids"]]
    assert [request_id for request_id, times in Counter(name for name, _ in found).items() if times > 1] == []
    return dict(found)


def agrees(row: dict[str, Any], request: RequestEntry) -> bool:
    asked = {name: value for name, value in request.inputs.items() if name != "prompt"}
    return (
        (row["model_id"], row["prompt"]) == (request.model, request.inputs["prompt"])
        and {name: row[name] for name in asked} == asked
        and (row["outcome"] != "archived" or request.state == "succeeded")
    )


@pytest.mark.slow  # an unknown request is believed to be unknown after a minute
@pytest.mark.parametrize("count", [int(os.environ.get("CATALOGUE_GENERATIONS", "200"))])
async def test_it_agrees_with_the_services_own_ledger(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path, count: int
) -> None:
    """To the row and the cent, after every kind of ending: run again, released, fetched, and without a journal."""
    kinds = [ending for ending in ENDINGS if ending] + [""] * 5
    prompts = [f"scene {number} {kinds[number % len(kinds)]}".strip() for number in range(count * 9 // 10)]
    stuck = [f"stuck {number} {list(STUCK)[number % 2]}" for number in range(count - len(prompts))]
    await run_all(tmp_path, prompts, account, media_store)
    await run_all(tmp_path, stuck, account, media_store, deadlines=IMPATIENT)
    first = await updated(media_store)
    await run_all(tmp_path, prompts[: count // 3], account, media_store)  # the failed one is paid for again
    journal = media_store.get_journal()
    expired = [found.entry async for found in journal.entries() if found.entry.state is EntryState.EXPIRED]
    for entry in expired[::2]:
        await release(journal, entry.generation_key)
    without = media_store.model_copy(update={"journal": "none"})
    await text_to_video("without a journal", account, without, polling=QUICK)
    async with account.get_client() as client:
        request_id = (await submit_with_new_journal(client, TextToVideo(prompt="fetched"))).request_id
    sandbox.wait_for_end(request_id)
    await fetch_request(request_id, TEXT_TO_VIDEO, account, media_store)

    await updated(media_store)

    rows, books = rows_of(media_store), sandbox.books()
    assert sum(day.rows for day in first.days) == count and len(rows) == count + 2
    known = owners(rows)
    lost = [request for request in books.requests if request.id not in known]
    assert {request.inputs["prompt"] for request in lost} == {
        row["prompt"] for row in rows if row["outcome"] == "uncertain"
    }
    assert len(known) + len(lost) == books.submissions_accepted == len(books.requests)
    for request in books.requests:
        if request.id in known and request.id != request_id:
            assert agrees(known[request.id], request), (known[request.id], request)
    by_prompt = {row["prompt"]: row for row in rows}
    for prompt in (*prompts, *stuck):
        ending = f"[{prompt.partition('[')[2]}" if "[" in prompt else ""
        wanted = (ENDINGS | STUCK)[ending]
        assert by_prompt[prompt]["outcome"] in ({wanted, "released"} if wanted == "expired" else {wanted})
    assert sum(row["outcome"] == "released" for row in rows) == len(expired[::2]) > 0
    cost = sum((row["cost_usd"] or Decimal(0) for row in rows), Decimal(0))
    unknown = sum(row["requests_without_cost"] for row in rows)
    assert cost + unknown * PRICE == Decimal(str(books.usd_charged))
    earlier = [(row["earlier_cost_usd"], row["earlier_requests_with_cost"]) for row in rows if row["earlier_cost_usd"]]
    assert earlier and all(cost == known * PRICE for cost, known in earlier)
    assert {(row["outcome"], row["error_type"], row["error_code"]) for row in rows if row["error_type"]} == ERRORS
    assert all(row["cost_usd"] == PRICE for row in rows if row["outcome"] == "archived")
    files = sum(row["output_bytes"] for row in rows)
    store = media_store.get_store()
    assert files == sum(found.size_bytes for found in store.list(store.prefix) if found.key.endswith(".mp4"))


async def test_the_runs_page_shows_what_is_new(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Each day as a whole, with its outcomes and its cost, and where the table is; a second run has nothing new."""
    await text_to_video("rain", account, media_store, polling=QUICK)

    found = await updated(media_store)

    async with get_client() as client:
        shown = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["runcomfy-catalogue"]))
        )
    assert any(f"`{found.table}`" in str(each.data) and "| 1 | 1 archived | 0.25 | 0 |" in str(each.data)
               for each in shown)  # fmt: skip
    (row,) = rows_of(media_store)
    assert row["flow_name"] == "text-to-video" and row["flow_run_id"]
    again = await updated(media_store)
    assert not any(day.written for day in again.days)


async def test_a_wrong_parameter_is_refused(media_store: MediaStore) -> None:
    """The form's parameters are checked before anything is read."""
    with pytest.raises(ParameterTypeError):
        await updated(media_store, prompts="perhaps")


async def test_a_missing_bucket_is_named(media_store: MediaStore) -> None:
    """With what to do."""
    missing = media_store.model_copy(update={"bucket": "missing-bucket"})

    with pytest.raises(RunComfyError, match="missing-bucket"):
        await updated(missing)


async def test_the_command_does_the_same_without_prefect(
    account: RunComfyCredentials, media_store: MediaStore, command_line: CommandLine
) -> None:
    """A short table for a person, one object for a script, and nothing of Prefect is loaded."""
    await text_to_video("rain", account, media_store, polling=QUICK)
    where = ("catalogue", "--bucket", command_line.bucket)

    told = command_line.run(*where).stdout
    again = json.loads(command_line.run(*where, "--everything", "--no-prompts", "--json").stdout)

    assert "1 day written; 1 of 1 journal entries and 0 of 1 provenance files read" in told
    assert "1 archived; 0.25 USD" in told and f"{command_line.bucket}/catalogue/generations/" in told
    assert (again["entries"], again["entries_read"], again["days"][0]["cost_usd"]) == (1, 1, "0.250000")
    assert [row["prompt"] for row in rows_of(media_store)] == [None]
    assert "prefect" not in command_line.modules(*where)


async def test_the_command_needs_no_journal(command_line: CommandLine) -> None:
    """Where each process keeps its own journal, the files are enough."""
    told = json.loads(
        command_line.run("catalogue", "--bucket", command_line.bucket, "--journal", "none", "--json").stdout
    )

    assert told["entries"] == 0 and told["days"] == []
    assert "--bucket takes" in command_line.run("catalogue", "--bucket", "http://x", code=3).stderr
    assert "s3://" in command_line.run("catalogue", "--bucket", "http://x", "--journal", "none", code=3).stderr
