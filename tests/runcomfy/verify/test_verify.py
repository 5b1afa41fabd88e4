"""Each corruption of a bucket is found, and nothing else; through the wire, on a real store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.cli import environment
from runcomfy.cli.__main__ import main
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.objects import Listed
from runcomfy.verify.listing import Group, groups
from runcomfy.verify.one_file import Checked, check_file

ROWS = 20


def ended(*words: str) -> int:
    """Run a command, and return the exit code that a process would have."""
    try:
        return main(words)
    except SystemExit as end:
        return int(str(end.code))


class Bucket:
    """A bucket with archived videos, and the command line in this process."""

    def __init__(self, client: Any, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.client, self.prefix, self._capsys = client, prefix, capsys

    def verify(self, *options: str) -> tuple[int, dict[str, Any]]:
        self._capsys.readouterr()
        code = ended("verify", f"s3://videos/{self.prefix}", "--json", *options)
        return code, dict(json.loads(self._capsys.readouterr().out))

    def problems(self, *options: str) -> set[tuple[str, str]]:
        code, found = self.verify(*options)
        assert code == (15 if found["findings"] else 0) and found["sound"] is not bool(found["findings"])
        assert sum(found["counts"].values()) == len(found["findings"])
        return {(each["problem"], each["uri"].removeprefix("s3://videos/")) for each in found["findings"]}

    def listed(self) -> list[dict[str, Any]]:
        return list(self.client.list_objects_v2(Bucket="videos", Prefix=f"{self.prefix}/wan-ai/")["Contents"])

    def get(self, key: str) -> tuple[bytes, dict[str, str]]:
        answer = self.client.get_object(Bucket="videos", Key=key)
        return answer["Body"].read(), answer["Metadata"]

    def put(self, key: str, body: bytes, metadata: dict[str, str] | None = None) -> None:
        self.client.put_object(Bucket="videos", Key=key, Body=body, Metadata=metadata or {})

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket="videos", Key=key)

    def change(self, key: str, change: Callable[[dict[str, Any]], Any]) -> None:
        body, metadata = self.get(key)
        document = json.loads(body)
        change(document)
        self.put(key, json.dumps(document).encode(), metadata)


@pytest.fixture
def bucket(
    surrounded: None, object_store: ObjectStore, prefix: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Bucket:
    manifest = tmp_path / "rows.csv"
    manifest.write_text("prompt\n" + "".join(f"rain {number}\n" for number in range(ROWS)))
    batch = ["batch", str(manifest), "--bucket", f"s3://videos/{prefix}", "--at-once", "20", "--first-at-once", "20"]
    assert main(batch) == 0
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    return Bucket(client, prefix, capsys)


def test_each_corruption_is_found_and_nothing_else(bucket: Bucket) -> None:
    """One of each, on a file of its own; strangers' objects are no findings."""
    keys = [
        each["Key"] for each in bucket.listed()
        if each["Key"].endswith(".mp4")
    ]  # fmt: skip
    provenance = {key: json.loads(bucket.get(f"{key}.json")[0]) for key in keys}
    entries = {key: f"{bucket.prefix}/journal/{provenance[key]['generation_key']}.json" for key in keys}
    for key in keys[:6]:  # what begins like a file hides nothing of it
        bucket.put(key.removesuffix(".mp4"), b"mine")
    bucket.put(f"{bucket.prefix}/notes.txt", b"mine")
    bucket.put(f"{bucket.prefix}/wan-ai/data.json", b"{}")
    bucket.put(f"{bucket.prefix}/wan-ai/data.txt.json", b"not even json")
    code, sound = bucket.verify()
    assert (code, sound["files"], sound["entries"], sound["others"], sound["findings"]) == (0, ROWS, ROWS, 9, [])
    assert sound["read_bytes"] == sum(each["size_bytes"] for each in provenance.values())
    code, quickly = bucket.verify("--quick")
    assert (code, quickly["read_bytes"], quickly["check"], sound["check"]) == (0, 0, "sizes", "sha256")

    store = environment.store(f"s3://videos/{bucket.prefix}")
    late = Group(keys[0], store.head(keys[0]).size_bytes)  # type: ignore[union-attr]  # listed before it was complete
    assert check_file(store, None, late, quick=True) == Checked((), is_ours=True)

    left = iter(keys)
    wanted, only_read = set[tuple[str, str]](), set[tuple[str, str]]()

    def broken(problem: str, end: str = "", *, needs_reading: bool = False) -> str:
        key = next(left)
        (only_read if needs_reading else wanted).add((problem, f"{key}{end}"))
        return key

    bucket.delete(broken("file_missing"))
    bucket.delete(f"{broken('provenance_missing', '.json')}.json")
    gone = broken("file_missing")
    for end in ("", ".json", ".jpg"):
        bucket.delete(f"{gone}{end}")
    bucket.put(f"{broken('provenance_unreadable', '.json')}.json", b"{")
    cut = broken("size_differs")
    body, metadata = bucket.get(cut)
    bucket.put(cut, body[:-1], metadata)
    flipped = broken("bytes_differ", needs_reading=True)
    body, metadata = bucket.get(flipped)
    bucket.put(flipped, body[:500] + bytes([body[500] ^ 1]) + body[501:], metadata)
    named = broken("metadata_differs")
    body, metadata = bucket.get(named)
    bucket.put(named, body, metadata | {"runcomfy-sha256": "0" * 64})
    bucket.delete(f"{broken('poster_missing', '.jpg')}.jpg")
    sheet = broken("contact_sheet_missing", ".sheet.jpg")
    bucket.change(f"{sheet}.json", lambda document: document.update(contact_sheet_uri="s3://videos/x.sheet.jpg"))
    other = broken("provenance_differs")
    bucket.change(f"{other}.json", lambda document: document.update(request_id="another-request"))
    bucket.delete(entries[broken("not_in_journal")])
    unreadable = next(left)
    wanted.add(("entry_unreadable", entries[unreadable]))
    bucket.put(entries[unreadable], b"{}")
    bucket.change(entries[broken("not_archived")], lambda entry: entry.update(state="detached"))
    bucket.change(entries[broken("erased_found")], lambda entry: entry.update(state="erased"))
    unmarked = broken("mark_missing")  # the file was written again without it, and all that names its bytes
    body, metadata = bucket.get(unmarked)
    blank = body[:-400] + bytes(400)
    bucket.put(unmarked, blank, metadata)
    wanted_there = {("mark_missing", unmarked)}
    quick = bucket.problems("--quick")

    assert quick == wanted
    assert bucket.problems() == (wanted - wanted_there) | only_read | {("bytes_differ", unmarked)}
    assert len(set(left)) == ROWS - 15


def test_a_person_reads_what_is_wrong(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each; and without a journal the files are checked alone."""
    key = next(
        each["Key"] for each in bucket.listed()
        if each["Key"].endswith(".mp4")
    )  # fmt: skip
    bucket.delete(key)
    capsys.readouterr()

    assert ended("verify", f"s3://videos/{bucket.prefix}", "--quick") == 15
    said = capsys.readouterr().out
    assert "sizes, metadata and marks" in said
    assert f"s3://videos/{key}" in said and "file_missing" in said and f"{ROWS} entries" in said
    assert ended("verify", f"s3://videos/{bucket.prefix}", "--journal", "none", "--quick") == 15
    assert ended("verify", "s3://no-such-bucket-here/x", "--quick") == 12


@given(st.lists(st.text("ab./j", min_size=1, max_size=6), max_size=12, unique=True))
def test_a_file_is_put_together_with_what_is_beside_it(names: list[str]) -> None:
    """Whatever else is listed between them, in the order of a listing."""

    class Prefix:
        prefix = ""

    listed = sorted({*names, "x.mp4", "x.mp4.jpg", "x.mp4.json", "x.mp4.sheet.jpg", "x.mp4-a", "x.mp4!"})
    found = list(groups(Prefix(), (Listed(name, 1, None, "") for name in listed)))  # type: ignore[arg-type]

    (video,) = [group for group in found if group.key == "x.mp4"]
    assert video.has_provenance and video.has_poster and video.size_bytes == 1
    assert "x.mp4.sheet.jpg" not in {group.key for group in found}
    assert {"x.mp4-a", "x.mp4!"} <= {group.key for group in found}
    assert len({group.key for group in found}) == len(found) or any(name.endswith(".json") for name in names)
