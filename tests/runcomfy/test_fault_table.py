"""Every endpoint under every fault: a whole generation against a sandbox and an S3 server, without waiting."""

from __future__ import annotations

import asyncio
import io
import itertools
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from PIL import Image

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import Clock
from runcomfy.api.requests import collect
from runcomfy.archive.archive import archive_answer
from runcomfy.archive.provenance import Provenance
from runcomfy.download.hosts import HostPolicy
from runcomfy.download.stream import RetryBudget
from runcomfy.errors import RunComfyError, SubmissionNotSent
from runcomfy.generation.staging import sign, stage_image
from runcomfy.models import ImageToVideo
from runcomfy.policy import Deadlines, Polling
from runcomfy.polling.poll import poll_until_done
from runcomfy.sandbox import FAULTS, Sandbox, SandboxSettings
from runcomfy.sandbox.faults import ENDPOINTS
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.keys import KeyTemplate
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo, GenerationFacts
from tests.runcomfy.fault_table import ARCHIVED, ENDLESS, EXCLUDED, TABLE, Case
from tests.runcomfy.journal.making import instantly, submit_with_new_journal

TOKEN = "token-of-the-fault-table-71c4"
PRICE_USD = 0.25
LARGE_BYTES = 9_000_000  # more than is uploaded in one piece
START = datetime(2026, 11, 21, tzinfo=UTC)
HASTY_SECONDS, PATIENT_SECONDS = 0.3, 60.0
HASTY = RetryBudget(first_pause_seconds=0.001)
ATTEMPTS = 3

_numbers = itertools.count()


@pytest.fixture(scope="module")
def faulty() -> Iterator[Sandbox]:
    """One sandbox for the whole table."""
    with Sandbox(SandboxSettings(token=TOKEN, run_seconds=0, price_usd=PRICE_USD, tiny_videos=True)) as running:
        yield running


@pytest.fixture(scope="module")
def archive(object_store: ObjectStore) -> Store:
    """One store for the whole table: each client of boto3 takes longer to make than a case to run."""
    return Store("videos", "fault-table", session=object_store.session(), endpoint_url=object_store.endpoint_url)


@pytest.fixture(scope="module")
def s3(object_store: ObjectStore) -> Any:
    """Reads the bucket past the code under test."""
    session: boto3.Session = object_store.session()
    return session.client("s3", endpoint_url=object_store.endpoint_url)


@pytest.fixture(scope="module")
def signed_image_url(archive: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A staged image, signed as for a submission."""
    path: Path = tmp_path_factory.mktemp("image") / "image.png"
    image = io.BytesIO()
    Image.new("RGB", (48, 32), "teal").save(image, "PNG")
    path.write_bytes(image.getvalue())
    url = sign(asyncio.run(stage_image(path, archive)), archive, timedelta(hours=1))
    assert "Signature=" in url
    return url


class Generation:
    """One generation from its submission to the bucket, as the tasks do it, and the world around it.

    The test controls the clock: a pause is over at once, and the service makes its next step in it. So each request is
    seen in the queue, running, and finished, unless the case says otherwise.
    """

    def __init__(self, sandbox: Sandbox, store: Store, image_url: str, case: Case | None) -> None:
        self.sandbox, self.store, self.case = sandbox, store, case
        self.scenario = case.line.scenario if case else "run"
        self.prefix = f"case-{next(_numbers)}/"
        self.seconds = 0.0
        self.pauses = 0
        self.request_id: str | None = None
        directive = f" [sandbox: output_bytes={LARGE_BYTES}]" if self.scenario == "large" else ""
        self.inputs = ImageToVideo(prompt=f"a wave breaks{directive}", image_url=image_url)

    def client(self, *endpoints: str) -> RunComfyClient:
        """Give up soon only where an answer is never going to come."""
        hopeless = (
            self.case and self.case.endpoint in endpoints and ENDLESS.items() <= self.case.line.parameters.items()
        )
        seconds = HASTY_SECONDS if hopeless else PATIENT_SECONDS
        transport = httpx.AsyncHTTPTransport(verify=False)  # there is no TLS here, and loading it takes its time
        return RunComfyClient(
            TOKEN,
            base_url=self.sandbox.url,
            timeout_seconds=seconds,
            paid_call_seconds=seconds,
            transport=transport,
        )

    def strike(self) -> None:
        if (case := self.case) is not None:
            often = {"rate": 1.0} if case.always else {"times": 1}
            self.sandbox.inject(case.fault, endpoint=case.endpoint, **often, **case.line.parameters)

    async def run(self) -> list[ArchivedVideo]:
        self.sandbox.hold(queue=True, runs=False)
        if self.scenario != "collect":
            self.strike()
        if self.case is not None and self.case.endpoint == "balance":
            async with self.client("balance") as client:
                await client.balance_usd()
                return []
        async with self.client("submit") as client:
            submission = await submit_with_new_journal(client, self.inputs, attempts=ATTEMPTS, sleep=instantly)
        self.request_id = submission.request_id
        await self.wait()
        if self.scenario == "collect":
            self.strike()
        return await self.archive()

    async def wait(self) -> None:
        clock = Clock(lambda: START + timedelta(seconds=self.seconds), lambda: self.seconds, self.pause, lambda: 0.0)
        async with self.client("status", "result", "cancel") as client:
            async for poll in poll_until_done(
                client,
                str(self.request_id),
                submitted_at=START,
                deadlines=Deadlines(queue_timeout_seconds=100, run_timeout_seconds=200),
                polling=Polling(fraction=1.0, default_interval_seconds=5, min_interval_seconds=5, max_failures=6),
                clock=clock,
            ):
                last = poll
        assert last.result is not None

    async def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.pauses += 1
        if self.scenario == "cancelled" and self.pauses == 1:
            async with self.client() as someone:
                await someone.cancel(str(self.request_id))
        elif self.scenario == "held" or (self.scenario == "stuck" and self.pauses > 1):
            return
        elif self.pauses == 1:
            self.sandbox.hold(queue=False, runs=True)
        elif self.pauses == 2:
            self.finish()

    def finish(self) -> None:
        self.sandbox.release()
        self.sandbox.wait_for_end(str(self.request_id))

    async def archive(self) -> list[ArchivedVideo]:
        """Ask for the URLs and copy the files; again where the error says that this is free and may help."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self.archive_once()
            except RunComfyError as error:
                if not error.retryable or attempt == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def archive_once(self) -> list[ArchivedVideo]:
        async with self.client() as client:
            answer = await collect(client, str(self.request_id), sleep=lambda _: asyncio.sleep(0))
        facts = GenerationFacts(
            model_id=self.inputs.model_id, request_id=answer.request_id, inputs={"prompt": self.inputs.prompt}
        )
        return await archive_answer(
            answer,
            facts,
            self.store,
            hosts=HostPolicy(allowed=(self.sandbox.host,)),
            template=KeyTemplate(f"{self.prefix}{{request_id}}-{{index}}.{{ext}}"),
            retry_budget=HASTY,
        )

    def objects(self, s3: Any) -> list[str]:
        """List the objects in the bucket for this generation, and check that no upload is unfinished."""
        where = {"Bucket": self.store.bucket, "Prefix": self.store.key(self.prefix)}
        assert not s3.list_multipart_uploads(**where).get("Uploads")
        return [item["Key"] for item in s3.list_objects_v2(**where).get("Contents", [])]

    def check_archive(self, s3: Any, videos: list[ArchivedVideo], files: int) -> None:
        """Nothing but these files, their posters and their provenance, whole."""
        assert len(videos) == files
        parts = [(video.key, video.poster_key, video.provenance_key) for video in videos]
        expected = [key for names in parts for key in names if key is not None]
        assert sorted(expected) == sorted(self.objects(s3))
        for video in videos:
            body = s3.get_object(Bucket=video.bucket, Key=video.key)["Body"].read()
            provenance = s3.get_object(Bucket=video.bucket, Key=video.provenance_key)["Body"].read()
            assert len(body) == video.size_bytes
            assert Provenance.from_json(provenance).sha256 == video.sha256
            assert (video.media.frames or 0) > 0 or video.content_type.startswith("image/") or video.warnings
            assert_clean(provenance.decode())


def assert_clean(text: str) -> None:
    assert TOKEN not in text
    assert "Signature=" not in text


def everything_said(error: BaseException | None) -> Iterator[str]:
    """Yield every text of an error and of all that it came from."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield f"{one} {one!r} {one.args} {vars(one)}"
            pending += [one.__cause__, one.__context__]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
async def test_fault(case: Case, faulty: Sandbox, archive: Store, s3: Any, signed_image_url: str) -> None:
    """The outcome is the documented one, nothing is paid for twice, nothing half-written is visible, nothing leaks."""
    faulty.reset()
    generation = Generation(faulty, archive, signed_image_url, case)
    error: RunComfyError | None = None
    videos: list[ArchivedVideo] = []
    try:
        videos = await generation.run()
    except RunComfyError as caught:
        error = caught

    for text in everything_said(error):
        assert_clean(text)
    assert (ARCHIVED if error is None else type(error)) == case.outcome, repr(error)
    books = faulty.books()
    assert (books.submissions_accepted, books.submissions_received) == (case.line.accepted, case.line.sent)
    assert books.usd_charged == PRICE_USD * case.line.accepted
    assert books.tokens_leaked == 0
    assert books.faults_struck > 0 or FAULTS[case.fault].kind == "job", "the case is about something else"
    if error is None:
        generation.check_archive(s3, videos, case.line.files)
        odd = case.fault in ("unknown_names", "page_beside", "in_a_text", "echo_under_odd_name", "succeeded_with_error")
        assert all(
            any("result names" in said or "an error" in said for said in video.warnings) == odd for video in videos
        )
        return
    assert generation.objects(s3) == []
    if case.endpoint != "balance" and generation.request_id is not None:
        assert error.request_id == generation.request_id

    # What was paid for is not lost: when the fault is over, it can be fetched by its id alone.
    if FAULTS[case.fault].scope == "call" and books.requests and books.requests[0].state != "cancelled":
        faulty.clear_faults()
        generation.request_id = books.requests[0].id
        generation.finish()
        generation.check_archive(s3, await generation.archive(), 1)
        assert faulty.books().submissions_accepted == case.line.accepted


async def test_without_a_fault(faulty: Sandbox, archive: Store, s3: Any, signed_image_url: str) -> None:
    """Without a fault the same steps end with one archived file, so each outcome is due to its fault."""
    faulty.reset()
    generation = Generation(faulty, archive, signed_image_url, None)
    generation.check_archive(s3, await generation.run(), 1)
    books = faulty.books()
    assert (books.submissions_accepted, books.faults_struck, books.tokens_leaked) == (1, 0, 0)


async def test_a_large_file_that_breaks_off_is_not_read_again(
    faulty: Sandbox, archive: Store, s3: Any, signed_image_url: str
) -> None:
    """The rest comes over another connection, and no part of it twice."""
    faulty.reset()
    case = next(case for case in TABLE if case.name == "output-truncated-once-fraction=0.99-large")
    generation = Generation(faulty, archive, signed_image_url, case)
    generation.check_archive(s3, await generation.run(), 1)

    books = faulty.books()
    assert (books.faults_struck, books.downloads) == (1, 2)
    assert books.bytes_served < 1.1 * LARGE_BYTES


async def test_an_unreachable_service_is_sent_nothing() -> None:
    """A refused connection is tried again, and then it is certain that nothing was paid for."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    inputs = ImageToVideo(prompt="a wave breaks", image_url="https://images.example/wave.png")
    async with RunComfyClient(TOKEN, base_url=url) as client:
        with pytest.raises(SubmissionNotSent) as caught:
            await submit_with_new_journal(client, inputs, attempts=ATTEMPTS, sleep=pause)

    assert len(pauses) == ATTEMPTS - 1
    for text in everything_said(caught.value):
        assert_clean(text)


def test_the_table_covers_every_fault_at_every_endpoint() -> None:
    """A new fault or endpoint fails here until the table has its outcome."""
    wanted = set()
    for fault in FAULTS.values():
        for endpoint in set(fault.endpoints) - set(EXCLUDED):
            orders = (False, True) if endpoint == "submit" and "after" in fault.parameters else (None,)
            ways = (False, True) if fault.scope == "call" else (False,)
            wanted |= {(endpoint, fault.name, after, always) for after in orders for always in ways}
    there = {(case.endpoint, case.fault, case.line.parameters.get("after"), case.always) for case in TABLE}

    left_out = {("submit", "http_429", True, always) for always in (False, True)}
    assert wanted - there == left_out
    assert there <= wanted
    assert set(EXCLUDED) == {"catalogue", "submit http_429 after"}
    assert {case.endpoint for case in TABLE} == set(ENDPOINTS) - {"catalogue"}


def test_no_line_of_the_table_contradicts_another() -> None:
    """Each case is there once, and none allows a second paid submission."""
    names = [case.name for case in TABLE]
    assert len(names) == len(set(names))
    assert all(case.line.accepted <= 1 for case in TABLE)
