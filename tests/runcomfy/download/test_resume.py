"""A connection that breaks in the middle of a file: what is resumed, and what must not be."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcomfy.archive.archive import archive_output
from runcomfy.archive.provenance import Provenance
from runcomfy.download.hosts import HostPolicy
from runcomfy.download.stream import RetryBudget, open_url
from runcomfy.errors import DownloadError, HostNotAllowed, RunComfyError
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from runcomfy.values import GenerationFacts
from tests.runcomfy.archive.test_archive import keys, unfinished_uploads, video
from tests.runcomfy.certificate import server_context, write_certificate
from tests.runcomfy.download.ranged_server import Asked, Break, RangedServer, ranged_server
from tests.runcomfy.download.test_stream import all_text_of

LOOPBACK = HostPolicy(("127.0.0.1",))
HASTY = RetryBudget(first_pause_seconds=0.001)
NOISE = random.Random(5).randbytes(3_000_000)
FACTS = GenerationFacts(model_id="wan-ai/wan-2-1/text-to-video", request_id="r-1")


@pytest.fixture
def server() -> Iterator[RangedServer]:
    """A host whose file is three megabytes of noise."""
    with ranged_server() as running:
        running.body = NOISE
        yield running


def read(server: RangedServer, retry_budget: RetryBudget = HASTY, amount: int = 300_000) -> bytes:
    with open_url(server.url, LOOPBACK, retry_budget=retry_budget) as download:
        return b"".join(iter(lambda: download.read(amount), b""))


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [[1_500_000], [200_000] * 7, [2_999_999], [0], [0, 0, 100_000, 0, 0, 200_000]])
def test_a_broken_connection_is_replaced(server: RangedServer, after: list[int], reset: bool) -> None:
    """The rest is asked for from where the file broke off, of the same version, and the bytes are the file's."""
    server.breaks = [Break(size, reset) for size in after]

    assert read(server) == NOISE

    assert server.asked[0] == Asked(None, None, None)
    assert {(asked.end, asked.if_range) for asked in server.asked[1:]} == {(len(NOISE), '"v1"')}
    starts = [asked.start or 0 for asked in server.asked[1:]]
    assert len(starts) == len(after)
    assert starts == sorted(starts)
    if not reset:
        assert starts == [sum(after[: number + 1]) for number in range(len(after))]


@given(
    breaks=st.lists(st.builds(Break, st.integers(0, 400_000), st.booleans()), max_size=8),
    size=st.integers(1, 1_000_000),
    amount=st.integers(1_000, 2_000_000),
)
@settings(max_examples=60)
def test_wherever_it_breaks_the_bytes_are_right(
    server: RangedServer, breaks: list[Break], size: int, amount: int
) -> None:
    """Wherever and however it breaks, and whatever the sizes of reads: the digest is that of the whole file."""
    server.body, server.breaks = NOISE[:size], list(breaks)

    data = read(server, RetryBudget(resumes=9, first_pause_seconds=0.0), amount)

    assert hashlib.sha256(data).digest() == hashlib.sha256(NOISE[:size]).digest()


def test_a_server_that_sends_less_than_was_asked_for_is_asked_again(server: RangedServer) -> None:
    """A part may be shorter than the range, and is used."""
    server.breaks = [Break(1_000_000)]
    server.shorter_parts = [100_000]

    assert read(server) == NOISE
    assert [asked.start for asked in server.asked] == [None, 1_000_000, 1_100_000]


@pytest.mark.parametrize(
    "headers",
    [{}, {"ETag": 'W/"v1"'}, {"ETag": "v1"}, {"ETag": '"v1"', "Content-Length": "", "Connection": "close"}],
    ids=["none", "weak", "unquoted", "no length"],
)
def test_without_proof_that_it_is_the_same_file_nothing_is_resumed(
    server: RangedServer, headers: dict[str, str]
) -> None:
    """Without a strong ETag or a length, a broken connection is an error, and a new try starts from zero."""
    server.headers = headers
    server.breaks = [Break(1_000_000, reset=True)]

    with pytest.raises(DownloadError) as failed:
        read(server)

    assert failed.value.retryable
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "parts"),
    [
        ("200 OK", {"Content-Range": ""}),
        ("206 Part", {"ETag": '"v2"'}),
        ("206 Part", {"ETag": 'W/"v1"'}),
        ("206 Part", {"ETag": ""}),
        ("206 Part", {"Content-Range": "bytes 999999-2999999/3000000"}),
        ("206 Part", {"Content-Range": "bytes 1000001-2999999/3000000"}),
        ("206 Part", {"Content-Range": "bytes 1000000-2999999/3000001"}),
        ("206 Part", {"Content-Range": "bytes 1000000-3000000/3000000"}),
        ("206 Part", {"Content-Range": "bytes 1000000-10/3000000"}),
        ("206 Part", {"Content-Range": "none of your business"}),
        ("206 Part", {"Content-Range": "", "Content-Type": "multipart/byteranges; boundary=x"}),
        ("206 Part", {"Content-Encoding": "gzip"}),
        ("416 No", {}),
        ("412 No", {}),
    ],
)
def test_parts_of_a_file_that_changed_are_not_joined(server: RangedServer, status: str, parts: dict[str, str]) -> None:
    """Whatever is not surely the rest of the same file is a retryable error, and is not requested again."""
    server.breaks = [Break(1_000_000)]
    server.part_status = [status]
    server.parts = parts

    with pytest.raises(DownloadError, match="changed") as failed:
        read(server)

    assert failed.value.retryable
    assert "s3cr3t" not in all_text_of(failed.value)
    assert len(server.asked) == 2


def test_a_url_that_expires_in_the_meantime_is_reported(server: RangedServer) -> None:
    """On this error a caller requests a fresh URL; the old one is not tried again."""
    server.breaks = [Break(1_000_000)]
    server.part_status = ["403 Forbidden"]

    with pytest.raises(DownloadError, match="expired") as failed:
        read(server)

    assert failed.value.http_status == 403
    assert "s3cr3t" not in all_text_of(failed.value)
    assert len(server.asked) == 2


@pytest.mark.parametrize("location", ["https://evil.example/v?token=s3cr3t", "http://localhost:{port}/v"])
def test_a_resumed_request_is_checked_like_the_first(server: RangedServer, location: str) -> None:
    """A redirect of the second request to a host that is not allowed is refused, whatever came before."""
    server.breaks = [Break(1_000_000)]
    server.part_status = ["302 Found"]
    server.parts = {"Location": location.format(port=server.port)}

    with pytest.raises(HostNotAllowed) as refused:
        read(server)

    assert "s3cr3t" not in all_text_of(refused.value)
    assert len(server.asked) == 2


def test_a_redirect_is_followed_for_the_rest_as_well(server: RangedServer) -> None:
    """Each request starts at the original URL, because what it redirects to may be signed for a moment only."""
    server.breaks = [Break(1_000_000)]
    server.part_status = ["307 Elsewhere"]
    server.parts = {"Location": "/somewhere/else"}

    assert read(server) == NOISE
    assert [asked.start for asked in server.asked] == [None, 1_000_000, 1_000_000]


def test_a_server_in_trouble_is_waited_for(server: RangedServer) -> None:
    """A 503 and a 429 for the rest are waited out like another break."""
    server.breaks = [Break(1_000_000)]
    server.part_status = ["503 Oh", "429 Slow"]

    assert read(server) == NOISE
    assert len(server.asked) == 4


@pytest.mark.parametrize("after", [0, 100])
def test_a_server_that_gives_nothing_more_is_given_up(server: RangedServer, after: int) -> None:
    """After three new connections that bring next to nothing, the break is raised."""
    server.breaks = [Break(1_000_000)] + [Break(after)] * 100

    with pytest.raises(DownloadError) as failed:
        read(server)

    assert failed.value.retryable
    assert len(server.asked) == 4


@pytest.mark.parametrize("where", ["pause", "answer"])
def test_a_cancellation_ends_the_resuming_at_once(server: RangedServer, where: str) -> None:
    """Neither the pause before a new connection nor an answer that does not come keeps a cancellation waiting."""
    server.breaks = [Break(1_000_000)]
    server.silent_parts = True
    retry_budget = RetryBudget(first_pause_seconds=3600 if where == "pause" else 0.0)
    with open_url(server.url, LOOPBACK, retry_budget=retry_budget) as download:
        assert len(download.read(1_000_000)) == 1_000_000
        failed: list[DownloadError] = []

        def read_on() -> None:
            try:
                download.read(1_000_000)
            except DownloadError as error:
                failed.append(error)

        reader = threading.Thread(target=read_on)
        reader.start()
        assert server.asked_for_part.wait(120 if where == "answer" else 0.3) == (where == "answer")
        download.unblock()
        reader.join(120)

    assert failed
    assert len(server.asked) == (2 if where == "answer" else 1)


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangedServer]:
    """The same over TLS, with a certificate that this process trusts."""
    certificate = write_certificate(tmp_path / "certificate.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with ranged_server(server_context(certificate)) as running:
        running.body = NOISE
        yield running


@pytest.mark.parametrize("reset", [False, True])
def test_encryption_makes_no_difference(tls_server: RangedServer, reset: bool) -> None:
    """Over TLS a broken connection is replaced like any other."""
    tls_server.breaks = [Break(1_000_000, reset), Break(500_000, reset)]

    assert read(tls_server) == NOISE
    assert len(tls_server.asked) == 3


def test_a_cancellation_ends_an_encrypted_silence(tls_server: RangedServer) -> None:
    """A read over TLS that blocks is ended from another thread, and returns nothing that is not of the file."""
    tls_server.breaks, tls_server.silent_parts = [Break(1_000_000)], True
    with pytest.raises(DownloadError), open_url(tls_server.url, LOOPBACK, retry_budget=HASTY) as download:
        stop = threading.Timer(0.3, download.unblock)
        stop.start()
        assert NOISE.startswith(download.read(2_000_000))
    stop.join()
    assert len(tls_server.asked) <= 2, "the silence was ended by a time-out"


async def archived(server: RangedServer, store: Store, retry_budget: RetryBudget = HASTY) -> Provenance:
    archive = await archive_output(server.url, 0, FACTS, store, hosts=LOOPBACK, retry_budget=retry_budget)
    return Provenance.from_json(store.read(archive.provenance_key, limit_bytes=10_000))


@pytest.mark.parametrize("size", [0, 20_000_000])
async def test_a_resumed_file_is_archived_like_any_other(server: RangedServer, store: Store, size: int) -> None:
    """The object, its digest and its facts are those of the file, of one part and of several."""
    server.body = video(size)
    server.breaks = [Break(len(server.body) // 3), Break(len(server.body) // 3, reset=True)]

    provenance = await archived(server, store)

    assert provenance.source_sha256 == hashlib.sha256(server.body).hexdigest()
    with store.open(store.key("wan-ai/wan-2-1/text-to-video/r-1-0.mp4")) as body:
        assert hashlib.sha256(body.read(1 << 30)).hexdigest() == provenance.sha256
    assert provenance.media.frames == 8
    assert len(server.asked) == 3


@pytest.mark.parametrize("trouble", ["changed", "gone"])
async def test_a_download_that_cannot_be_resumed_leaves_nothing(
    server: RangedServer, store: Store, object_store: ObjectStore, trouble: str
) -> None:
    """A file that changed, and one that breaks for good, are not half in the bucket."""
    server.body = video(20_000_000)
    server.breaks = [Break(18_000_000)] + [Break(0)] * (20 if trouble == "gone" else 0)
    server.parts = {"ETag": '"v2"'} if trouble == "changed" else {}

    with pytest.raises(RunComfyError):
        await archived(server, store)

    assert keys(object_store, store) == []
    assert unfinished_uploads(object_store, store) == []


async def test_cancelling_in_a_pause_leaves_nothing(
    server: RangedServer, store: Store, object_store: ObjectStore
) -> None:
    """An archive that is cancelled while it waits to go on ends at once, with nothing in the bucket."""
    server.body = video(20_000_000)
    server.breaks = [Break(18_000_000)]
    work = asyncio.create_task(archived(server, store, RetryBudget(first_pause_seconds=3600)))
    while not server.broken:  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)

    work.cancel()
    async with asyncio.timeout(120):
        with pytest.raises(asyncio.CancelledError):
            await work

    assert (keys(object_store, store), unfinished_uploads(object_store, store)) == ([], [])


async def test_the_memory_does_not_grow_with_the_file(server: RangedServer, store: Store) -> None:
    """An archive takes less than 16 MB on top."""
    server.body = video(100_000_000)
    tracemalloc.start()
    try:
        await archived(server, store)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 16e6
