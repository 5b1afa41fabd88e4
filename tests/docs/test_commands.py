"""Commands that documents, alerts and messages name: each exists, and a whole one can be pasted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from runcomfy.cli.app import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACES = [
    *DOCUMENTS,
    *sorted((ROOT / "deployments" / "monitoring").glob("*.yml")),
    *sorted(
        path for name in ("runcomfy", "tasks", "flows", "blocks", "deployments") for path in (ROOT / name).rglob("*.py")
    ),
]
TYPED = [
    (path.name, line.removeprefix("$ "))
    for path in DOCUMENTS
    for line in path.read_text(encoding="utf-8").splitlines()
    if line.startswith("$ ") and "prefect-runcomfy " in line
]
NAMED = re.compile(r"`(?:\.venv/bin/)?prefect-runcomfy ([a-z][a-z -]*[a-z])")


@pytest.mark.parametrize(("name", "line"), TYPED, ids=lambda value: value[:60])
def test_every_command_in_a_document_can_be_pasted(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong option, or one that is missing, is an error; the bucket may be in the environment."""
    monkeypatch.setenv("RUNCOMFY_BUCKET", "s3://my-bucket/videos")
    words = shlex.split(line, comments=True)

    _, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)

    assert words[0] in (".venv/bin/prefect-runcomfy", "prefect-runcomfy") and bound is not None


@pytest.mark.parametrize("path", PLACES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_that_is_named_exists(path: Path) -> None:
    """In sentences too; and no text names the removed command."""
    text = path.read_text(encoding="utf-8")

    assert "python -m flows" not in text
    for words in NAMED.findall(text):
        command, *more = words.split()
        assert command in app, f"{path.name}: {words}"
        if command == "journal" and more:
            assert more[0] in app["journal"], f"{path.name}: {words}"
