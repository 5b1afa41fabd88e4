"""The catalogue in the bucket: what is in it, what an update reads, and concurrent updates."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from runcomfy.catalogue import SCHEMA, SCHEMA_VERSION, update
from runcomfy.catalogue.columns import VERSION_FIELD
from runcomfy.catalogue.files import provenance_files
from runcomfy.errors import ConfigurationError, GenerationFailed, StorageError
from runcomfy.journal import BucketJournalStore, EntryState, Journal
from runcomfy.journal.stores import Stored
from tests.runcomfy.catalogue.making import DAY, Archiving, provenance_of

PARTITION = f"catalogue/generations/day={DAY.date()}/generations.parquet"


@contextmanager
def calls(archiving: Archiving) -> Iterator[Counter[str]]:
    """Count the calls to the store."""
    counted: Counter[str] = Counter()

    def count(request: Any, **_: Any) -> None:
        counted["LIST" if "list-type=2" in request.url else request.method] += 1

    events = archiving.store.client.meta.events
    events.register("before-send.s3", count)
    yield counted
    events.unregister("before-send.s3", count)


def standing(archiving: Archiving) -> dict[str, bytes]:
    """Return every file of the catalogue with its bytes."""
    store = archiving.store
    keys = [found.key for found in store.list(store.key("catalogue/"))]
    return {key: store.read(key, limit_bytes=10**8) for key in keys}


def outcomes(archiving: Archiving) -> list[tuple[str, str]]:
    return sorted((row["prompt"] or row["id"], row["outcome"]) for row in archiving.rows())


async def test_a_generation_is_one_row_that_follows_it(archiving: Archiving) -> None:
    """From under way to archived, with the files in it; a retry is counted, and does not make it two."""
    entry = await archiving.begin()
    await archiving.update()
    (under_way,) = archiving.rows()
    await archiving.archive(entry, outputs=2)

    found = await archiving.update()

    (row,) = archiving.rows()
    assert (under_way["outcome"], row["outcome"]) == ("under_way", "archived")
    assert (row["cost_usd"], row["requests_without_cost"], row["attempts"]) == (Decimal("0.25"), 0, 1)
    assert (row["queued_seconds"], row["running_seconds"], row["polls"]) == (1.5, 60.25, 7)
    assert row["archiving_seconds"] >= 0 and row["archived_at"] >= row["noticed_at"]
    assert [output["index"] for output in row["outputs"]] == [0, 1]
    assert (row["output_bytes"], row["output_count"], row["video_frames"]) == (2001, 2, 81)
    assert (row["day"], row["flow_run_id"], row["worker"]) == (DAY.date(), "f1", "host:2")
    assert (found.entries, found.files, found.entries_read, found.files_read) == (1, 2, 1, 0)
    (day,) = found.days
    assert (day.rows, day.counted, day.cost_usd, day.written) == (1, "1 archived", Decimal("0.25"), True)


async def test_only_the_days_that_something_new_belongs_to_are_written(archiving: Archiving) -> None:
    """The other files stay as they are, to the byte."""
    for number in range(3):
        await archiving.begin(f"old {number}", begun=DAY - timedelta(days=number))
    await archiving.update()
    before = standing(archiving)

    await archiving.begin("new", begun=DAY - timedelta(days=1))
    await archiving.update()

    after = standing(archiving)
    assert {key.split("day=")[1][:10] for key in after if after[key] != before.get(key) and "day=" in key} == {
        str(DAY.date() - timedelta(days=1))
    }
    assert len(archiving.rows()) == 4


async def test_an_update_without_news_makes_three_lists_and_one_read(archiving: Archiving) -> None:
    """One list call for the prefix, one for the files, one for the journal; the state, and nothing is written."""
    entry = await archiving.begin()
    await archiving.archive(entry)
    await archiving.update()
    await asyncio.sleep(2.1)  # what is younger is read once more
    await archiving.update()
    before = standing(archiving)

    with calls(archiving) as counted:
        found = await archiving.update()

    assert counted == {"LIST": 3, "GET": 1}
    assert found.days == () and found.sentence == "Nothing new; 0 of 1 journal entries and 0 of 1 provenance files read"
    assert standing(archiving) == before


async def test_an_update_reads_what_is_new_and_no_more(archiving: Archiving) -> None:
    """Each new entry once, its file not at all, and its day."""
    for number in range(5):
        await archiving.archive(await archiving.begin(f"old {number}"))
    await archiving.update()
    await asyncio.sleep(4)  # otherwise this update might overlap with the other one, and reads twice
    await archiving.update()
    for number in range(3):
        await archiving.archive(await archiving.begin(f"new {number}"))

    with calls(archiving) as counted:
        found = await archiving.update()

    assert (found.entries_read, found.files_read, found.days[0].rows) == (3, 0, 8)
    assert counted == {"LIST": 3, "GET": 1 + 3 + 1, "PUT": 2}


async def test_everything_read_again_gives_the_same(archiving: Archiving) -> None:
    """The same bytes: a catalogue that is up to date is not written at all."""
    for number in range(3):
        await archiving.archive(await archiving.begin(f"scene {number}"))
    archiving.put(provenance_of(archiving.store, "fetched"))
    await archiving.update()
    before = standing(archiving)

    again = await archiving.update(everything=True)

    assert (again.entries_read, again.files_read) == (3, 1)
    assert [day.written for day in again.days] == [False]
    parquet = {key for key in before if key.endswith(".parquet")}
    assert {key: standing(archiving)[key] for key in parquet} == {key: before[key] for key in parquet}


async def test_a_request_that_the_journal_does_not_know_is_a_row_as_well(archiving: Archiving) -> None:
    """Fetched by its id, or made without a journal; files of one request that come one by one are one row."""
    archiving.put(provenance_of(archiving.store, "fetched"))
    await archiving.update()
    archiving.put(provenance_of(archiving.store, "fetched", 1))
    archiving.put(provenance_of(archiving.store, "unjournalled", generation_key="ef" * 32))

    await archiving.update()

    rows = {row["id"]: row for row in archiving.rows()}
    assert set(rows) == {"request:fetched", "request:unjournalled"}
    assert [output["index"] for output in rows["request:fetched"]["outputs"]] == [0, 1]
    assert sum(row["cost_usd"] for row in rows.values()) == Decimal("0.50")
    assert rows["request:unjournalled"]["archiver"] == "runcomfy-prefect/0.1.0"


async def test_without_a_journal_the_files_are_all(archiving: Archiving) -> None:
    """A store whose journal is kept in each process's memory has its catalogue too."""
    archiving.put(provenance_of(archiving.store, "r1"))

    found = await update(archiving.store, None)

    assert (found.entries, found.files_read) == (0, 1)
    assert [row["request_id"] for row in archiving.rows()] == ["r1"]


async def test_files_are_found_however_they_are_named(archiving: Archiving) -> None:
    """Beside the prefix, in a folder for each request, and not among what else is there."""
    store = archiving.store
    names = ["a.mp4", *(f"{number}/0.webm" for number in range(101)), "deep/er/x.mp4", "b.wav", "c.avi", "d.3gp"]
    for name in names:
        archiving.store.put(store.key(f"{name}.json"), b"{}", content_type="application/json")
    for name in ("images/x.png.json", "inbox/x.mp4.json", "media/x.mp4.json", "x.json", "x.mp4"):
        archiving.store.put(store.key(name), b"{}", content_type="application/json")

    with calls(archiving) as counted:
        found = provenance_files(store)

    assert sorted(found) == sorted(store.key(f"{name}.json") for name in names)
    assert counted == {"LIST": 2}


async def test_a_file_whose_generation_is_being_archived_is_no_row_of_its_own(archiving: Archiving) -> None:
    """Between the file and the journal's note of it, an update sees the one and not the other."""
    entry = await archiving.begin()
    archiving.put(provenance_of(archiving.store, entry.request_id or "", generation_key=entry.generation_key))

    await archiving.update()
    (row,) = archiving.rows()
    await archiving.archive(entry)
    await archiving.update()

    assert row["outcome"] == "under_way"
    assert [row["outcome"] for row in archiving.rows()] == ["archived"]


async def test_a_fetched_request_that_finds_its_generation_is_counted_once(archiving: Archiving) -> None:
    """It was fetched by its id, and afterwards it was adopted: its own row goes, also on another day."""
    entry = await archiving.begin()
    await archiving.move(entry, EntryState.UNCERTAIN, request_id=None)
    early = (DAY - timedelta(days=3)).isoformat()
    archiving.put(provenance_of(archiving.store, "adopted", service_created_at=early))
    await archiving.update()
    assert len(archiving.rows()) == 2

    adopted = await archiving.move(entry, EntryState.SUBMITTED, request_id="adopted")
    await archiving.archive(adopted, already_archived=True)
    found = await archiving.update()

    assert [(row["outcome"], row["cost_usd"]) for row in archiving.rows()] == [("archived", Decimal("0.25"))]
    assert [(day.rows, day.written) for day in found.days] == [(0, True), (1, True)]


WRONG_MODEL = {"uri": "s3://{bucket}/{prefix}wan-ai/wrong/x-0.mp4", "model_id": "wan-ai/wrong", "generation_key": None}


@pytest.mark.parametrize("earlier", [False, True], ids=["its request", "an earlier request"])
@pytest.mark.parametrize("first", [False, True], ids=["after an update", "before the first"])
async def test_a_second_archive_of_a_request_is_no_second_cost(
    archiving: Archiving, earlier: bool, first: bool
) -> None:
    """Fetched under a wrong model, by an older version or without the journal: the generation's own row is all."""
    entry = await archiving.begin()
    request_id = entry.request_id or ""
    if earlier:
        await archiving.move(entry, EntryState.FAILED, cost_usd=0.25)
        entry = await archiving.move(entry, EntryState.SUBMITTED, request_id="later", submitted_at=DAY)
    await archiving.archive(entry)
    if not first:
        await archiving.update()
    store = archiving.store
    wrong = WRONG_MODEL | {"uri": WRONG_MODEL["uri"].format(bucket=store.bucket, prefix=store.prefix)}
    archiving.put(provenance_of(store, request_id, **wrong))

    await archiving.update()

    (row,) = archiving.rows()
    assert row["model_id"] == "wan-ai/wan-2-1/text-to-video" and request_id in row["request_ids"]


async def test_a_row_that_an_older_version_made_of_a_second_archive_goes(archiving: Archiving) -> None:
    """The first update by this version reads everything once more, and removes it."""
    entry = await archiving.begin()
    store, request_id = archiving.store, entry.request_id or ""
    wrong = WRONG_MODEL | {"uri": WRONG_MODEL["uri"].format(bucket=store.bucket, prefix=store.prefix)}
    archiving.put(provenance_of(store, request_id, **wrong))
    await update(store, None)
    state = store.key("catalogue/state.json")
    older = json.loads(store.read(state, limit_bytes=10**6)) | {"rules": 1}
    del older["requests"]
    store.put(state, json.dumps(older).encode(), content_type="application/json")
    assert [row["id"] for row in archiving.rows()] == [f"request:{request_id}"]

    await archiving.archive(entry)
    await archiving.update()

    assert [row["id"] for row in archiving.rows()] == [entry.generation_key]


async def test_files_archived_elsewhere_are_not_in_it(archiving: Archiving) -> None:
    """Several stores may share a journal; each has a catalogue of its own."""
    await archiving.begin("here")
    there = Archiving(archiving.store)
    there.store = archiving.store.from_uri("s3://videos/elsewhere", endpoint_url=archiving.store.endpoint_url,
                                           region_name="us-east-1")  # fmt: skip
    await there.begin("there")

    await archiving.update()

    assert outcomes(archiving) == [("here", "under_way")]


async def test_updates_at_once_lose_nothing(archiving: Archiving) -> None:
    """The second writer of a day begins with what the first one wrote, and reads what it read once more."""
    entries = [await archiving.begin(f"scene {number}") for number in range(12)]

    async def work() -> None:
        for entry in entries:
            await archiving.archive(entry)

    await asyncio.gather(work(), *(archiving.update() for _ in range(6)))
    await archiving.update()

    assert outcomes(archiving) == sorted((f"scene {number}", "archived") for number in range(12))


async def test_an_update_that_is_overtaken_does_not_go_back(archiving: Archiving) -> None:
    """It has read an entry; the entry moves on, and another update writes that: the older state does not come back."""
    entry = await archiving.begin()

    class Slow(BucketJournalStore):
        overtaken = False

        def read(self, name: str) -> Stored | None:
            found = super().read(name)
            if not self.overtaken:
                self.overtaken = True
                asyncio.run(self._overtake())
            return found

        async def _overtake(self) -> None:
            await archiving.archive(entry)
            await archiving.update()

    found = await update(archiving.store, Journal(Slow(archiving.store)))

    assert outcomes(archiving) == [("rain", "archived")]
    assert [day.written for day in found.days] == [False]


async def test_the_second_writer_of_a_day_begins_with_what_the_first_wrote(archiving: Archiving) -> None:
    """Its write is refused, since the file has changed; then both have their rows."""
    await archiving.begin("first")
    await archiving.update()
    await archiving.begin("second")
    overtaken: list[str] = []

    def overtake(request: Any, **_: Any) -> None:
        if request.method == "PUT" and request.url.endswith(".parquet") and not overtaken:
            overtaken.append(request.url)
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, other()).result()

    async def other() -> None:
        await archiving.begin("third")
        await archiving.update()

    events = archiving.store.client.meta.events
    events.register("before-send.s3", overtake)
    await archiving.update()
    events.unregister("before-send.s3", overtake)

    assert overtaken
    assert [prompt for prompt, _ in outcomes(archiving)] == ["first", "second", "third"]


async def test_an_update_that_is_killed_is_done_again_by_the_next(archiving: Archiving) -> None:
    """What it knew is recorded last: until then, the next one reads it as well."""
    await archiving.begin()
    await archiving.update()
    archiving.store.delete(archiving.store.key("catalogue/state.json"))
    archiving.store.delete(archiving.store.key(PARTITION))

    await archiving.update()

    assert len(archiving.rows()) == 1


@pytest.mark.parametrize("prompts", [True, False])
async def test_with_or_without_prompts_is_a_setting_for_all_rows(archiving: Archiving, prompts: bool) -> None:
    """A change rewrites the rows that exist; without the option it stays as it was."""
    await archiving.begin("rain")
    await archiving.update(prompts=not prompts)

    await archiving.begin("wind")
    found = await archiving.update(prompts=prompts)
    await archiving.begin("snow")
    await archiving.update()

    assert found.entries_read == 2
    assert {row["prompt"] for row in archiving.rows()} == ({"rain", "wind", "snow"} if prompts else {None})


async def test_an_unreadable_object_is_named_and_tried_again(archiving: Archiving) -> None:
    """An entry of a later version, and a file that only looks like a provenance, hide nothing else."""
    await archiving.begin()
    entry, file = archiving.store.key(f"journal/{'0' * 64}.json"), archiving.store.key("x/odd.mp4.json")
    for key in (entry, file):
        archiving.store.put(key, b'{"schema_version": 99}', content_type="application/json")

    found = await archiving.update()
    again = await archiving.update()

    assert found.unreadable == again.unreadable == (f"journal entry {'0' * 64}", archiving.store.uri(file))
    assert len(archiving.rows()) == 1


def rewritten(archiving: Archiving, change: Any) -> None:
    """Write a day as another version of the program would."""
    key = archiving.store.key(PARTITION)
    sink = io.BytesIO()
    table = pq.read_table(pa.BufferReader(archiving.store.read(key, limit_bytes=10**8)), partitioning=None)
    pq.write_table(change(table), sink)
    archiving.store.put(key, sink.getvalue(), content_type="application/octet-stream")


OF_VERSION_1 = SCHEMA.names[: SCHEMA.names.index("archiver") + 1]


async def test_files_of_an_earlier_version_are_brought_up_to_date(archiving: Archiving) -> None:
    """A column that they lack is null in their old rows; readers of old files see what they saw before."""
    await archiving.begin("old")
    await archiving.update()
    rewritten(archiving, lambda table: table.select(OF_VERSION_1).replace_schema_metadata({VERSION_FIELD: b"1"}))

    await archiving.begin("new")
    await archiving.update()

    assert archiving.table().schema.names[:-1] == SCHEMA.names
    assert len(archiving.rows()) == 2


async def test_an_update_of_the_program_makes_every_row_again(archiving: Archiving) -> None:
    """The table and state of version 1 are read; its rows have the new columns afterwards."""
    entry = await archiving.begin("old")
    await archiving.move(entry, EntryState.FAILED, error=GenerationFailed("it was told to"))
    await archiving.update()
    rewritten(archiving, lambda table: table.select(OF_VERSION_1).replace_schema_metadata({VERSION_FIELD: b"1"}))
    state = archiving.store.key("catalogue/state.json")
    noted = archiving.store.read(state, limit_bytes=10**6).replace(
        f'"schema_version":{SCHEMA_VERSION}'.encode(), b'"schema_version":1'
    )
    archiving.store.put(state, noted, content_type="application/json")

    found = await archiving.update()

    assert found.entries_read == 1 and [day.written for day in found.days] == [True]
    (row,) = archiving.rows()
    assert (row["outcome"], row["error_type"]) == ("failed", "GenerationFailed")


async def test_files_of_a_later_version_are_left_alone(archiving: Archiving) -> None:
    """A checkout that was not updated would drop the new columns; it says so instead."""
    await archiving.begin("old")
    await archiving.update()
    rewritten(archiving, lambda table: table.replace_schema_metadata({VERSION_FIELD: b"99"}))
    await archiving.begin("new")

    with pytest.raises(ConfigurationError, match="later version"):
        await archiving.update()


async def test_a_damaged_file_is_named(archiving: Archiving) -> None:
    """With what to do about it."""
    await archiving.begin()
    archiving.store.put(archiving.store.key(PARTITION), b"not Parquet", content_type="application/octet-stream")

    with pytest.raises(StorageError, match=r"generations.parquet is no Parquet file .* Delete it"):
        await archiving.update()


async def test_the_rows_of_a_day_are_in_order(archiving: Archiving) -> None:
    """By their creation, so that the same rows are the same file."""
    for number in (2, 0, 1):
        await archiving.begin(f"scene {number}", begun=DAY + timedelta(minutes=number))
    await archiving.update()

    data = archiving.store.read(archiving.store.key(PARTITION), limit_bytes=10**8)
    table = pq.read_table(pa.BufferReader(data), partitioning=None)

    assert table["prompt"].to_pylist() == ["scene 0", "scene 1", "scene 2"]
    assert table.schema.equals(SCHEMA) and table.schema.metadata[VERSION_FIELD] == str(SCHEMA_VERSION).encode()
