"""`batch` with models of the catalogue, against a sandbox that serves their entries, and a real S3 server."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import boto3
import pytest

from runcomfy.batch.plan import models_of, rows_from_json, rows_to_json
from runcomfy.batch.prepare import prepare
from runcomfy.batch.program import Program
from runcomfy.batch.run import BatchPolicy, run_here
from runcomfy.cli import environment
from runcomfy.cli.__main__ import main
from runcomfy.generation.hooks import Hooks
from runcomfy.generation.models import kinds_of
from runcomfy.sandbox import Sandbox
from runcomfy.values import OutcomeStatus
from tests.runcomfy.cli.command_line import CommandLine, one_object
from tests.runcomfy.cli.test_any_model import line, models, samples

__all__ = ["line", "models", "samples"]

EDIT, MUSIC, LIPSYNC = (
    "wan-ai/wan-2.7/edit",
    "elevenlabs/elevenlabs/music-generation",
    "kling/kling/lipsync/audio-to-video",
)
KONTEXT = "blackforestlabs/flux-1-kontext/pro/edit"


@pytest.fixture
def here(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The environment of the command in this process: starting one takes seconds."""
    for variable in [each for each in os.environ if each.startswith(("RUNCOMFY_", "AWS_"))]:
        monkeypatch.delenv(variable)
    for variable, value in line.environment.items():
        monkeypatch.setenv(variable, value)
    return line


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(file.getvalue(), encoding="utf-8")
    return str(path)


def results(uri: str, line: CommandLine) -> list[dict[str, str]]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=line.environment["AWS_ENDPOINT_URL_S3"])
    return list(
        csv.DictReader(io.StringIO(client.get_object(Bucket=bucket, Key=key)["Body"].read().decode("utf-8-sig")))
    )


def test_a_mixed_manifest(
    here: CommandLine, models: Sandbox, samples: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file each, of the right kind; by row, by command and in another format it is the same generation."""
    (tmp_path / "a.png").write_bytes(Path(samples["image"]).read_bytes())
    rows = [
        {"model": "text-to-video", "prompt": "rain", "resolution": "480p"},
        {"model": EDIT, "prompt": "snow", "image_urls": f"a.png|{samples['image']}", "num_images": " 2 "},
        {"model": KONTEXT, "prompt": "fog", "image": "a.png"},
        {"model": MUSIC, "prompt": "piano", "music_length_ms": "5000.0", "force_instrumental": "TRUE"},
        {"model": LIPSYNC, "video_url": samples["video"], "audio_url": samples["audio"]},
    ]
    before = models.books().submissions_accepted
    where = ("--bucket", here.bucket, "--json")
    code = main(["batch", written(tmp_path, "mixed.csv", rows), *where])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["archived"]) == (0, 5), report
    ended = results(report["results"], here)
    assert [row["uri"].split()[0].rpartition(".")[2] for row in ended] == ["mp4", "png", "png", "mp3", "mp4"]

    rows[1] |= {"image_urls": ["a.png", samples["image"]], "num_images": 2}
    rows[3] |= {"music_length_ms": 5000, "force_instrumental": True}
    main(["batch", written(tmp_path, "same.jsonl", rows), *where])
    music = ("--prompt", "piano", "--music-length-ms", "5000", "--force-instrumental")
    main(["generate", MUSIC, *music, *where])
    main(["generate", EDIT, "--prompt", "snow", "--num-images", "2", *["--image-urls", samples["image"]] * 2, *where])
    assert models.books().submissions_accepted == before + 5


def test_one_model_for_the_file(
    here: CommandLine, models: Sandbox, samples: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named by an option, as are inputs for all rows; what a row says comes first."""
    rows = [{"Image URLs": samples["image"], "Prompt": "rain"}, {"Image URLs": samples["image"], "Prompt": "snow"}]
    manifest = written(tmp_path, "edit.csv", rows)
    options = ("--model", EDIT, "--inputs.num-images", "2", "--bucket", here.bucket, "--json")

    assert main(["batch", manifest, *options]) == 0
    assert models.books().submissions_accepted
    assert main(["batch", manifest, *options, "--inputs.size", "1"]) == 2
    assert "size: there is no such field" in json.loads(capsys.readouterr().out.splitlines()[-1])["message"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"model": "wan-ai/wan-2.7/edti", "prompt": "x"}, "has no model"),
        ({"model": EDIT, "prompt": "x"}, "image_urls: Field required"),
        ({"model": EDIT, "prompt": "x", "image_urls": "gone.png"}, "image_urls: "),
        (
            {"model": EDIT, "prompt": "x", "image_urls": "a.png", "num_images": "5"},
            "num_images: it has to be 4 or less",
        ),
        ({"model": EDIT, "prompt": "x", "image_urls": "a.png", "num_image": "1"}, "did you mean num_images?"),
        ({"model": EDIT, "prompt": "nan", "image_urls": "a.png"}, "prompt: it is not a prompt"),
        ({"model": EDIT, "prompt": "x", "image_urls": "a.png", "image": "a.png"}, "it is given twice"),
        ({"model": MUSIC, "prompt": "x", "num_images": "1"}, "has no such input"),
        ({"model": LIPSYNC, "video_url": "a.png", "audio_url": "a.wav"}, "video_url: "),
    ],
)
def test_a_bad_row_is_named_before_anything_is_paid_for(
    row: dict[str, str], sentence: str, here: CommandLine, models: Sandbox, samples: dict[str, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, kind in (("a.png", "image"), ("a.wav", "audio")):
        (tmp_path / name).write_bytes(Path(samples[kind]).read_bytes())
    good = {"model": EDIT, "prompt": "good", "image_urls": "a.png", "num_images": ""}
    before = models.books().submissions_accepted

    code = main(["batch", written(tmp_path, "bad.csv", [good, row]), "--bucket", here.bucket, "--json"])

    message = json.loads(capsys.readouterr().out)["message"]
    assert code == 2
    assert sentence in message
    assert "line 3: " in message or "there is no such field" in message
    assert models.books().submissions_accepted == before


@pytest.mark.parametrize("name", ["again.csv", "again.jsonl"])
def test_what_failed_is_a_manifest_that_can_be_run_again(
    name: str, here: CommandLine, models: Sandbox, samples: dict[str, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """From anywhere, without the options of the first run, as the same generations; lists stay lists."""
    failing, made = "[sandbox: result=failed] ", "snow"
    (tmp_path / "a.png").write_bytes(Path(samples["image"]).read_bytes())
    rows: list[dict[str, Any]] = [
        {"prompt": f'{failing}=1+1, "{number}"', "image_urls": "a.png|a.png", "num_images": 2} for number in range(2)
    ]
    rows.append({"prompt": made, "image_urls": "a.png", "num_images": ""})
    where = ("--bucket", here.bucket, "--json")

    main(["batch", written(tmp_path, name, rows), *where, "--model", EDIT, "--inputs.enable-prompt-expansion", "false"])
    first = json.loads(capsys.readouterr().out)
    again, keys = first["to_run_again"], [row["generation_key"] for row in results(first["results"], here)]
    before = models.books().submissions_accepted
    second = one_object(here.run("batch", again, *where, code=14))  # a run of its own: one run pays once for a row

    assert (first["archived"], first["rows"]) == (1, 3)
    assert [row["generation_key"] for row in results(second["results"], here)] == keys[:2]
    assert models.books().submissions_accepted == before + 2


async def test_a_staged_file_that_went_is_noticed_before_the_submission(
    here: CommandLine, models: Sandbox, samples: dict[str, str], tmp_path: Path
) -> None:
    """Nothing is sent for its rows; run again, it is staged again. Rows for other workers are the same generations."""
    destination = environment.destination(here.bucket, "bucket", None)
    program = Program(environment.client, destination, environment.host_policy())
    rows = [{"model": LIPSYNC, "video_url": samples["video"], "audio_url": samples["audio"]}]
    manifest, log = written(tmp_path, "gone.csv", rows), Hooks().log
    before = models.books().submissions_accepted

    plan = await prepare(manifest, destination, {}, log, client=environment.client)
    for file in plan.rows[0].staged:
        destination.store.delete(file.key)
    outcomes, _ = await run_here(plan, program, BatchPolicy(at_once=1))
    again = await prepare(manifest, destination, {}, log, client=environment.client)
    document = rows_to_json(again.rows)
    async with environment.client() as client:
        kinds = await kinds_of(models_of(document), client, destination.journal)
    (read,) = rows_from_json(document, kinds)

    assert (outcomes[2].status, outcomes[2].retryable) == (OutcomeStatus.REFUSED, True)
    assert "is not in the bucket any more" in (outcomes[2].error or "")
    assert models.books().submissions_accepted == before
    assert len(read.staged) == 2
    assert read.order.inputs(read.staged).body() == again.rows[0].order.inputs(again.rows[0].staged).body()
    assert (await run_here(again, program, BatchPolicy(at_once=1)))[0][2].status is OutcomeStatus.ARCHIVED


def test_a_template_is_written_into_a_new_file(
    here: CommandLine, samples: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the media that its sample row names beside it, it is a batch as it is."""
    (tmp_path / "photo.jpg").write_bytes(Path(samples["image"]).read_bytes())
    words = ("manifest", "template", EDIT, "--output", str(tmp_path / "edits.csv"), "--bucket", here.bucket)

    assert main(list(words)) == 0
    assert main(list(words)) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["batch", str(tmp_path / "edits.csv"), "--bucket", here.bucket, "--json"]) == 0


def test_a_budget_counts_with_the_catalogues_price(
    here: CommandLine, models: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And of a typed model with the dearest that was seen, if one was; a finished batch needs no price."""
    music = [{"model": MUSIC, "prompt": f"piano {number}"} for number in range(3)]
    video = [{"model": "text-to-video", "prompt": f"rain {number}"} for number in range(2)]
    where = ("--bucket", here.bucket, "--json")
    before = models.books().submissions_accepted

    reached = main(["batch", written(tmp_path, "music.csv", music), *where, "--budget-usd", "0.6"])
    said = capsys.readouterr()
    unknown = main(["batch", written(tmp_path, "video.csv", video), *where, "--budget-usd", "0.6"])
    why = json.loads(capsys.readouterr().out)["message"]
    first = main(["batch", written(tmp_path, "first.csv", video[:1]), *where])
    learned = main(["batch", written(tmp_path, "video.csv", video), *where, "--budget-usd", "0.6"])
    done = main(["batch", written(tmp_path, "first.csv", video[:1]), *where, "--budget-usd", "0.1"])

    assert (reached, unknown, first, learned, done) == (3, 3, 0, 0, 0)
    assert json.loads(said.out)["archived"] == 2
    assert "from 0.75 USD by the catalogue" in said.err
    assert "Price from 0.25 USD" in said.err
    assert "does not say it of text-to-video" in why
    assert models.books().submissions_accepted == before + 4
