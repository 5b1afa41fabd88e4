"""Erasing one generation: nothing of it is found in the bucket, nothing is paid for again, whatever interrupts it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from botocore.httpsession import URLLib3Session

from runcomfy.cli.__main__ import main
from runcomfy.erasure.documents import cleaned
from runcomfy.erasure.traces import Traces
from runcomfy.manifest import write_manifest
from runcomfy.models import IMAGE_TO_VIDEO
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore

ROOT = Path(__file__).parents[3]
PROMPT = 'Anna Lindqvist, "the Ängel", at her window in Malmö'
IMAGE = ROOT / "deployments" / "demo.jpg"


@dataclass
class Command:
    """The command line in this process, on a bucket with or without versions."""

    bucket: str
    client: Any
    capsys: pytest.CaptureFixture[str]
    manifests: Path
    written: list[str] = field(default_factory=list)

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        self.capsys.readouterr()
        ended = main([*words, "--bucket", f"s3://{self.bucket}/media", "--json"])
        out, err = self.capsys.readouterr()
        assert ended == code, (words, out, err)
        return dict(json.loads(out))

    def everything(self) -> dict[str, bytes]:
        """Return every version of every object, unpacked as far as it is packed, with its metadata."""
        found = {}
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            for each in page.get("Versions", []):
                version = {} if each["VersionId"] == "null" else {"VersionId": each["VersionId"]}
                answer = self.client.get_object(Bucket=self.bucket, Key=each["Key"], **version)
                body = answer["Body"].read()
                if each["Key"].endswith(".parquet"):
                    body += repr(pq.read_table(io.BytesIO(body)).to_pylist()).encode()
                found[f"{each['Key']} {each['VersionId']}"] = body + json.dumps(answer["Metadata"]).encode()
        return found

    def traces(self, *needles: bytes) -> list[str]:
        """Return the objects that have one of these bytes in them or in their names."""
        return sorted(
            name
            for name, body in self.everything().items()
            if any(each in body or each in name.encode() for each in needles)
        )


@pytest.fixture
def make_command(
    surrounded: None, object_store: ObjectStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Command]:

    def make(*, versions: bool) -> Command:
        client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
        bucket = f"erased-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=bucket)
        if versions:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return Command(bucket, client, capsys, tmp_path)

    return make


def spellings(text: str) -> list[bytes]:
    """Return a text as bytes, in the forms in which the files of a bucket have it."""
    return [text.encode(), json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode(),
            text.replace('"', '""').encode(), b"Lindqvist"]  # fmt: skip


def make_one(command: Command, sandbox: Sandbox) -> str:
    """Make a generation that has left all the traces that it can, beside others; return its key."""
    other = command.run("image-to-video", str(IMAGE), "somebody else")
    manifest = command.manifests / "rows.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "seed"], [PROMPT, "7"], ["rain over the sea", "7"]])
    command.run(
        "batch", str(manifest), "--budget-usd", "0.01", "--usd-per-video", "1", code=3
    )  # all are to be run again
    command.run("batch", str(manifest), "--at-once", "1")
    command.run("catalogue")
    keys = [
        each["generation_key"] for each in command.run("journal", "list", "--all")["generations"]
        if command.run("journal", "show", each["generation_key"])["inputs"]["prompt"] == PROMPT
    ]  # fmt: skip
    assert len(keys) == 1 and other["generation"] not in keys
    return str(keys[0])


@pytest.mark.parametrize("versions", [pytest.param(False, marks=pytest.mark.slow), True], ids=["plain", "versions"])
def test_nothing_is_found_and_nothing_is_paid_for_again(
    make_command: Callable[..., Command], sandbox: Sandbox, versions: bool
) -> None:
    """In no object, no old version, no name and no metadata; what others have stays as it was."""
    command = make_command(versions=versions)
    key = make_one(command, sandbox)
    entry = command.run("journal", "show", key)
    posters = [body for name, body in command.everything().items() if entry["request_id"] in name]
    assert len(posters) >= 3 and len(command.traces(*spellings(PROMPT))) >= 4

    planned = command.run("erase", key[:12], "--dry-run")
    before = command.everything()
    assert planned["state"] == "archived" and len(planned["deleted"]) == 3 and planned["written_without_it"]
    assert command.everything() == before

    command.run("erase", key, code=2)  # no terminal to ask
    done = command.run("erase", key, "--yes")

    assert done["state"] == "erased" and set(planned["deleted"]) == set(done["deleted"])
    assert any("Prefect" in each for each in done["out_of_reach"]) and any(
        "RunComfy" in each for each in done["out_of_reach"]
    )
    assert command.traces(*spellings(PROMPT)) == []
    left = command.everything()
    assert not any(
        hashlib.sha256(body).digest() in {hashlib.sha256(each).digest() for each in posters} for body in left.values()
    )
    assert not any(entry["request_id"] in name for name in left)
    assert command.traces(b"somebody else") and command.traces(b"rain over the sea")
    assert command.run("erase", key, "--yes")["deleted"] == []

    paid = sandbox.books().submissions_accepted
    refused = command.run("text-to-video", PROMPT, "--seed", "7", code=2)
    assert refused["error"] == "GenerationErased" and "erased by a person" in refused["message"]
    assert command.run("fetch", entry["request_id"], code=2)["error"] == "GenerationErased"
    batch = command.run("batch", str(command.manifests / "rows.csv"), "--budget-usd", "9", code=14)
    assert batch["counts"] == {"existing": 1, "refused": 1}
    assert sandbox.books().submissions_accepted == paid
    command.run("batch", str(command.manifests / "rows.csv"), code=14)  # it still asks for it
    assert command.traces(*spellings(PROMPT)) == [] and sandbox.books().submissions_accepted == paid
    tombstone = command.run("journal", "show", key)
    assert (tombstone["request_id"], tombstone["cost_usd"]) == (entry["request_id"], entry["cost_usd"])

    command.run("journal", "release", key, "--yes")
    again = command.run("text-to-video", PROMPT, "--seed", "7")
    assert again["generation"] == key and sandbox.books().submissions_accepted == paid + 1


@pytest.mark.slow
def test_an_image_goes_with_the_last_generation_that_has_it(
    make_command: Callable[..., Command], sandbox: Sandbox
) -> None:
    """As long as another one has it, it is left, and that is said."""
    command = make_command(versions=True)
    image = IMAGE.read_bytes()
    one, other = (command.run("image-to-video", str(IMAGE), prompt) for prompt in ("a boat sinks", "a boat swims"))

    first = command.run("erase", one["generation"], "--yes")
    assert list(first["left"].values()) == ["other generations have it as their input"]
    assert command.traces(image[2000:2200]) and command.run("journal", "show", other["generation"])["image"]

    second = command.run("erase", other["generation"], "--yes")
    assert second["left"] == {} and any("/images/" in uri for uri in second["deleted"])
    assert command.traces(image[2000:2200]) == command.traces(b"a boat") == []
    assert {each.rpartition(" ")[0].split("/")[1] for each in command.everything()} == {"journal"}


def test_one_that_is_under_way_is_refused(make_command: Callable[..., Command], sandbox: Sandbox) -> None:
    """Its files would arrive afterwards; nothing is changed."""
    command = make_command(versions=False)
    late = command.run("text-to-video", "late", "--run-timeout-seconds", "0.01", code=6)
    before = command.everything()

    refused = command.run("erase", late["generation_key"], "--yes", code=3)

    assert "under way" in refused["message"] and command.everything() == before
    sandbox.wait_for_end(late["request_id"])
    (video,) = command.run("fetch", late["request_id"])["videos"]
    staged = f"media/media/{video['sha256']}.mp4"  # somebody began to go on with it
    command.client.copy_object(
        Bucket=command.bucket, Key=staged, CopySource={"Bucket": command.bucket, "Key": video["key"]}
    )
    broken = {f"media/batches/x/{name}": late["request_id"].encode() for name in ("to-run-again.xlsx", "plan.json")}
    for name, body in broken.items():  # left, and said to be
        command.client.put_object(Bucket=command.bucket, Key=name, Body=body)
    command.client.put_object(Bucket=command.bucket, Key="media/batches/x/rows.jsonl", Body=b"{")
    done = command.run("erase", late["generation_key"], "--yes")
    assert f"s3://{command.bucket}/{staged}" in done["deleted"]
    assert not any(name.startswith(staged) for name in command.everything())
    assert set(done["left"]) == {f"s3://{command.bucket}/{name}" for name in broken}
    command.run("erase", "0" * 64, "--yes", code=3)


class Killed(BaseException):
    """What ends the process in the middle."""


@contextmanager
def killed_after(writes: int) -> Iterator[list[str]]:
    """Let this process die at a write to a store: before the one with this number is sent."""
    sent: list[str] = []

    send = URLLib3Session.send

    def counted(self: URLLib3Session, request: Any) -> Any:
        if request.method in ("PUT", "DELETE", "POST"):
            if len(sent) >= writes:
                raise Killed
            sent.append(f"{request.method} {request.url.partition('?')[0]}")
        return send(self, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(URLLib3Session, "send", counted)
        yield sent


@pytest.mark.slow
def test_killed_at_any_write_it_ends_the_same(make_command: Callable[..., Command], sandbox: Sandbox) -> None:
    """Every write is the last one once; run again, nothing is left, and nothing is paid for again."""
    command = make_command(versions=False)
    key = make_one(command, sandbox)
    whole = {
        each["Key"]: command.client.get_object(Bucket=command.bucket, Key=each["Key"])
        for each in command.client.list_objects_v2(Bucket=command.bucket)["Contents"]
    }
    snapshot = {name: (found["Body"].read(), found["Metadata"], found["ContentType"]) for name, found in whole.items()}
    writes, ended = 0, False
    while not ended:
        for name, (body, metadata, kind) in snapshot.items():
            command.client.put_object(Bucket=command.bucket, Key=name, Body=body, Metadata=metadata, ContentType=kind)
        with killed_after(writes) as sent:
            try:
                ended = main(["erase", key, "--yes", "--bucket", f"s3://{command.bucket}/media"]) == 0
            except Killed:
                ended = False
            assert len(sent) == writes or ended
        if writes:  # from the first write on it is erased for everyone
            assert command.run("text-to-video", PROMPT, "--seed", "7", code=2)["error"] == "GenerationErased"
        command.run("erase", key, "--yes")
        assert command.traces(*spellings(PROMPT)) == [], writes
        assert command.run("journal", "show", key)["inputs"] == {}
        writes += 1
    assert writes > 6


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_row_goes_out_of_a_manifest_of_any_format(kind: Any) -> None:
    """Only the one that asks for this generation; the others can be run again as before."""
    traces = Traces("0" * 64, (), IMAGE_TO_VIDEO, {"prompt": PROMPT, "seed": 7, "image_url": "s3://videos/a.jpg"},
                    media=frozenset({"s3://videos/a.jpg"}))  # fmt: skip
    ours = {"prompt": PROMPT, "seed": 7, "image": "s3://videos/a.jpg", "model": IMAGE_TO_VIDEO}
    changes = ({"seed": 8}, {"image": "s3://videos/b.jpg"}, {"prompt": "=rain"}, {"variation": "two"})
    others: list[dict[str, Any]] = [ours | change for change in changes]
    columns = ("prompt", "seed", "image", "model", "variation")
    document = write_manifest([(row, "it failed") for row in (ours, *others)], columns, kind)

    name = f"media/batches/x/to-run-again.{kind}"
    sung = Traces("0" * 64, (), "a/b", {"lyrics": PROMPT, "style": "waltz", "urls": ["s3://videos/a.jpg"]})
    songs = [
        {"model": "a/b", "lyrics": PROMPT, "style": style, "urls": "s3://videos/a.jpg"} for style in ("waltz", "rap")
    ]
    of_any_model = write_manifest([(song, "it failed") for song in songs], tuple(songs[0]), kind)
    assert cleaned(name, write_manifest([(songs[0], "")], tuple(songs[0]), kind), sung) is None
    assert (left := cleaned(name, of_any_model, sung)) not in (None, of_any_model) and cleaned(name, left, sung) is left
    left = cleaned(name, document, traces)

    assert left is not None and left != document
    assert cleaned(name, left, traces) is left
    alone = write_manifest([(ours, "it failed")], columns, kind)
    assert cleaned(name, alone, traces) is None
    assert cleaned("media/batches/x/other.bin", document, traces) is document


ASKED = {
    "prompt": PROMPT,
    "seed": 9007199254740993,
    "style": "a\nb",
    "loud": True,
    "urls": ["s3://v/a.jpg", "s3://v/b.jpg"],
}


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ({}, True), ({"seed": "9007199254740993"}, True), ({"loud": "TRUE"}, True), ({"style": "a\r\nb "}, True),
        ({"urls": '["s3://v/a.jpg", "s3://v/b.jpg"]'}, True), ({"urls": "s3://v/a.jpg|s3://v/b.jpg"}, True),
        ({"seed": None, "error": "late", "line": 3}, True), ({"error": "late", "steps": " "}, True),
        ({"seed": 9007199254740992}, False), ({"steps": 4}, False), ({"image": "s3://v/a.jpg"}, False),
        ({"urls": '["s3://v/a.jpg"]'}, False), ({"urls": ["s3://v/b.jpg", "s3://v/a.jpg"]}, False),
        ({"urls": "s3://v/a.jpg|s3://v/b.jpg|s3://v/c.jpg"}, False), ({"loud": False}, False), ({"style": "c"}, False),
        ({"prompt": f"{PROMPT}!"}, False), ({"model": "a/c"}, False), ({"variation": "2"}, False),
    ],
)  # fmt: skip
def test_a_row_of_another_generation_stays(change: dict[str, Any], asks: bool) -> None:
    """It differs in a setting, or has one that this one has not; spelling is no difference."""
    traces = Traces("0" * 64, (), "a/b", ASKED)

    assert traces.asked_by(ASKED | {"model": "a/b"} | change) is asks
