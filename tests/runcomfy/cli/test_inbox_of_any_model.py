"""`inbox` with models of the catalogue, against a sandbox that serves their entries, and a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from runcomfy.cli.__main__ import main
from runcomfy.sandbox import Sandbox
from tests.runcomfy.cli.command_line import CommandLine
from tests.runcomfy.cli.test_any_model import line, models, samples
from tests.runcomfy.cli.test_batch_of_any_model import EDIT, KONTEXT, LIPSYNC, here

__all__ = ["here", "line", "models", "samples"]

Put = Callable[..., str]


@pytest.fixture
def put(here: CommandLine) -> Put:
    """Put an object below the store's prefix, and return its URI."""
    bucket, _, prefix = here.bucket.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=here.environment["AWS_ENDPOINT_URL_S3"])

    def put_object(name: str, body: str | bytes, **metadata: str) -> str:
        data = Path(body).read_bytes() if isinstance(body, str) and body.startswith("/") else body
        client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data, Metadata=metadata)
        return f"s3://{bucket}/{prefix}/{name}"

    return put_object


def receive(
    capsys: pytest.CaptureFixture[str], here: CommandLine, folder: str, *words: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    try:
        code = main(["inbox", f"{here.bucket}{folder}", *words, "--bucket", here.bucket, "--json"])
    except SystemExit as ended:
        code = int(str(ended.code))
    report = json.loads(capsys.readouterr().out)
    return code, {one["source"].rpartition("/")[2]: one for one in report.get("received", [report])}


def test_images_for_a_model_that_edits_images(
    here: CommandLine, models: Sandbox, samples: dict[str, str], put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings are in sidecars and metadata; what the store keeps itself is no arrival, also where it is the inbox."""
    a, b, c, d = (Path(samples["image"]).read_bytes() + bytes(number) for number in range(4))
    put("in/a.png", a, **{"runcomfy-num-images": "2", "model": "Canon"})
    put("in/a.txt", "snow")
    put("in/b.png", b)
    put("in/b.json", json.dumps({"prompt": "fog", "num_images": 3, "enable_prompt_expansion": False}))
    put("in/c.png", c)
    put("in/d.png", d, **{"runcomfy-nom-images": "2"})
    put("in/voice.mp3", samples["audio"])
    put("quarantine/odd.png", samples["image"])
    before = models.books().submissions_accepted

    code, first = receive(capsys, here, "", "--model", EDIT)
    again, second = receive(capsys, here, "", "--model", EDIT)
    put("in/c.txt", "rain")
    _, third = receive(capsys, here, "", "--model", EDIT)

    assert {name: one["fate"] for name, one in first.items()} == {
        "a.png": "archived", "b.png": "archived", "c.png": "waiting", "d.png": "set aside",
    }  # fmt: skip
    assert [len(first[name]["uris"]) for name in ("a.png", "b.png")] == [2, 3]
    assert "did you mean num_images?" in first["d.png"]["reason"]
    _, other = receive(capsys, here, "/in", "--model", KONTEXT, "--prompt", "x")
    assert other["c.png"]["fate"] == "archived", "for another model, it is another arrival"
    assert code == 14
    assert again == 0
    assert set(second) == {"c.png"}
    assert third["c.png"]["fate"] == "archived"
    assert models.books().submissions_accepted == before + 4


def test_sounds_for_a_model_that_moves_lips(
    here: CommandLine, models: Sandbox, samples: dict[str, str], put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    """The speaker is the same for all, or in a sidecar; nothing that a sidecar may not name is read."""
    sound, speaker = Path(samples["audio"]).read_bytes(), put("speakers/one.mp4", samples["video"])
    for number, name in enumerate(("own", "other", "local", "filled", "elsewhere", "plain")):
        put(f"in/{name}.wav", sound + bytes(2 * number))
    put("in/own.json", json.dumps({"video_url": speaker}))
    put("in/other.json", json.dumps({"video_url": f"{here.bucket}/in/own.wav"}))
    put("in/local.json", json.dumps({"video_url": samples["video"]}))
    put("in/filled.json", json.dumps({"audio_url": f"{here.bucket}/in/own.wav", "video_url": speaker}))
    put("in/elsewhere.json", json.dumps({"video_url": "s3://images/a.mp4"}))
    before = models.books().submissions_accepted
    options = ("--model", LIPSYNC, "--field", "audio-url")

    code, first = receive(capsys, here, "/in", *options)
    _, second = receive(capsys, here, "/in", *options, "--inputs.video-url", speaker)

    assert {name: one["fate"] for name, one in first.items()} == {
        "own.wav": "archived", "other.wav": "set aside", "local.wav": "set aside", "filled.wav": "set aside",
        "elsewhere.wav": "set aside", "plain.wav": "waiting",
    }  # fmt: skip
    assert "an arrival of its own" in first["other.wav"]["reason"]
    assert "nothing else" in first["local.wav"]["reason"]
    assert "nothing else" in first["elsewhere.wav"]["reason"]
    assert "belongs to the one beside it" in first["filled.wav"]["reason"]
    assert code == 14
    assert second["plain.wav"]["fate"] == "archived"
    assert models.books().submissions_accepted == before + 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--model", LIPSYNC), "field: name the input"),
        (("--model", LIPSYNC, "--field", "image"), "field: name the input"),
        (("--model", LIPSYNC, "--field", "audio", "--prompt", "x"), "takes no text"),
        (("--model", LIPSYNC, "--field", "audio", "--inputs.audio-url", "a.wav"), "this is what arrives"),
        (("--model", LIPSYNC, "--field", "audio", "--inputs.sound", "a.wav"), "has no such input"),
        (("--model", EDIT, "--resolution", "480p"), "settings of image-to-video"),
        (("--inputs.num-images", "2"), "has no such setting"),
        (("--model", "text-to-video"), "takes no file"),
        (("--model", "no/such"), "has no model"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_taken(
    words: tuple[str, ...], says: str, here: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["inbox", f"{here.bucket}/in", *words, "--bucket", here.bucket, "--json"])

    assert code == 2
    assert says in json.loads(capsys.readouterr().out)["message"]


def test_what_was_archived_may_be_an_arrival_elsewhere_and_never_where_it_is(
    here: CommandLine, models: Sandbox, samples: dict[str, str], put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy arrives as any other file, whose marks are no settings; an archive key of before makes no arrivals."""
    marks = {
        "runcomfy-request-id": "r1", "runcomfy-output-index": "0", "runcomfy-generation-key": "0" * 64,
        "runcomfy-sha256": "1" * 64, "runcomfy-source-sha256": "1" * 64,
    }  # fmt: skip
    put("in/copy.png", samples["image"], **marks)
    put("in/older.png", Path(samples["image"]).read_bytes() + b"0", **marks)
    put("in/older.png.json", "{}")
    before = models.books().submissions_accepted

    code, first = receive(capsys, here, "/in", "--model", EDIT, "--prompt", "snow")

    assert {name: one["fate"] for name, one in first.items()} == {"copy.png": "archived", "older.png": "set aside"}
    assert code == 14
    assert models.books().submissions_accepted == before + 1
