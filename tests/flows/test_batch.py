"""The `batch` flow: each row's video once, within the budget, whatever becomes of the other rows."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from botocore.model import OperationModel
from PIL import Image
from prefect import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.concurrency.asyncio import concurrency
from prefect.exceptions import ParameterTypeError
from prefect.states import Cancelling
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.batch_shard import batch_shard
from runcomfy.batch.plan import rows_to_json
from runcomfy.batch.results import BatchReport, outcomes_from_json
from runcomfy.batch.shard import Shard, divide
from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.journal import EntryState, GenerationSpec
from runcomfy.models import TextToVideo, earlier_key
from runcomfy.models.orders import OrderDefaults
from runcomfy.policy import Deadlines, Polling
from runcomfy.sandbox import Sandbox
from tasks.batch.plan import plan_batch

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)


def manifest(folder: Path, *rows: dict[str, Any], name: str = "scenes.csv") -> str:
    path = folder / name
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def scenes(count: int, **also: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"scene {number}", "seed": number, **also} for number in range(count)]


async def run(source: str, account: RunComfyCredentials, store: MediaStore, **given: Any) -> State[BatchReport]:
    state: Any = await batch(source, account, store, **{"polling": QUICK, **given}, return_state=True)
    assert isinstance(state, State)
    return state


async def report(state: State[BatchReport]) -> BatchReport:
    found = await state.aresult(raise_on_failure=False)
    assert isinstance(found, BatchReport), found
    return found


def read(store: MediaStore, uri: str | None) -> str:
    assert uri is not None
    return store.get_store().read(uri.partition("://")[2].partition("/")[2], limit_bytes=10**7).decode()


async def test_each_row_becomes_a_video_and_a_second_run_pays_nothing(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """A finished manifest that is run again costs nothing, and says so; only an added row is generated."""
    first = await run(manifest(tmp_path, *scenes(6)), account, media_store)

    assert first.is_completed() and first.name == "Completed"
    done = await report(first)
    assert (done.rows, done.archived, done.counts) == (6, 6, {"archived": 6})
    assert done.files.to_run_again is None
    results = list(csv.DictReader(io.StringIO(read(media_store, done.files.results))))
    assert [row["line"] for row in results] == ["2", "3", "4", "5", "6", "7"]
    assert all(row["uri"].startswith("s3://videos/") and row["status"] == "archived" for row in results)
    assert sandbox.books().submissions_accepted == 6

    again = await report(await run(manifest(tmp_path, *scenes(7)), account, media_store))

    assert again.counts == {"existing": 6, "archived": 1}
    assert sandbox.books().submissions_accepted == 7


async def test_a_row_takes_few_calls(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Ten to the store and one for the result, each row; whether the bucket exists is asked once for all of them."""
    calls: Counter[str] = Counter()

    def count(model: OperationModel, **_: Any) -> None:
        calls[model.name] += 1

    media_store.get_store().client.meta.events.register("before-call.s3", count)
    sandbox.inject("slow", endpoint="result", rate=1.0, seconds=0.0)  # counts them
    counted = []
    for rows in (1, 12, 24):  # the first probes whether the store can hold a journal; each has its own report
        calls.clear()
        await run(manifest(tmp_path, *scenes(rows, variation=str(rows))), account, media_store)
        counted.append(calls.copy())

    assert all(each.pop("HeadBucket", 0) <= 1 for each in counted)
    added = counted[2] - counted[1]
    assert added == {"GetObject": 24, "ListObjectsV2": 24, "PutObject": 72}
    assert sandbox.books().faults_struck == 1 + 12 + 24


async def test_a_rows_failure_is_its_own(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """The others are archived; the failed rows are in a manifest that can be run again as it is."""
    rows = scenes(5)
    rows[2]["prompt"] += " [sandbox: result=failed]"

    state = await run(manifest(tmp_path, *rows), account, media_store)

    assert state.is_completed() and state.name == "Incomplete"
    assert state.message == "4 of 5 rows have their video; 1 failed"
    found = await report(state)
    again = tmp_path / "again.csv"
    again.write_text(read(media_store, found.files.to_run_again), encoding="utf-8")
    (row,) = csv.DictReader(again.open(encoding="utf-8"))
    assert row["seed"] == "2" and "was told to fail" in row["error"]

    once_more = await run(str(again), account, media_store)

    assert once_more.is_failed(), "all of its rows failed"
    assert (await report(once_more)).counts == {"failed": 1}
    assert sandbox.books().submissions_accepted == 6


async def test_a_bad_row_means_that_nothing_is_paid_for(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Every bad row is named with its line, including files that are no images and duplicate images."""
    picture = Image.new("RGB", (64, 64), "teal")
    picture.save(tmp_path / "one.png")
    (tmp_path / "same.png").write_bytes((tmp_path / "one.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    source = manifest(
        tmp_path,
        {"prompt": "waves", "image": "one.png"},
        {"prompt": "waves", "image": "broken.png"},
        {"prompt": "waves", "image": "missing.png"},
        {"prompt": "waves", "image": "same.png"},
        {"prompt": "", "image": "one.png"},
    )

    state = await run(source, account, media_store)

    error = await state.aresult(raise_on_failure=False)
    assert isinstance(error, InvalidInput)
    named = dict(error.violations)
    assert sorted(named) == ["line 3", "line 4", "line 5", "line 6"]
    assert "same content as that of line 2" in named["line 5"]
    assert sandbox.books().submissions_received == 0


async def test_images_become_videos(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """An image that many rows share is staged once; JSON Lines and the defaults of the run work together."""
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "one.png")
    rows = [{"image": "one.png", "seed": number} for number in range(3)]
    source = tmp_path / "pictures.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    done = await report(
        await run(str(source), account, media_store, defaults=OrderDefaults(prompt="waves", resolution="480p"))
    )

    assert done.counts == {"archived": 3}
    inputs = [request.inputs for request in sandbox.books().requests]
    assert {entry["resolution"] for entry in inputs} == {"480p"} and {entry["prompt"] for entry in inputs} == {"waves"}
    staged = media_store.get_store().client.list_objects_v2(
        Bucket="videos", Prefix=media_store.get_store().key("images/")
    )
    assert staged["KeyCount"] == 1


async def test_a_budget_is_never_exceeded(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """The first rows that it pays for are generated; a larger one continues there, and counts what was paid."""
    source = manifest(tmp_path, *scenes(8))

    found = await report(await run(source, account, media_store, budget_usd=1.1, usd_per_video=0.25))

    assert found.counts == {"archived": 4, "not_started": 4}
    assert sandbox.books().usd_charged == 1.0
    results = list(csv.DictReader(io.StringIO(read(media_store, found.files.results))))
    assert [row["status"] for row in results] == ["archived"] * 4 + ["not_started"] * 4
    assert "needs a larger budget_usd" in results[-1]["error"]

    same = await report(await run(source, account, media_store, budget_usd=1.1, usd_per_video=0.25))
    more = await report(await run(source, account, media_store, budget_usd=1.5, usd_per_video=0.25))

    assert same.counts == {"existing": 4, "not_started": 4}
    assert more.counts == {"existing": 4, "archived": 2, "not_started": 2}
    assert more.cost_usd == sandbox.books().usd_charged == 1.5


async def test_a_failed_generation_counts_in_the_budget(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Whether a failure is billed is unknown, so it counts: run again and again, the budget holds."""
    source = manifest(tmp_path, *({**row, "prompt": f"{row['prompt']} [sandbox: result=failed]"} for row in scenes(3)))

    for _ in range(3):
        await run(source, account, media_store, budget_usd=1.0, usd_per_video=0.25)

    assert sandbox.books().usd_charged == 1.0


async def test_a_cheaper_generation_leaves_more_for_the_others(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Each counts at the price that was given until the service reports its cost."""
    found = await report(
        await run(manifest(tmp_path, *scenes(6)), account, media_store, budget_usd=1.0, usd_per_video=0.5, at_once=2)
    )

    assert found.counts == {"archived": 3, "not_started": 3}, "0.75 are spent, and one more might cost 0.50"
    assert sandbox.books().usd_charged == 0.75


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"budget_usd": 5.0}, ConfigurationError),
        ({"budget_usd": -1.0, "usd_per_video": 1.0}, ParameterTypeError),
        ({"at_once": 0}, ParameterTypeError),
        ({"rows_per_shard": 2}, ConfigurationError),
    ],
)
async def test_bad_run_settings_are_refused_before_anything_is_paid_for(
    sandbox: Sandbox,
    account: RunComfyCredentials,
    media_store: MediaStore,
    tmp_path: Path,
    given: dict[str, Any],
    refused: type[Exception],
) -> None:
    """A budget without a price, a negative one, zero at once, and shards without stored blocks or deployment."""
    state = await run(manifest(tmp_path, *scenes(2)), account, media_store, **given)

    assert isinstance(await state.aresult(raise_on_failure=False), refused)
    assert sandbox.books().submissions_received == 0


@pytest.mark.parametrize("fault", ["no_balance", "bad_token"])
async def test_a_fault_that_concerns_all_rows_stops_all(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path, fault: str
) -> None:
    """Without balance or with a bad token, the rows that have not begun are not tried one by one."""
    if fault == "no_balance":
        sandbox.inject("http_402", endpoint="submit", rate=1.0)
    else:
        account = account.model_copy(update={"api_token": SecretStr("no-such-token")})

    found = await report(await run(manifest(tmp_path, *scenes(30)), account, media_store, at_once=2))

    assert found.archived == 0 and found.counts["not_started"] >= 25
    assert found.counts["refused"] + found.counts["not_started"] == 30
    assert sandbox.books().submissions_accepted == 0


async def test_one_refusal_of_the_token_stops_nothing(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """A second call shows that the token is good: only the refused row has no video."""
    sandbox.inject("http_401", endpoint="submit", times=1)

    found = await report(await run(manifest(tmp_path, *scenes(4)), account, media_store, at_once=1))

    assert found.counts == {"archived": 3, "refused": 1}


async def test_a_rate_limit_is_waited_out(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Refusals for the rate of calls are no failures of rows."""
    sandbox.inject("http_429", endpoint="submit", times=10, retry_after=1)

    found = await report(await run(manifest(tmp_path, *scenes(4)), account, media_store))

    assert found.counts == {"archived": 4}
    assert sandbox.books().submissions_accepted == 4


async def test_two_runs_at_once_pay_once(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Two runs of the same manifest share every generation."""
    source = manifest(tmp_path, *scenes(10))

    both = await asyncio.gather(*(run(source, account, media_store.model_copy()) for _ in range(2)))

    assert [(await report(state)).archived for state in both] == [10, 10]
    assert sandbox.books().submissions_accepted == 10


async def test_the_page_of_the_run_shows_what_became_of_it(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """A progress bar that ended at the right place, a summary, and a table that begins with the failed row."""
    rows = scenes(4)
    rows[3]["prompt"] += " [sandbox: result=failed]"

    state = await run(manifest(tmp_path, *rows), account, media_store)

    keys = ["runcomfy-progress", "runcomfy-batch", "runcomfy-batch-rows"]
    async with get_client() as client:
        found = await client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=keys)))
    shown = {
        artifact.key: artifact.data
        for artifact in sorted(found, key=lambda artifact: artifact.created)  # type: ignore[arg-type,return-value]
        if artifact.flow_run_id == state.state_details.flow_run_id
    }
    assert shown["runcomfy-progress"] == 100.0
    assert "3 of 4 rows have their video; 1 failed" in str(shown["runcomfy-batch"])
    table = json.loads(str(shown["runcomfy-batch-rows"]))
    assert [row["line"] for row in table] == [5, 2, 3, 4]


async def test_deadlines_hold_for_each_row(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """A request that runs too long is detached, and another run collects it without paying."""
    sandbox.hold(queue=False, runs=True)
    source = manifest(tmp_path, *scenes(2))

    late = await report(
        await run(source, account, media_store, deadlines=Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.3))
    )
    sandbox.release()
    collected = await report(await run(source, account, media_store))

    assert late.counts == {"detached": 2} and collected.counts == {"archived": 2}
    assert sandbox.books().submissions_accepted == 2


async def cancel(name: str) -> None:
    """Cancel the newest run of this name, as somebody does in the UI."""
    async with get_client() as client:
        (run, *_) = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])),
            sort=FlowRunSort.START_TIME_DESC,
        )
        await client.set_flow_run_state(run.id, Cancelling(), force=True)


@pytest.mark.slow
async def test_two_runs_that_waited_for_slots_share_one_budget(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """The second reads again what was paid when its turn comes, instead of spending the same money once more."""
    async with get_client() as client:
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="batches", limit=4))
    account = account.model_copy(update={"concurrency_limit": "batches"})
    source = manifest(tmp_path, *scenes(10))
    given = {"budget_usd": 1.0, "usd_per_video": 0.25, "at_once": 4}

    async with concurrency("batches", occupy=4):
        both = [asyncio.create_task(run(source, account, media_store.model_copy(), **given)) for _ in range(2)]
        await asyncio.sleep(5)
    reports = [await report(await each) for each in both]

    assert sandbox.books().usd_charged == 1.0
    assert sorted(found.counts.get("archived", 0) for found in reports) == [0, 4]


async def test_a_cancelled_batch_ends_while_it_waits_for_its_budget(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """The queued requests are cancelled, and nothing more is submitted."""
    sandbox.hold()
    source = manifest(tmp_path, *scenes(6), name="cancelled while it waits.csv")
    task = asyncio.create_task(run(source, account, media_store, budget_usd=0.5, usd_per_video=0.25, at_once=4))
    while sandbox.books().submissions_accepted < 2:
        assert not task.done()
        await asyncio.sleep(0.1)

    await cancel("cancelled-while-it-waits-csv")
    ended, _ = await asyncio.wait({task}, timeout=300)

    assert ended
    assert (sandbox.books().submissions_accepted, sandbox.books().cancelled) == (2, 2)


async def test_a_paid_row_is_never_called_not_started(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """A bad token stops a batch; rows whose requests are running are detached, not refused or not started."""
    sandbox.hold(queue=False, runs=True)
    source = manifest(tmp_path, *scenes(2))
    soon = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.3)
    await run(source, account, media_store, deadlines=soon, at_once=2)

    bad = account.model_copy(update={"api_token": SecretStr("no-such-token")})
    found = await report(await run(source, bad, media_store, at_once=1))

    assert set(found.counts) == {"detached"}


async def test_requests_of_earlier_runs_count_at_their_cost(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """As the service reports it, also where this run only collects."""
    sandbox.hold(queue=False, runs=True)
    source = manifest(tmp_path, *scenes(2))
    soon = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.3)
    await run(source, account, media_store, deadlines=soon)
    sandbox.release()

    assert (await report(await run(source, account, media_store))).cost_usd == sandbox.books().usd_charged == 0.5


SAVED_BY_OTHERS = {
    "lf.csv": b'prompt,seed\n"A cat\nsits down",1\nCaf\xc3\xa9,2\nA dog,3\n',
    "excel.csv": b'\xef\xbb\xbfprompt,seed\r\n"A cat\r\nsits down",1\r\nCafe\xcc\x81,2\r\n"A dog ",3\r\n',
    "lines.jsonl": b'{"prompt":"A cat\\nsits down","seed":1}\n'
    b'{"prompt":"Caf\\u00e9","seed":2.0}\n{"prompt":"A dog","seed":3}\n',
}


async def test_a_manifest_that_another_program_saved_again_pays_for_nothing(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """What an earlier version recorded of a text as it was given is continued under its key of then."""
    inputs, journal = TextToVideo(prompt="A dog ", seed=3), media_store.get_journal()
    earlier = GenerationSpec(inputs, sandbox.url, known_as=earlier_key(inputs))
    intent = await journal.create(earlier.intent("old:1"))
    assert intent is not None
    await journal.replace(intent, intent.entry.moved(EntryState.UNCERTAIN, worker="old:1"))
    counts = []
    for name, content in SAVED_BY_OTHERS.items():
        (tmp_path / name).write_bytes(content)
        done = await report(await run(str(tmp_path / name), account, media_store))
        counts.append(done.counts)
        results = list(csv.DictReader(io.StringIO(read(media_store, done.files.results))))
        assert (results[2]["generation_key"] == earlier.key) == (name == "excel.csv")

    # The third row of the second file is the one that an earlier version has lost track of.
    assert counts == [{"archived": 3}, {"existing": 2, "uncertain": 1}, {"existing": 3}]
    assert sandbox.books().submissions_accepted == 3


async def test_placeholder_rows_are_refused_unless_they_are_allowed(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Nothing is submitted, not even the good rows."""
    source = manifest(tmp_path, {"prompt": "rain", "seed": "1"}, {"prompt": "#REF!", "seed": "2"})

    refused = await run(source, account, media_store)
    assert isinstance(await refused.aresult(raise_on_failure=False), InvalidInput)
    assert sandbox.books().submissions_received == 0

    done = await report(await run(source, account, media_store, allow_placeholder_prompts=True))
    assert done.counts == {"archived": 2}


async def test_a_cause_that_is_common_to_all_pays_for_five(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """At default settings: the state, the results and the report name it, and no unstarted row hides it."""
    sandbox.inject("failed", rate=1.0)

    state = await run(manifest(tmp_path, *scenes(60)), account, media_store)

    found = await report(state)
    assert sandbox.books().submissions_accepted == 5
    assert found.counts == {"failed": 5, "not_started": 55}
    assert (found.stopped_by, state.is_failed()) == ("CommonCause", True)
    assert "The first 5 that were paid for failed alike" in str(state.message) and "told to fail" in str(state.message)
    rows = list(csv.DictReader(io.StringIO(read(media_store, found.files.results))))
    assert all("told to fail" in row["error"] for row in rows)

    again = await run(manifest(tmp_path, *scenes(60)), account, media_store)

    assert sandbox.books().submissions_accepted == 6, "a schedule that runs it again pays for one"
    assert "the same again" in str(again.message)


async def test_a_stopped_shard_stops_those_that_start_later(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """They send nothing, and report the same of their rows; also of a stop that the journal does not hold."""
    plan = await plan_batch(manifest(tmp_path, *scenes(6)), account, media_store, {}, allow_placeholder_prompts=False)
    store = media_store.get_store()
    shards = [
        Shard(number=n, rows_key=store.key(f"parts/{n}.rows"), outcomes_key=store.key(f"parts/{n}.out")) for n in (1, 2)
    ]
    for shard, rows in zip(shards, divide(plan.rows, 3), strict=True):
        store.put(shard.rows_key, rows_to_json(rows), content_type="application/x-ndjson")
    nothing_left = account.model_copy(update={"api_token": SecretStr("no-such-token")})

    counts = [
        await batch_shard(shards[0], nothing_left, media_store),
        await batch_shard(shards[1], account, media_store),
    ]

    assert counts[1] == {"not_started": 3}
    told = outcomes_from_json(store.read(shards[1].outcomes_key, limit_bytes=10**6)).values()
    assert {outcome.error_type for outcome in told} == {"AuthenticationError"}
    assert sandbox.books().submissions_accepted == 0


@pytest.mark.slow
async def test_a_recently_proven_model_starts_at_once_and_stops_after_twenty(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """The journal has an archived one; then a common cause arises, and costs what is in flight and twenty."""
    await run(manifest(tmp_path, *scenes(1, variation="first")), account, media_store)
    sandbox.inject("failed", rate=1.0)

    found = await report(await run(manifest(tmp_path, *scenes(60)), account, media_store, at_once=10))

    assert 20 <= sandbox.books().submissions_accepted - 1 <= 30
    assert found.stopped_by == "CommonCause"
    resumed = await report(
        await run(manifest(tmp_path, *scenes(60)), account, media_store, at_once=10, stop_after_alike=61)
    )
    assert resumed.counts == {"failed": 60}


async def test_two_runs_at_once_share_one_budget_and_report_what_was_paid(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """The other run pays again for each row that fails in one, until nothing is left; both report correctly."""
    rows = [{**row, "prompt": f"{row['prompt']} [sandbox: result=failed]"} for row in scenes(6)]
    source = manifest(tmp_path, *rows, *scenes(6, variation="good"))
    given = {"budget_usd": 2.0, "usd_per_video": 0.25, "first_at_once": 20}

    both = await asyncio.gather(*(run(source, account, media_store.model_copy(), **given) for _ in range(2)))

    charged = sandbox.books().usd_charged
    assert charged <= 2.0
    assert max([(await report(state)).cost_usd for state in both]) == charged
    assert {(await report(state)).stopped_by for state in both} == {"BudgetReached"}


async def test_a_row_that_was_paid_for_is_never_called_not_started(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """Its earlier attempt failed, and the budget has nothing left for another one: it is still one that failed."""
    source = manifest(tmp_path, *({**row, "prompt": f"{row['prompt']} [sandbox: result=failed]"} for row in scenes(3)))
    given = {"budget_usd": 0.5, "usd_per_video": 0.25}
    await run(source, account, media_store, **given)

    found = await report(await run(source, account, media_store, **given))

    assert found.counts == {"failed": 2, "not_started": 1}
    assert found.cost_usd == sandbox.books().usd_charged == 0.5
    rows = list(csv.DictReader(io.StringIO(read(media_store, found.files.results))))
    assert [row["cost_usd"] for row in rows] == ["0.25", "0.25", ""]
    assert "larger budget_usd" in rows[0]["error"] and "earlier request" in rows[0]["error"]
