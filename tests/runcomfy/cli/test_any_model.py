"""`generate` with any model of the catalogue, as a process of its own, against a sandbox that serves their entries."""

from __future__ import annotations

import json
import os
import re
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from runcomfy.cli.__main__ import main
from runcomfy.models.pins import Pin, class_of
from runcomfy.sandbox import Sandbox, SandboxSettings
from tests.runcomfy.cli.command_line import CommandLine

FOLDER = Path(__file__).parents[2] / "contract" / "models"
ENTRIES = sorted(FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def models() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(run_seconds=0.05, tiny_videos=True, models=FOLDER)) as sandbox:
        yield sandbox


@pytest.fixture
def line(command_line: CommandLine, models: Sandbox) -> CommandLine:
    changed = {
        "RUNCOMFY_API_TOKEN": models.token, "RUNCOMFY_BASE_URL": models.url, "RUNCOMFY_OUTPUT_HOSTS": models.host,
    }  # fmt: skip
    return CommandLine(command_line.environment | changed, command_line.bucket)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("samples")
    Image.linear_gradient("L").resize((320, 180)).convert("RGB").save(folder / "a.png")  # of one colour is a defect
    with wave.open(str(folder / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16_000))
    with av.open(str(folder / "a.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame(64, 36, "yuv420p")))
        container.mux(stream.encode(None))
    return {kind: str(folder / name) for kind, name in (("image", "a.png"), ("audio", "a.wav"), ("video", "a.mp4"))}


def options_of(entry: dict[str, Any], samples: dict[str, str]) -> list[str]:
    """Return the options that give every required input."""
    kind, words = class_of(Pin.from_entry(entry, "a file")), []
    for name in entry["input_schema"]["required"]:
        rules = entry["input_schema"]["properties"][name]
        if "default" in rules and name not in kind.texts:
            continue
        value = samples[kind.media[name].kind] if name in kind.media else "[]" if rules["type"] == "array" else "rain"
        words += [f"--{name.replace('_', '-')}", value]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_a_generation_of_every_model(
    path: Path, line: CommandLine, models: Sandbox, samples: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It is pinned, paid for once, and its file is of the right kind; run again, it costs nothing."""
    for name in ("RUNCOMFY", "AWS"):
        for variable in [each for each in os.environ if each.startswith(f"{name}_")]:
            monkeypatch.delenv(variable)
    for variable, value in line.environment.items():
        monkeypatch.setenv(variable, value)
    entry = json.loads(path.read_text(encoding="utf-8"))
    named = re.sub(r"[^\w./-]+", "-", entry["model_id"]).strip("-./")
    model = named if "/" in named else f"local/{named}"
    words = ["generate", model, *options_of(entry, samples), "--bucket", line.bucket, "--json"]
    before = models.books().submissions_accepted

    codes = main(words), main(words)
    first, again = (json.loads(said) for said in capsys.readouterr().out.splitlines())

    assert codes == (0, 0)
    assert models.books().submissions_accepted == before + 1
    assert [video["uri"] for video in first["videos"]] == [video["uri"] for video in again["videos"]]
    assert all(video["content_type"].startswith(entry["output"].lower()) for video in first["videos"]), first
    odd = [warning for video in first["videos"] for warning in video["warnings"]]
    assert not [warning for warning in odd if "pixels" not in warning]  # the sandbox renders thumbnails here


def test_the_options_are_the_models_own(line: CommandLine) -> None:
    """They are listed with their bounds; what is wrong is refused before anything is sent."""
    listed = line.run("generate", "wan-ai/wan-2.7/edit", "--help").stdout
    wrong = line.run(
        "generate", "wan-ai/wan-2.7/edit", "--prompt", "x", "--num-images", "9", "--bucket", line.bucket, code=2
    ).stderr

    assert "--num-images INT" in listed
    assert "1 to 4" in listed
    assert "num_images: it has to be 4 or less" in wrong
    assert "image_urls: Field required" in wrong
    assert "Traceback" not in wrong


def test_without_a_model_or_a_bucket_it_says_what_to_give(line: CommandLine) -> None:
    assert "models list" in line.run("generate", "--help").stdout
    assert "models list" in line.run("generate", code=2).stderr
    assert "No bucket is named" in line.run("generate", "wan-ai/wan-2.7/edit", "--prompt", "x", code=2).stderr
    assert "has no model" in line.run("generate", "no/such", "--bucket", line.bucket, code=2).stderr


@pytest.mark.slow
def test_a_pin_is_shown_compared_and_refreshed(line: CommandLine, tmp_path: Path) -> None:
    """Of a pin of last month, `diff` says what changed since; `refresh` takes it over, and changes nothing again."""
    model = "wan-ai/wan-2.7/edit"
    entry = json.loads((FOLDER / "wan-ai-wan-2.7-edit.json").read_text(encoding="utf-8"))
    entry["input_schema"]["properties"]["num_images"]["maximum"] = 2
    (tmp_path / "entry.json").write_text(json.dumps(entry), encoding="utf-8")
    where = ("--bucket", line.bucket)

    added = line.run("models", "add", model, "--from-file", str(tmp_path / "entry.json"), *where).stdout
    line.run("models", "add", model, *where, code=2)
    before = line.run("models", "diff", model, *where).stdout
    refreshed = line.run("models", "refresh", model, *where).stdout
    again = line.run("models", "refresh", model, *where).stdout
    shown = line.run("models", "show", model, *where, COLUMNS="120").stdout

    assert "entry.json" in added
    assert before == refreshed == "num_images: maximum was 2, and is 4\n"
    assert again == "Nothing changed.\n"
    assert "1 to 4" in shown
    assert "prefect-runcomfy generate wan-ai/wan-2.7/edit --prompt" in shown
    assert model in line.run("models", "list", "--search", "2.7/edit").stdout
