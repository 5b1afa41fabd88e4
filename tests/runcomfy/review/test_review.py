"""What is set aside, and a person's decision: one good file in the end, whatever breaks, and nothing paid for twice."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.httpsession import URLLib3Session

from runcomfy.cli.__main__ import main
from runcomfy.errors import StorageError
from runcomfy.generation.destination import Destination
from runcomfy.journal import Journal, MemoryJournalStore
from runcomfy.media.marking import ai_box
from runcomfy.review import accept, choose, reject, set_aside
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.crash.names import name_s3_call
from tests.crash.proxy import Proxy, proxies
from tests.crash.wire import Drop, Point, Wire

BLACK = "rain [sandbox: output=black]"
BESIDE = ("", ".jpg", ".json")


@dataclass
class Command:
    """The command line in this process, on a bucket of its own."""

    bucket: str
    client: Any
    capsys: pytest.CaptureFixture[str]

    @property
    def place(self) -> str:
        return f"s3://{self.bucket}/media"

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        self.capsys.readouterr()
        ended = main([*words, "--bucket", self.place, "--json"])
        out, err = self.capsys.readouterr()
        assert ended == code, (words, out, err)
        return dict(json.loads(out))

    def said(self, *words: str, code: int = 0) -> str:
        self.capsys.readouterr()
        ended = main([*words, "--bucket", self.place])
        out, err = self.capsys.readouterr()
        assert ended == code, (words, out, err)
        return " ".join((out + err).split())

    def problems(self) -> set[str]:
        """Return what `verify` finds, after it has read everything."""
        self.capsys.readouterr()
        with suppress(SystemExit):  # 15, if it finds something
            main(["verify", self.place, "--json"])
        found = json.loads(self.capsys.readouterr().out)
        return {each["problem"] for each in found["findings"]}

    def is_sound(self) -> bool:
        return self.problems() == set()

    def files(self) -> dict[str, Any]:
        """Return the keys below the prefix that are no journal's, with their objects."""
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix="media/").get("Contents", [])
        names = [each["Key"] for each in listed if "/journal/" not in each["Key"]]
        return {name.removeprefix("media/"): self.client.get_object(Bucket=self.bucket, Key=name) for name in names}

    def provenance(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.client.get_object(Bucket=self.bucket, Key=f"media/{name}.json")["Body"].read()))

    def made(self, prompt: str = BLACK, on_defect: str = "set_aside") -> tuple[str, str, str]:
        """Make a generation that is set aside; return its key, and its name in both places."""
        done = self.run("text-to-video", prompt, "--on-defect", on_defect)
        (video,) = done["videos"]
        name = video["key"].removeprefix("media/").removeprefix("quarantine/")
        return done["generation"], name, f"quarantine/{name}"

    def put(self, name: str, body: bytes, metadata: dict[str, str]) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"media/{name}", Body=body, Metadata=metadata)

    def snapshot(self) -> dict[str, tuple[bytes, Any, Any]]:
        listed = self.client.list_objects_v2(Bucket=self.bucket)["Contents"]
        whole = {each["Key"]: self.client.get_object(Bucket=self.bucket, Key=each["Key"]) for each in listed}
        return {name: (each["Body"].read(), each["Metadata"], each["ContentType"]) for name, each in whole.items()}

    def restore(self, snapshot: dict[str, tuple[bytes, Any, Any]]) -> None:
        for each in self.client.list_objects_v2(Bucket=self.bucket)["Contents"]:
            if each["Key"] not in snapshot:
                self.client.delete_object(Bucket=self.bucket, Key=each["Key"])
        for name, (body, metadata, kind) in snapshot.items():
            self.client.put_object(Bucket=self.bucket, Key=name, Body=body, Metadata=metadata, ContentType=kind)


@pytest.fixture
def command(surrounded: None, object_store: ObjectStore, capsys: pytest.CaptureFixture[str]) -> Command:
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    bucket = f"reviewed-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return Command(bucket, client, capsys)


class Killed(BaseException):
    pass


@contextmanager
def at_write(number: int, act: Callable[[], None], *, of: str = "") -> Iterator[list[str]]:
    """Do something before the write to a store with this number, counted from 0, is sent: of all, or of some names."""
    sent: list[str] = []
    send = URLLib3Session.send

    def counted(self: URLLib3Session, request: Any) -> Any:
        if request.method in ("PUT", "DELETE", "POST") and of in request.url.partition("?")[0]:
            sent.append(f"{request.method} {request.url.partition('?')[0]}")
            if len(sent) == number + 1:
                act()
        return send(self, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(URLLib3Session, "send", counted)
        yield sent


def die() -> None:
    raise Killed


def named(name: str) -> set[str]:
    return {f"{name}{end}" for end in BESIDE}


@pytest.mark.slow
def test_a_bad_file_is_set_aside_and_a_good_one_is_not(command: Command, sandbox: Sandbox) -> None:
    """It is complete below `quarantine/`, and everything says so; a rerun finds it there, whatever is set."""
    key, _, aside = command.made()
    said = command.said("text-to-video", BLACK, "--on-defect", "keep")
    command.run("text-to-video", BLACK, "--on-defect", "fail", code=16)

    assert set(command.files()) == named(aside)
    provenance = command.provenance(aside)
    assert provenance["set_aside"] is True and provenance["uri"] == f"{command.place}/{aside}"
    assert "review" not in provenance and provenance["poster_uri"] == f"{command.place}/{aside}.jpg"
    assert f"review accept {command.place}/{aside} --bucket {command.place}" in said
    shown = command.run("journal", "show", key)
    assert shown["state"] == "archived" and shown["archive"]["videos"][0]["set_aside"] is True
    assert "review reject" in command.said("journal", "show", key)
    (item,) = command.run("review", "list")["files"]
    assert (item["generation"], item["state"], item["verdict"]) == (key, "waiting", "suspect")
    assert command.is_sound()
    assert sandbox.books().submissions_accepted == 1

    good = command.run("text-to-video", "rain", "--on-defect", "set_aside", "--seed", "3", "--resolution", "480p")
    assert {video.get("set_aside", False) for video in good["videos"]} <= {
        video["quality"]["verdict"] in ("suspect", "damaged") for video in good["videos"]
    }


def test_accepted_it_is_as_if_it_had_never_been_set_aside(command: Command, sandbox: Sandbox) -> None:
    """Bytes, metadata and type are the same, the journal names it, and a run of the same inputs finds it."""
    key, name, aside = command.made()
    before = command.files()[aside]
    body, metadata, kind = before["Body"].read(), before["Metadata"], before["ContentType"]

    done = command.run("review", "accept", key[:12], "--by", "ana", "--reason", "night scene")
    again = command.run("review", "accept", f"{command.place}/{aside}", "--by", "ben")

    files = command.files()
    assert set(files) == named(name)
    assert (files[name]["Body"].read(), files[name]["Metadata"], files[name]["ContentType"]) == (body, metadata, kind)
    provenance = command.provenance(name)
    assert provenance["uri"] == f"{command.place}/{name}" == done["uri"] and "set_aside" not in provenance
    assert {word: provenance["review"][word] for word in ("decision", "by", "reason")} == {
        "decision": "accepted", "by": "ana", "reason": "night scene"
    }  # fmt: skip
    assert again["review"] == done["review"] and done["state"] == "accepted"
    (video,) = command.run("journal", "show", key)["archive"]["videos"]
    assert video["key"] == f"media/{name}" and video["review"]["by"] == "ana" and "set_aside" not in video
    assert command.run("text-to-video", BLACK)["videos"][0]["uri"] == f"{command.place}/{name}"
    assert command.run("review", "list", "--all")["files"] == []
    assert command.is_sound()
    command.run("review", "reject", key, code=2)
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.parametrize(
    "end",
    [pytest.param("kept", marks=pytest.mark.slow), "deleted", pytest.param("expired", marks=pytest.mark.slow)],
)
def test_rejected_it_is_not_paid_for_again_until_it_is_released(command: Command, sandbox: Sandbox, end: str) -> None:
    """Nor fetched: a rerun, `fetch`, `reconcile` and a batch leave it alone; the error names the only way out."""
    key, _, aside = command.made()
    request_id = command.run("journal", "show", key)["request_id"]
    rejected = command.run("review", "reject", key, "--reason", "black", *(["--delete"] if end == "deleted" else []))
    if end == "expired":
        for each in named(aside):
            command.client.delete_object(Bucket=command.bucket, Key=f"media/{each}")

    failed = command.run("text-to-video", BLACK, code=16)
    fetched = command.run("fetch", request_id, code=16)
    command.run("reconcile")

    assert failed["error"] == fetched["error"] == "OutputRejected" and "journal release" in failed["message"]
    left = {"kept": named(aside), "deleted": {f"{aside}.json"}, "expired": set()}[end]
    assert set(command.files()) == left and rejected["has_file"] is (end != "deleted")
    assert "journal release" in command.said("text-to-video", BLACK, code=16)
    entry = command.run("journal", "show", key)
    assert entry["state"] == "archived" and entry["archive"]["videos"][0]["review"]["decision"] == "rejected"
    assert command.is_sound()
    assert sandbox.books().submissions_accepted == 1
    if end != "kept":
        command.run("review", "accept", key, code=2)

    command.run("journal", "release", key, "--yes")
    another = command.run("text-to-video", BLACK, "--on-defect", "keep")
    assert another["request_id"] != request_id and sandbox.books().submissions_accepted == 2


@pytest.mark.slow
def test_a_rejected_file_can_still_be_accepted(command: Command, sandbox: Sandbox) -> None:
    """While it is there; after a release too, which then pays for nothing. What is rejected twice stays as it was."""
    key, name, _ = command.made()
    command.run("review", "reject", key, "--by", "ana")
    assert command.run("review", "reject", key, "--by", "ben")["review"]["by"] == "ana"
    assert command.run("review", "list")["files"] == []
    assert [item["state"] for item in command.run("review", "list", "--all")["files"]] == ["rejected"]
    command.run("journal", "release", key, "--yes")

    command.run("review", "accept", key, "--by", "ana")

    assert set(command.files()) == named(name)
    assert command.run("text-to-video", BLACK)["videos"][0]["key"] == f"media/{name}"
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.slow
def test_what_is_not_ours_at_the_usual_place_is_not_touched(command: Command) -> None:
    """A conflict in words, before anything is changed."""
    key, name, _ = command.made()
    command.client.put_object(Bucket=command.bucket, Key=f"media/{name}", Body=b"a file of somebody else")
    before = command.snapshot()

    error = command.run("review", "accept", key, code=13)

    assert error["error"] == "ArchiveConflict" and "another file" in error["message"]
    assert command.snapshot() == before


@pytest.mark.slow
def test_wrong_words_are_refused(command: Command) -> None:
    """With what to do instead."""
    key, _, aside = command.made()
    for words in (
        ["ffffffffffff"],
        ["1234"],
        [f"{command.place}/nothing.mp4"],
        ["s3://other/x.mp4"],
        [key, "--output", "4"],
    ):
        assert "Nothing" in command.run("review", "accept", *words, code=2)["message"] or words[0].startswith("s3")
    command.run("review", "accept", key, "--by", "x" * 201, code=2)
    command.run("text-to-video", "rain", "--on-defect", "throw", code=2)
    assert set(command.files()) == named(aside)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["keep", "set_aside"])
def test_a_changed_setting_makes_no_second_copy(command: Command, sandbox: Sandbox, first: str) -> None:
    """Killed at each write of the archiving, then run again with the other setting: one file, in one place."""
    second = "keep" if first == "set_aside" else "set_aside"
    number = 0
    while True:
        prompt = f"rain {number} [sandbox: output=black]"
        before = set(command.files())
        with at_write(number, die) as sent:
            try:
                ended = main(["text-to-video", prompt, "--on-defect", first, "--bucket", command.place]) == 0
            except Killed:
                ended = False
        if ended:
            break
        uncertain = any("journal" not in each and ".probe" not in each for each in sent)
        if uncertain:  # it was submitted, and is archived or about to be
            done = command.run("text-to-video", prompt, "--on-defect", second)
            new = set(command.files()) - before
            (video,) = done["videos"]
            assert new == named(video["key"].removeprefix("media/")), sent
            assert command.run("journal", "show", done["generation"])["archive"]["videos"][0]["key"] == video["key"]
        number += 1


def decide(command: Command, *words: str) -> Callable[[], None]:
    def act() -> None:
        assert main([*words, "--bucket", command.place, "--json"]) in (0, 2)

    return act


@pytest.mark.slow
@pytest.mark.parametrize("decision", ["accept", "reject", "reject --delete"])
def test_killed_at_any_write_it_is_mended_by_the_same_command(
    command: Command, sandbox: Sandbox, decision: str
) -> None:
    """Between any two writes a rerun, `reconcile` and `verify` do the right thing; repeated, nothing is left over."""
    (key, name, aside), (verb, *options) = command.made(), decision.split()
    snapshot, writes, ended = command.snapshot(), 0, False
    while not ended:
        command.restore(snapshot)
        with at_write(writes, die):
            try:
                ended = main(["review", verb, key, *options, "--by", "ana", "--bucket", command.place]) == 0
            except Killed:
                ended = False
        rerun = main(["text-to-video", BLACK, "--bucket", command.place, "--json"])
        assert rerun in ((0,) if decision == "accept" else (0, 16)), writes
        command.run("reconcile")
        assert command.problems() <= ({"provenance_missing"} if decision == "accept" else set()), writes
        command.run("review", verb, key, *options, "--by", "ana")
        whole = {"accept": named(name), "reject": named(aside), "reject --delete": {f"{aside}.json"}}[decision]
        assert set(command.files()) == whole, writes
        provenance = command.provenance(name if decision == "accept" else aside)
        (video,) = command.run("journal", "show", key)["archive"]["videos"]
        assert provenance["review"] == video["review"] and provenance["uri"] == f"{command.place[:-6]}/{video['key']}"
        assert command.is_sound()
        writes += 1
    assert writes > (6 if decision == "accept" else 2)
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "one, other", [("accept", "reject"), ("reject", "accept"), ("accept", "accept"), ("reject", "reject --delete")]
)
def test_of_two_people_one_decides(command: Command, sandbox: Sandbox, one: str, other: str) -> None:
    """Wherever the second one comes in between: journal, provenance and files agree, and nothing is lost."""
    key, name, aside = command.made()
    snapshot, number, met = command.snapshot(), 0, True
    while met:
        command.restore(snapshot)
        words = ["review", other.split()[0], key, *other.split()[1:], "--by", "ben"]
        with at_write(number, decide(command, *words)) as sent:
            main(["review", one.split()[0], key, *one.split()[1:], "--by", "ana", "--bucket", command.place])
        met = len(sent) > number
        (video,) = command.run("journal", "show", key)["archive"]["videos"]
        decision = video["review"]["decision"]
        place = name if decision == "accepted" else aside
        deleted = video["review"].get("deleted", False)
        assert set(command.files()) == ({f"{place}.json"} if deleted else named(place)), (number, sent)
        assert command.provenance(place)["review"] == video["review"], number
        assert command.is_sound()
        number += 1


def elsewhere(*words: str) -> Callable[[], None]:
    """Run the command in a process of its own: another worker."""

    def act() -> None:
        done = subprocess.run([sys.executable, "-m", "runcomfy", *words], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    return act


@pytest.mark.slow
@pytest.mark.parametrize("first", ["keep", "set_aside"])
def test_two_workers_that_judge_differently_leave_one_file(command: Command, sandbox: Sandbox, first: str) -> None:
    """One is about to put its file when the other has finished: the one at the usual place counts, for everyone."""
    second = "keep" if first == "set_aside" else "set_aside"
    place = ("--bucket", command.place, "--json")
    other = elsewhere("text-to-video", BLACK, "--on-defect", second, *place)

    with at_write(0, other, of="/wan-ai/") as sent:
        assert main(["text-to-video", BLACK, "--on-defect", first, *place]) == 0

    assert len(sent) >= 3
    (name,) = [name for name in command.files() if name.endswith(".mp4")]
    assert set(command.files()) == named(name) and not name.startswith("quarantine/")
    (found,) = command.run("journal", "list", "--all")["generations"]
    (video,) = command.run("journal", "show", found["generation_key"])["archive"]["videos"]
    assert video["key"] == f"media/{name}" and command.is_sound()
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.slow
def test_without_conditional_writes_and_without_a_journal(command: Command, object_store: ObjectStore) -> None:
    """Found and accepted by its address; the journal of another process is none of this one's."""
    _, name, aside = command.made()
    store = Store(
        command.bucket, "media", session=object_store.session(), endpoint_url=object_store.endpoint_url,
        conditional_writes=False,
    )  # fmt: skip
    there = Destination(store, Journal(MemoryJournalStore()), "none", on_defect="set_aside")

    async def decided() -> list[str]:
        rejected = await reject(there, await choose(there, f"media/{aside}"), by="ana")
        accepted = await accept(there, await choose(there, store.uri(f"media/{aside}")), by="ben")
        return [rejected.state, accepted.state, (await choose(there, f"media/{aside}")).uri]

    assert asyncio.run(decided()) == ["rejected", "accepted", f"{command.place}/{name}"]
    assert set(command.files()) == named(name)
    assert list(set_aside(store)) == []


@pytest.mark.slow
def test_fetched_without_a_journal_a_rejected_file_is_left_alone(command: Command, sandbox: Sandbox) -> None:
    """The provenance below `quarantine/` says so to whoever comes: nothing is downloaded or stored."""
    key, _, aside = command.made()
    request_id = command.run("journal", "show", key)["request_id"]
    command.run("review", "reject", key, "--delete")

    failed = command.run("fetch", request_id, "--model", "text-to-video", "--journal", "none", code=16)

    assert failed["error"] == "OutputRejected" and set(command.files()) == {f"{aside}.json"}


@pytest.mark.slow
def test_a_batch_does_not_pay_for_what_was_rejected(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """The row fails with its reason; the others are made."""
    key, _, aside = command.made()
    command.run("review", "reject", key)
    rows = tmp_path / "rows.csv"
    rows.write_text(f"prompt\n{BLACK}\nsnow\n")

    done = command.run("batch", str(rows), code=14)

    assert done["counts"] == {"archived": 1, "failed": 1} and sandbox.books().submissions_accepted == 2
    assert named(aside) <= set(command.files())


@pytest.mark.slow
def test_erased_it_is_gone_from_both_places(command: Command, sandbox: Sandbox) -> None:
    """Also while its acceptance is interrupted, which cannot go on then."""
    key, _, _ = command.made()
    with at_write(3, die), suppress(Killed):
        main(["review", "accept", key, "--bucket", command.place])
    assert any(name.startswith("quarantine/") for name in command.files())

    command.run("erase", key, "--yes")

    assert command.files() == {}
    command.run("review", "accept", key, code=2)
    command.run("text-to-video", BLACK, code=2)
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_accepts_is_mended(
    command: Command, sandbox: Sandbox, object_store: ObjectStore
) -> None:
    """A real process, killed by a proxy right after a write was carried out, and before it hears of it."""
    key, name, _ = command.made()
    snapshot = command.snapshot()
    proxy = Proxy(object_store.endpoint_url, name_s3_call)
    with proxies(proxy):
        number, ended = 0, False
        while not ended:
            command.restore(snapshot)
            ended = accepted_until(proxy, number, command.place, key)
            command.run("review", "accept", key, "--by", "ana")
            assert set(command.files()) == named(name), number
            (video,) = command.run("journal", "show", key)["archive"]["videos"]
            assert command.provenance(name)["review"] == video["review"] and video["key"] == f"media/{name}"
            assert command.is_sound(), number
            number += 2  # the test before has been at all of them, in this process
    assert number >= 8  # the decision, three objects, the journal, four deletions


def accepted_until(proxy: Proxy, number: int, place: str, key: str) -> bool:
    """Accept a file in a process that is killed after a write; return whether it came to its end before."""
    started, seen = threading.Event(), itertools.count()
    process: list[subprocess.Popen[bytes]] = []

    def hook(point: Point) -> Drop | None:
        started.wait()
        if point.moment == "before" or not point.name.startswith(("s3 PUT", "s3 DELETE", "s3 POST")):
            return None
        if next(seen) < number:
            return None
        process[0].kill()
        return Drop()

    proxy.wire = Wire(hook)
    words = ["review", "accept", key, "--by", "ana", "--bucket", place]
    surroundings = {**os.environ, "AWS_ENDPOINT_URL_S3": proxy.url}
    with subprocess.Popen(
        [sys.executable, "-m", "runcomfy", *words], env=surroundings, stdout=subprocess.DEVNULL
    ) as running:
        process.append(running)
        started.set()
        running.wait()
    proxy.settle()
    return running.returncode == 0


@pytest.mark.slow
def test_several_files_are_decided_one_by_one(command: Command) -> None:
    """Each by its number or its address; a generation's key alone says which there are."""
    key, name, aside = command.made()
    second = aside.replace("-0.mp4", "-1.mp4")
    described = command.provenance(aside) | {"output_index": 1, "uri": f"{command.place}/{second}", "poster_uri": None}
    whole = command.files()[aside]
    kept = whole["Metadata"] | {"runcomfy-output-index": "1"}
    command.put(second, whole["Body"].read(), kept)
    command.put(f"{second}.json", json.dumps(described).encode(), {})

    assert [item["output"] for item in command.run("review", "list")["files"]] == [0, 1]
    assert command.run("review", "accept", key, "--output", "1")["uri"].endswith("-1.mp4")
    assert command.run("review", "accept", f"media/{aside}")["uri"].endswith("-0.mp4")
    assert set(command.files()) == named(name) | {name.replace("-0.mp4", f"-1.mp4{end}") for end in ("", ".json")}


@pytest.mark.slow
def test_a_file_that_is_another_one_by_now_is_not_accepted(command: Command) -> None:
    """Nor is anything put at the usual place."""
    key, _, aside = command.made()
    command.put(aside, b"cut off", {})

    assert command.run("review", "accept", key, code=13)["error"] == "ArchiveConflict"
    assert set(command.files()) == named(aside)


@pytest.mark.slow
def test_what_people_write_is_one_line_without_secrets(command: Command) -> None:
    """In provenance, journal and terminal."""
    key, _, aside = command.made()
    url = "https://bucket.example/x?X-Amz-Signature=5ec2e7"

    done = command.run("review", "reject", key, "--by", "a\x1b[31mna", "--reason", f"see\n{url}")

    said = json.dumps([command.provenance(aside), command.run("journal", "show", key), done])
    assert "5ec2e7" not in said and "\\u001b" not in said and "\\n" not in done["review"]["reason"]


def test_a_large_file_is_copied_in_parts_once(store: Store) -> None:
    """With its type and metadata; a second copy is refused, as is one of nothing."""
    body, key = bytes(range(256)) * 50_000, store.key("large.bin")
    store.put(store.key("quarantine/large.bin"), body, content_type="video/mp4", metadata={"who": "ours"})

    assert store.copy_new(store.key("quarantine/large.bin"), key, largest_copy_bytes=6_000_000)
    assert not store.copy_new(store.key("quarantine/large.bin"), key, largest_copy_bytes=6_000_000)

    copied = store.head(key)
    assert copied is not None and (copied.content_type, copied.metadata) == ("video/mp4", {"who": "ours"})
    assert store.read(key, limit_bytes=len(body)) == body
    assert list(store.unfinished_uploads(store.prefix)) == []
    with pytest.raises(StorageError, match="no object"):
        store.copy_new(store.key("nothing"), store.key("new"))


@pytest.mark.slow
def test_another_workers_file_at_the_usual_place_is_completed(command: Command) -> None:
    """It was killed before its provenance, and had not marked the file: the bytes differ, the output is the same."""
    key, name, aside = command.made()
    whole, described = command.files()[aside], command.provenance(aside)
    plain = whole["Body"].read()[: -len(ai_box(described["model_id"]))]
    sha256 = hashlib.sha256(plain).hexdigest()
    assert sha256 == described["source_sha256"] != described["sha256"]
    command.put(name, plain, whole["Metadata"] | {"runcomfy-sha256": sha256})

    command.run("review", "accept", key)

    assert set(command.files()) == named(name) and command.files()[name]["Body"].read() == plain
    provenance = command.provenance(name)
    assert (provenance["sha256"], provenance["marked"]) == (sha256, False)
    (video,) = command.run("journal", "show", key)["archive"]["videos"]
    assert video["sha256"] == sha256 and command.is_sound()
