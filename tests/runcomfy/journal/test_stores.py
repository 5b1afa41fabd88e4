"""Where a journal is kept: the same promises from a bucket and from this process's memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

from runcomfy.api.client import RunComfyClient
from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable
from runcomfy.journal import BucketJournalStore, JournalStore, MemoryJournalStore, check_choice, names_folder
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.runcomfy.journal.making import body, journal_at, spec_for, submit_for

NAME = "a" * 64 + ".json"
THREADS = 16


def new_store(object_store: ObjectStore, prefix: str, **options: Any) -> Store:
    """Return a store with a client of its own, whose events a test may hook."""
    return Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url, **options)


@pytest.fixture
def own_store(object_store: ObjectStore, prefix: str) -> Store:
    return new_store(object_store, prefix)


@pytest.fixture(params=["bucket", "memory"])
def journal_store(request: pytest.FixtureRequest, store: Store) -> JournalStore:
    stores: dict[str, Callable[[], JournalStore]] = {
        "bucket": lambda: BucketJournalStore(store),
        "memory": MemoryJournalStore,
    }
    return stores[request.param]()


def racing(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do it in as many threads, all at the same moment."""
    start = threading.Barrier(count)

    def begin(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


# ---- what every journal store promises


def test_a_document_is_created_once(journal_store: JournalStore) -> None:
    """The second creation is refused, and changes nothing."""
    first = body()
    tag = journal_store.create(NAME, first)

    assert tag
    assert journal_store.create(NAME, body()) is None
    stored = journal_store.read(NAME)
    assert stored is not None and (stored.body, stored.tag) == (first, tag)


def test_only_the_present_version_is_replaced(journal_store: JournalStore) -> None:
    """With the tag of an older version, or of none, nothing is written."""
    first, second, third = body(), body(), body()
    one = journal_store.create(NAME, first)
    assert one
    two = journal_store.replace(NAME, second, one)

    assert two and two != one
    assert journal_store.replace(NAME, body(), one) is None
    assert journal_store.replace(NAME, body(), '"00000000000000000000000000000000"') is None
    three = journal_store.replace(NAME, third, two)
    stored = journal_store.read(NAME)
    assert stored is not None and (stored.body, stored.tag) == (third, three)


def test_a_missing_document_is_neither_read_nor_replaced(journal_store: JournalStore) -> None:
    """`None`, before anything was ever written as after it."""
    assert journal_store.read(NAME) is None
    assert journal_store.replace(NAME, body(), '"00000000000000000000000000000000"') is None
    assert journal_store.read(NAME) is None

    journal_store.create("b.json", body())
    assert journal_store.read(NAME) is None


def test_names_are_in_order_by_their_start_and_nothing_is_hidden_among_them(journal_store: JournalStore) -> None:
    """Documents only: no mark, probe, lock or half-written file; `check` and refused writes leave none."""
    assert list(journal_store.names()) == []
    journal_store.check()
    names = [f"{start}{'0' * 60}.json" for start in ("b0", "a1", "c2", "a0")]
    for name in names:
        journal_store.create(name, body())
        journal_store.create(name, body())

    assert list(journal_store.names()) == sorted(names)
    assert [name[:2] for name in journal_store.names("a")] == ["a0", "a1"]
    assert list(journal_store.names("a1")) == [names[1]]
    assert list(journal_store.names("f")) == []


def test_every_document_has_the_time_of_its_present_version(journal_store: JournalStore) -> None:
    """Hidden ones are left out, and each write makes it later, or leaves it within the same second."""
    journal_store.check()
    journal_store.create(".note.json", body())
    tag = journal_store.create(NAME, body())
    before = dict(journal_store.modified())
    assert tag and journal_store.replace(NAME, body(), tag)
    after = dict(journal_store.modified())

    assert before.keys() == after.keys() == {NAME}
    assert after[NAME] >= before[NAME]
    assert list(journal_store.names()) == [NAME]
    assert journal_store.read(".note.json") is not None


def test_a_document_may_be_any_text(journal_store: JournalStore) -> None:
    """What is written is what is read, byte for byte, up to a document of a megabyte."""
    for number, written in enumerate([b"{}", "ü🦊\r\n\0".encode(), os.urandom(1_000_000)]):
        journal_store.create(f"{number}.json", written)
        stored = journal_store.read(f"{number}.json")
        assert stored is not None and stored.body == written


def test_a_document_ages_until_it_is_written_again(journal_store: JournalStore) -> None:
    """By the clock of the journal_store, to a second."""
    began = time.monotonic()
    tag = journal_store.create(NAME, body())
    assert tag
    threading.Event().wait(2.1)
    stored = journal_store.read(NAME)
    assert stored is not None and 1.0 <= stored.age_seconds <= time.monotonic() - began + 1.5

    began = time.monotonic()
    journal_store.replace(NAME, body(), tag)
    stored = journal_store.read(NAME)
    assert stored is not None and 0.0 <= stored.age_seconds <= time.monotonic() - began + 1.1


def test_of_many_that_create_one_does(journal_store: JournalStore) -> None:
    """Sixteen threads, round after round: one tag, and the document is that thread's."""
    for turn in range(3):
        bodies = [body(str(number)) for number in range(THREADS)]
        name = f"{turn}.json"

        def create(number: int, name: str = name, bodies: list[bytes] = bodies) -> str | None:
            return journal_store.create(name, bodies[number])

        tags = racing(THREADS, create)

        (winner,) = [number for number, tag in enumerate(tags) if tag]
        stored = journal_store.read(name)
        assert stored is not None and (stored.body, stored.tag) == (bodies[winner], tags[winner])


def test_of_many_that_replace_one_does(journal_store: JournalStore) -> None:
    """Sixteen threads that saw the same version, round after round: each round has one winner."""
    tag = journal_store.create(NAME, body())
    assert tag
    for _ in range(3):
        bodies = [body(str(number)) for number in range(THREADS)]

        def replace(number: int, bodies: list[bytes] = bodies, tag: str = tag) -> str | None:
            return journal_store.replace(NAME, bodies[number], tag)

        tags = racing(THREADS, replace)

        (winner,) = [number for number, won in enumerate(tags) if won]
        stored = journal_store.read(NAME)
        assert stored is not None and (stored.body, stored.tag) == (bodies[winner], tags[winner])
        tag = tags[winner]


def test_readers_never_see_half_a_document(journal_store: JournalStore) -> None:
    """While one writes, others read: each time a whole version, and none older than the one before."""
    tag = journal_store.create(NAME, b"%06d" % 0 * 1000)
    ended = threading.Event()

    def read(_: int) -> None:
        last = 0
        while not ended.is_set():
            stored = journal_store.read(NAME)
            assert stored is not None and stored.body == stored.body[:6] * 1000
            assert int(stored.body[:6]) >= last
            last = int(stored.body[:6])

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, number) for number in range(3)]
        for number in range(1, 60):
            assert tag
            tag = journal_store.replace(NAME, b"%06d" % number * 1000, tag)
        ended.set()
        for reader in readers:
            reader.result()


# ---- processes

_RACER = """
import json, sys
import boto3
from runcomfy.journal import BucketJournalStore
from runcomfy.storage.store import Store
from tests.runcomfy.journal.making import body

where, rounds = json.loads(sys.argv[1]), int(sys.argv[2])
session = boto3.Session(where["access"], where["secret"], region_name="us-east-1")
journal_store = BucketJournalStore(Store("videos", where["prefix"], session=session, endpoint_url=where["endpoint"]))
print("ready", flush=True)
for number in range(rounds):
    sys.stdin.readline()
    name = f"{number}.json"
    created = journal_store.create(name, body())
    current = journal_store.read(name)
    print(json.dumps([created, None]), flush=True)
    sys.stdin.readline()
    current = journal_store.read(name)
    print(json.dumps([current.tag, None]), flush=True)
    sys.stdin.readline()
    print(json.dumps([journal_store.replace(name, body(), current.tag), None]), flush=True)
"""


@pytest.mark.slow
def test_of_many_processes_one_creates_and_one_replaces(object_store: ObjectStore, prefix: str) -> None:
    """Four processes are started at once, again and again: one winner each time, and all see the same version."""
    where = {
        "access": object_store.access_key, "secret": object_store.secret_key,
        "prefix": prefix, "endpoint": object_store.endpoint_url,
    }  # fmt: skip
    rounds = 4
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, json.dumps(where), str(rounds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip

    def said() -> list[Any]:
        return [json.loads(line)[0] for line in lines()]

    def lines() -> list[str]:
        return [racer.stdout.readline() for racer in racers if racer.stdout]

    def go() -> list[Any]:
        for racer in racers:
            assert racer.stdin
            racer.stdin.write("\n")
            racer.stdin.flush()
        return said()

    try:
        assert lines() == ["ready\n"] * 4
        for _ in range(rounds):
            created, seen, replaced = go(), go(), go()
            assert sum(tag is not None for tag in created) == 1
            assert {tag for tag in created if tag} == set(seen)
            assert sum(tag is not None for tag in replaced) == 1
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


# ---- a folder, where it was kept once


@pytest.mark.parametrize(
    "choice", ["/srv/journal", " ./journal ", "~/journal", "a/b", "file:///srv/journal", "FILE:///x", "C:/journal"]
)
def test_a_folder_is_refused_and_says_how_to_move(choice: str) -> None:
    """With the command that copies it, before anything is paid for."""
    assert names_folder(choice)
    with pytest.raises(ConfigurationError, match=r"Nothing was submitted.*aws s3 cp .* --recursive --exclude '\.\*'"):
        check_choice(choice)


@pytest.mark.parametrize("choice", ["bucket", "none", "s3://bucket", "s3://bucket/some/prefix", " bucket "])
def test_a_choice_that_is_no_folder_is_not_called_one(choice: str) -> None:
    """Blanks around it do not matter."""
    assert not names_folder(choice)
    assert check_choice(choice) == choice.strip()


async def test_documents_of_a_folder_serve_in_the_bucket(sandbox: Sandbox, own_store: Store) -> None:
    """The files that a folder held are copied as the advice says, and the generation is not paid for again."""
    spec = spec_for(sandbox.url)
    kept = MemoryJournalStore()
    async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
        first = await submit_for(client, journal_at(kept), spec)
        for name in kept.names():
            document = kept.read(name)
            assert document is not None
            own_store.client.put_object(Bucket="videos", Key=own_store.key(f"journal/{name}"), Body=document.body)
        again = await submit_for(client, journal_at(BucketJournalStore(own_store)), spec)

    assert again.request_id == first.request_id
    assert sandbox.books().submissions_accepted == 1


# ---- the bucket


class Wire:
    """Sees the calls of one client, and changes them and their answers: another kind of store, a real one behind it."""

    def __init__(self, store: Store) -> None:
        self.calls: list[str] = []
        self._events = store.client.meta.events
        self._events.register("before-call.s3", self._count)
        self._events.register_first("needs-retry.s3", self._at_once)

    def _count(self, model: Any, **_: Any) -> None:
        self.calls.append(model.name)

    def _at_once(self, response: Any, attempts: int, caught_exception: Any, **_: Any) -> Any:
        """Try again as often as the client would, and without its pauses."""
        failed = caught_exception is not None or response[0].status_code in (500, 503)
        return 0 if failed and attempts < 5 else None

    def ignore(self, header: str) -> None:
        """Take a condition out of every call."""

        def drop(params: dict[str, Any], **_: Any) -> None:
            params["headers"].pop(header, None)

        self._events.register("before-call.s3.PutObject", drop)

    def answer(self, status: int, code: str, *, times: int = 10**9, header: str = "") -> None:
        """Answer PUTs with an error instead; only those that carry `header`."""
        left = [times]
        document = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()

        def instead(request: Any, **_: Any) -> Any:
            if request.method != "PUT" or not left[0] or (header and header not in request.headers):
                return None
            left[0] -= 1
            return AWSResponse(request.url, status, HTTPHeaders(), _Raw(document))

        self._events.register("before-send.s3", instead)

    def lose(self, *, first: int = 1, down: int = 0) -> None:
        """Do the PUT with that number, and lose its answer; then be unreachable for PUTs for `down` attempts more."""
        number = [0]

        def instead(request: Any, **_: Any) -> None:
            if request.method != "PUT":
                return
            number[0] += 1
            if number[0] == first:
                assert URLLib3Session().send(request).status_code == 200
            if first <= number[0] <= first + down:
                raise ConnectionClosedError(endpoint_url=request.url)

        self._events.register("before-send.s3", instead)


class _Raw:
    def __init__(self, document: bytes) -> None:
        self._document = document

    def stream(self, **_: Any) -> Any:
        yield self._document

    def read(self, *_: Any) -> bytes:
        return self._document


def left_in(object_store: ObjectStore, prefix: str) -> list[str]:
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    found = client.list_objects_v2(Bucket="videos", Prefix=f"{prefix}/").get("Contents", [])
    return [item["Key"].removeprefix(f"{prefix}/journal/") for item in found]


def test_the_probe_of_a_good_store_is_made_once_for_all_processes(object_store: ObjectStore, prefix: str) -> None:
    """The first finds out and leaves a note, the same one asks no more, and the next needs one read."""
    first, second = new_store(object_store, prefix), new_store(object_store, prefix)
    wires = Wire(first), Wire(second)

    journal_store = BucketJournalStore(first)
    journal_store.check()
    assert wires[0].calls.count("PutObject") > 1
    wires[0].calls.clear()
    journal_store.check()
    assert wires[0].calls == []

    BucketJournalStore(second).check()
    assert wires[1].calls == ["GetObject"]
    assert left_in(object_store, prefix) == [".conditional-writes.json"]


def test_threads_probe_once(own_store: Store) -> None:
    """Sixteen that begin together make one probe."""
    wire, journal_store = Wire(own_store), BucketJournalStore(own_store)

    racing(THREADS, lambda _: journal_store.check())

    assert wire.calls.count("DeleteObject") == 1


def test_a_note_about_another_server_does_not_count(object_store: ObjectStore, prefix: str) -> None:
    """A bucket that was copied to another server, or a note that is damaged, is tried out again."""
    store = new_store(object_store, prefix)
    for note in (b'{"endpoint": "https://elsewhere.example.com"}', b"[]", b"<html>"):
        store.put(store.key("journal/.conditional-writes.json"), note, content_type="application/json")
        wire = Wire(store)
        BucketJournalStore(store).check()
        assert wire.calls.count("PutObject") > 1


@pytest.mark.parametrize("what", ["If-None-Match", "If-Match", "501", "501 for If-Match"])
def test_a_store_without_conditional_writes_is_refused(
    what: str, own_store: Store, object_store: ObjectStore, prefix: str
) -> None:
    """Whether it refuses or silently overwrites: an error that names the way out, and no probe is left behind."""
    wire = Wire(own_store)
    if what.startswith("501"):
        wire.answer(501, "NotImplemented", header="If-Match" if "for" in what else "If-None-Match")
    else:
        wire.ignore(what)

    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"(?s)conditional writes.*Nothing was submitted.*set journal to"):
            BucketJournalStore(own_store).check()
    assert left_in(object_store, prefix) == []


def test_a_store_that_cannot_be_reached_is_not_called_unfit(own_store: Store) -> None:
    """An outage during the probe is an outage, to be tried again."""
    Wire(own_store).answer(503, "SlowDown", times=5)
    journal_store = BucketJournalStore(own_store)

    with pytest.raises(StoreUnavailable):
        journal_store.check()
    journal_store.check()


@pytest.mark.parametrize("lost", [1, 4])
def test_a_probe_whose_answer_is_lost_does_not_condemn_the_store(own_store: Store, lost: int) -> None:
    """The client repeats the write, which is refused then; that says nothing about the store."""
    Wire(own_store).lose(first=lost)

    BucketJournalStore(own_store).check()


@pytest.mark.parametrize("down", [0, 2])
def test_a_write_whose_answer_was_lost_is_recognised(own_store: Store, down: int) -> None:
    """The repetition is refused, since the document exists; its body shows that it is ours."""
    journal_store = BucketJournalStore(own_store)
    written = body()
    Wire(own_store).lose(down=down)

    tag = journal_store.create(NAME, written)
    stored = journal_store.read(NAME)
    assert stored is not None and (stored.body, stored.tag) == (written, tag)

    changed = body()
    Wire(own_store).lose(down=down)
    assert tag
    assert journal_store.replace(NAME, changed, tag)
    stored = journal_store.read(NAME)
    assert stored is not None and stored.body == changed


def test_a_write_whose_answer_was_lost_for_good_is_recognised_when_it_is_repeated(own_store: Store) -> None:
    """The write was done, then the store was away for longer than the client tries: the journal tries again later."""
    journal_store, written = BucketJournalStore(own_store), body()
    Wire(own_store).lose(down=4)

    with pytest.raises(StoreUnavailable):
        journal_store.create(NAME, written)
    tag = journal_store.create(NAME, written)
    stored = journal_store.read(NAME)
    assert stored is not None and (stored.body, stored.tag) == (written, tag)


def test_a_lost_write_that_somebody_has_followed_is_not_called_ours(
    own_store: Store, object_store: ObjectStore
) -> None:
    """If it is unknown who won, this worker has not: another's version is never taken for its own."""
    journal_store = BucketJournalStore(own_store)
    other = new_store(object_store, own_store.prefix)
    written, followed = body(), body()

    def lose_and_let_another_write(request: Any, **_: Any) -> None:
        if request.method == "PUT" and journal_store.read(NAME) is None:
            assert URLLib3Session().send(request).status_code == 200
            stored = journal_store.read(NAME)
            assert stored is not None
            assert other.replace_if(other.key(f"journal/{NAME}"), followed, etag=stored.tag, content_type="text/plain")
            raise ConnectionClosedError(endpoint_url=request.url)

    own_store.client.meta.events.register("before-send.s3", lose_and_let_another_write)

    assert journal_store.create(NAME, written) is None
    stored = journal_store.read(NAME)
    assert stored is not None and stored.body == followed


def test_a_missing_bucket_is_an_error_and_not_an_empty_journal(object_store: ObjectStore) -> None:
    """Nothing is submitted because a bucket's name was misspelt."""
    store = Store("no-such-bucket", session=object_store.session(), endpoint_url=object_store.endpoint_url)

    with pytest.raises(StorageError, match="no-such-bucket"):
        BucketJournalStore(store).check()
    with pytest.raises(StorageError, match="no-such-bucket"):
        BucketJournalStore(store).read(NAME)
