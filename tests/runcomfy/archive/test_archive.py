from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import pytest

from runcomfy.archive.archive import archive_output
from runcomfy.archive.provenance import Provenance
from runcomfy.download.hosts import HostPolicy
from runcomfy.errors import (
    ArchiveConflict,
    ArchiveError,
    ConfigurationError,
    DownloadError,
    HostNotAllowed,
    StorageError,
    UnexpectedContent,
)
from runcomfy.media.marking import ai_box
from runcomfy.media.validation import OutputValidation
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.keys import KeyTemplate
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo, GenerationFacts

HOSTS = HostPolicy(allowed=("127.0.0.1",))
FACTS = GenerationFacts(model_id="wan-ai/wan-2-1/text-to-video", request_id="r-1", inputs={"prompt": "A fox."}, seed=7)
LARGE = 20_000_000


@dataclass
class Answer:
    body: bytes = b""
    status: str = "200 OK"
    content_type: str = "video/mp4"
    headers: dict[str, str] = field(default_factory=dict)
    with_length: bool = True
    sent: int | None = None
    reset: bool = False
    stall: bool = False


class Source:
    """A server on loopback that answers as configured, and remembers its requests."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        self.sent_bytes = 0
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    outer.serve(self.request)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/out/video.mp4?signature=SECRET"

    def serve(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        self.requests.append(request.decode())
        answer = self.answers.pop(0) if self.answers else self.answer
        headers = {"Content-Type": answer.content_type, "Connection": "close", **answer.headers}
        if answer.with_length:
            headers["Content-Length"] = str(len(answer.body))
        lines = [f"HTTP/1.1 {answer.status}", *(f"{name}: {value}" for name, value in headers.items())]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        body = answer.body[: answer.sent]
        for at in range(0, len(body), 65536):
            connection.sendall(body[at : at + 65536])
            self.sent_bytes += len(body[at : at + 65536])
        if answer.stall:
            self.stalled.set()
            self.go_on.wait()
        if answer.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


@pytest.fixture
def source() -> Iterator[Source]:
    """A scripted output host."""
    source = Source()
    thread = threading.Thread(target=source.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield source
    source.go_on.set()
    source.server.shutdown()
    source.server.server_close()
    thread.join()


@cache
def video(size: int = 0, *, faststart: bool = True, shade: int = 9) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        options = {"movflags": "faststart"} if faststart else {}
        with av.open(str(path), "w", format="mp4", options=options) as container:
            stream = container.add_stream("libx264", rate=16)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for number in range(8):
                frame = av.VideoFrame(96, 64, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([shade * number % 256]) * plane.buffer_size)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        data = path.read_bytes()
    padding = size - len(data)
    return data + struct.pack(">I4s", padding, b"free") + bytes(padding - 8) if padding > 0 else data


def client(object_store: ObjectStore) -> Any:
    return object_store.session().client("s3", endpoint_url=object_store.endpoint_url)


def keys(object_store: ObjectStore, store: Store) -> list[str]:
    listed = client(object_store).list_objects_v2(Bucket=store.bucket, Prefix=store.prefix)
    return [found["Key"].removeprefix(store.prefix) for found in listed.get("Contents", [])]


def unfinished_uploads(object_store: ObjectStore, store: Store) -> list[Any]:
    listed = client(object_store).list_multipart_uploads(Bucket=store.bucket, Prefix=store.prefix)
    return list(listed.get("Uploads", []))


async def archive(source: Source, store: Store, **changes: Any) -> ArchivedVideo:
    arguments = {"index": 0, "facts": FACTS, "store": store, "hosts": HOSTS} | changes
    return await archive_output(source.url, **arguments)


@pytest.mark.parametrize("size", [0, 8 * 1024 * 1024, 8 * 1024 * 1024 + 1, LARGE])
@pytest.mark.parametrize("with_length", [True, False])
@pytest.mark.parametrize("faststart", [True, False])
async def test_a_whole_file_is_archived_with_its_provenance(
    source: Source, store: Store, object_store: ObjectStore, size: int, with_length: bool, faststart: bool
) -> None:
    """A whole file of any size is in the bucket byte for byte, marked, with its poster and provenance beside it."""
    data = video(size, faststart=faststart)
    source.answer = Answer(data, with_length=with_length)

    video_ = await archive(source, store)

    stored = client(object_store).get_object(Bucket=store.bucket, Key=video_.key)
    provenance = Provenance.from_json(store.read(video_.provenance_key, limit_bytes=10_000))
    marked = data + ai_box(FACTS.model_id)
    assert stored["Body"].read() == marked
    assert stored["ContentType"] == "video/mp4"
    assert video_.sha256 == provenance.sha256 == hashlib.sha256(marked).hexdigest()
    assert (provenance.marked, provenance.source_sha256) == (True, hashlib.sha256(data).hexdigest())
    assert (provenance.uri, provenance.size_bytes, provenance.media.frames) == (video_.uri, len(marked), 8)
    assert provenance.poster_uri == video_.poster_uri == f"{video_.uri}.jpg"
    assert (provenance.source_host, provenance.request_id, provenance.seed) == ("127.0.0.1", "r-1", 7)
    assert keys(object_store, store) == [
        "wan-ai/wan-2-1/text-to-video/r-1-0.mp4",
        "wan-ai/wan-2-1/text-to-video/r-1-0.mp4.jpg",
        "wan-ai/wan-2-1/text-to-video/r-1-0.mp4.json",
    ]
    assert (video_.already_archived, video_.warnings) == (False, ())
    assert unfinished_uploads(object_store, store) == []


FAULTS = {
    "HTML with 200": (lambda data: Answer(b"<!doctype html>" + bytes(len(data))), UnexpectedContent),
    "JSON with 200": (lambda data: Answer(b'{"error": "' + b"x" * len(data) + b'"}'), UnexpectedContent),
    "cut, length known": (lambda data: Answer(data, sent=len(data) * 3 // 4), DownloadError),
    "cut, length not known": (lambda data: Answer(data, with_length=False, sent=len(data) * 3 // 4), UnexpectedContent),
    "cut in the last byte": (lambda data: Answer(data, with_length=False, sent=len(data) - 1), UnexpectedContent),
    "reset halfway": (lambda data: Answer(data, sent=len(data) // 2, reset=True), DownloadError),
    "reset without length": (
        lambda data: Answer(data, with_length=False, sent=len(data) // 2, reset=True),
        (DownloadError, UnexpectedContent),
    ),
    "zero bytes": (lambda data: Answer(), UnexpectedContent),
    "403": (lambda data: Answer(data, status="403 Forbidden"), DownloadError),
    "404": (lambda data: Answer(data, status="404 Not Found"), DownloadError),
    "500": (lambda data: Answer(data, status="500 Oops"), DownloadError),
    "redirect elsewhere": (
        lambda data: Answer(data, status="302 Found", headers={"Location": "https://evil.example/x?token=SECRET"}),
        HostNotAllowed,
    ),
}


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_leaves_nothing(
    source: Source, store: Store, object_store: ObjectStore, fault: str, size: int
) -> None:
    """Whatever fails, no object, provenance or unfinished upload is left, and no secret leaks."""
    make, kinds = FAULTS[fault]
    source.answer = make(video(size))

    with pytest.raises(kinds) as caught:
        await archive(source, store)

    assert keys(object_store, store) == []
    assert unfinished_uploads(object_store, store) == []
    assert "SECRET" not in f"{caught.value} {caught.value!r} {caught.value.facts}"
    assert (caught.value.request_id, caught.value.output_index) == ("r-1", 0)


@pytest.mark.parametrize("size", [0, LARGE])
async def test_repeating_fixes_a_fault(source: Source, store: Store, object_store: ObjectStore, size: int) -> None:
    """After a broken transfer the same call succeeds."""
    source.answer = Answer(video(size), sent=len(video(size)) - 1)
    with pytest.raises(DownloadError):
        await archive(source, store)
    source.answer = Answer(video(size))

    video_ = await archive(source, store)

    assert (video_.already_archived, len(keys(object_store, store))) == (False, 3)


async def test_content_decides_not_the_header(source: Source, store: Store) -> None:
    """Good bytes under a wrong type are a good video, stored under the right type."""
    source.answer = Answer(video(), content_type="text/html")

    video_ = await archive(source, store)

    facts = store.head(video_.key)
    assert facts is not None
    assert (facts.content_type, video_.content_type) == ("video/mp4", "video/mp4")


async def test_no_token_is_sent(source: Source, store: Store) -> None:
    """The output host gets nothing that identifies anyone."""
    source.answer = Answer(video())

    await archive(source, store)

    headers = {line.partition(":")[0].lower() for line in source.requests[0].split("\r\n")[1:] if line}
    assert headers.isdisjoint({"authorization", "cookie", "proxy-authorization"})


@pytest.mark.parametrize("size", [0, LARGE])
async def test_a_repetition_is_cheap_and_changes_nothing(
    source: Source, store: Store, object_store: ObjectStore, size: int
) -> None:
    """A second call finds everything done and writes nothing."""
    source.answer = Answer(video(size))
    first = await archive(source, store)
    before = [store.head(first.key), store.head(first.provenance_key)]

    again = await archive(source, store)

    assert again == first.model_copy(update={"already_archived": True})
    assert [store.head(first.key), store.head(first.provenance_key)] == before


async def test_a_repetition_does_not_need_the_rest_of_the_file(source: Source, store: Store) -> None:
    """What is archived already is recognised from the first bytes of the source."""
    source.answer = Answer(video(LARGE))
    first = await archive(source, store)
    source.answer = Answer(video(LARGE), sent=5000, stall=True)

    again = await archive(source, store)

    assert (again.already_archived, again.sha256) == (True, first.sha256)


@pytest.mark.parametrize("size", [0, LARGE])
async def test_repeating_fixes_a_crash_before_the_provenance(
    source: Source, store: Store, object_store: ObjectStore, size: int
) -> None:
    """Where only the object exists, repeating adds the provenance, with one download, and leaves the object alone."""
    source.answer = Answer(video(size))
    first = await archive(source, store)
    before = client(object_store).head_object(Bucket=store.bucket, Key=first.key)
    client(object_store).delete_object(Bucket=store.bucket, Key=first.provenance_key)

    again = await archive(source, store)

    after = client(object_store).head_object(Bucket=store.bucket, Key=first.key)
    assert again == first.model_copy(update={"already_archived": True})
    assert (after["LastModified"], after["ETag"]) == (before["LastModified"], before["ETag"])
    assert Provenance.from_json(store.read(first.provenance_key, limit_bytes=10_000)).sha256 == first.sha256
    assert len(source.requests) == 2


@pytest.mark.parametrize("size", [0, LARGE])
async def test_a_lost_object_is_brought_back(
    source: Source, store: Store, object_store: ObjectStore, size: int
) -> None:
    """Where only a provenance exists, the object is fetched again; if it differs now, the provenance follows it."""
    source.answer = Answer(video(size))
    first = await archive(source, store)
    client(object_store).delete_object(Bucket=store.bucket, Key=first.key)
    source.answer = Answer(video(size, shade=5))

    again = await archive(source, store)

    assert again.sha256 == hashlib.sha256(video(size, shade=5) + ai_box(FACTS.model_id)).hexdigest()
    assert Provenance.from_json(store.read(first.provenance_key, limit_bytes=10_000)).sha256 == again.sha256


@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize("same_size", [True, False])
async def test_another_object_is_never_overwritten(
    source: Source, store: Store, object_store: ObjectStore, size: int, same_size: bool
) -> None:
    """A different object at the key is a conflict for a person to look at, and stays as it is."""
    other = bytes(len(video(size) + ai_box(FACTS.model_id))) if same_size else b"something else"
    key = store.key("wan-ai/wan-2-1/text-to-video/r-1-0.mp4")
    store.put(key, other, content_type="video/mp4")
    source.answer = Answer(video(size))

    with pytest.raises(ArchiveConflict):
        await archive(source, store)

    assert store.read(key, limit_bytes=2 * LARGE) == other
    assert keys(object_store, store) == ["wan-ai/wan-2-1/text-to-video/r-1-0.mp4"]


async def test_another_requests_file_is_never_taken_for_this_one(source: Source, store: Store) -> None:
    """A provenance at the key that names another request is a conflict, and is left as it is."""
    source.answer = Answer(video())
    first = await archive(source, store)
    document = store.read(first.provenance_key, limit_bytes=LARGE).replace(b'"r-1"', b'"r-2"')
    store.put(first.provenance_key, document, content_type="application/json")

    with pytest.raises(ArchiveConflict, match="another request"):
        await archive(source, store)

    assert store.read(first.provenance_key, limit_bytes=LARGE) == document


@pytest.mark.parametrize("document", [b"not JSON", b"{}"])
async def test_a_strange_provenance_is_a_conflict(source: Source, store: Store, document: bytes) -> None:
    """A document that is no provenance is left as it is."""
    store.put(store.key("wan-ai/wan-2-1/text-to-video/r-1-0.mp4.json"), document, content_type="text/plain")
    source.answer = Answer(video())

    with pytest.raises(ArchiveConflict, match="provenance"):
        await archive(source, store)


async def test_an_object_that_changed_behind_its_provenance_is_a_conflict(source: Source, store: Store) -> None:
    """Where object and provenance disagree, nothing is guessed."""
    source.answer = Answer(video())
    first = await archive(source, store)
    store.put(first.key, b"short", content_type="video/mp4")

    with pytest.raises(ArchiveConflict, match="size"):
        await archive(source, store)


@pytest.mark.parametrize("size", [0, LARGE])
async def test_racing_archives_agree(source: Source, store: Store, object_store: ObjectStore, size: int) -> None:
    """Any number of workers that archive the same output get the same answer, and there is one object."""
    source.answer = Answer(video(size))

    answers = await asyncio.gather(*(archive(source, store) for _ in range(4)))

    assert len({(answer.key, answer.sha256) for answer in answers}) == 1
    assert not all(answer.already_archived for answer in answers)
    assert len(keys(object_store, store)) == 3
    assert unfinished_uploads(object_store, store) == []


@pytest.mark.parametrize("sent", [0, 5000, 15_000_000], ids=["no byte", "first bytes", "parts uploaded"])
async def test_cancelling_leaves_nothing(source: Source, store: Store, object_store: ObjectStore, sent: int) -> None:
    """A cancelled archive ends though its source stalls, and leaves no object and no unfinished upload."""
    source.answer = Answer(video(LARGE), sent=sent, stall=True)
    task = asyncio.create_task(archive(source, store))
    await asyncio.to_thread(source.stalled.wait)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 120)
    assert keys(object_store, store) == []
    assert unfinished_uploads(object_store, store) == []


async def test_repeated_cancellations_do_not_skip_the_clean_up(
    source: Source, store: Store, object_store: ObjectStore
) -> None:
    """A task that is cancelled again and again still waits until nothing is left."""
    source.answer = Answer(video(LARGE), sent=15_000_000, stall=True)
    task = asyncio.create_task(archive(source, store))
    await asyncio.to_thread(source.stalled.wait)

    while not task.done():
        task.cancel()
        await asyncio.sleep(0)

    assert task.cancelled()
    assert unfinished_uploads(object_store, store) == []


async def test_a_difference_from_the_request_is_a_warning(source: Source, store: Store) -> None:
    """A paid video is kept whatever is in it; the differences are reported, and stored."""
    source.answer = Answer(video())
    validation = OutputValidation(frames=81, frames_per_second=24, resolution="720p", aspect_ratio="16:9")

    video_ = await archive(source, store, validation=validation)

    provenance = Provenance.from_json(store.read(video_.provenance_key, limit_bytes=10_000))
    assert len(video_.warnings) == 4
    assert provenance.warnings == video_.warnings


async def test_several_outputs_have_keys_of_their_own(source: Source, store: Store, object_store: ObjectStore) -> None:
    """Two outputs of one request are two objects."""
    source.answer = Answer(video())

    await archive(source, store, index=0)
    await archive(source, store, index=1)

    assert len(keys(object_store, store)) == 6


async def test_a_template_that_lacks_a_fact_costs_nothing(
    source: Source, store: Store, object_store: ObjectStore
) -> None:
    """A key that cannot be built is a setting to fix, and leaves nothing."""
    source.answer = Answer(video())

    with pytest.raises(ConfigurationError):
        await archive(source, store, template=KeyTemplate("{generation}-{index}.{ext}"))

    assert keys(object_store, store) == []


async def test_a_missing_bucket_is_a_storage_error(source: Source, object_store: ObjectStore) -> None:
    """A store that refuses is named as the cause, not the file."""
    source.answer = Answer(video())
    store = Store("nobody", session=object_store.session(), endpoint_url=object_store.endpoint_url)

    with pytest.raises(StorageError) as caught:
        await archive(source, store)

    assert not isinstance(caught.value, ArchiveError)
