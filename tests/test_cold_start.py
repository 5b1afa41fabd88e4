"""What an import loads: a process that needs little starts fast."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from runcomfy.cli.app import app

ROOT = Path(__file__).parents[1]
HEAVY = {"aiohttp", "av", "boto3", "httpx", "opentelemetry.sdk", "PIL", "prefect", "pyarrow"}


def loaded(program: str, *arguments: str) -> set[str]:
    """Return which of the heavy packages a fresh interpreter has loaded at the end of a program."""
    last = f"\nprint(*{HEAVY!r} & sys.modules.keys(), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}{last}", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=300,
        env={name: value for name, value in os.environ.items() if not name.startswith(("RUNCOMFY_", "AWS_"))},
    )  # fmt: skip
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("runcomfy", set()),
        ("runcomfy.models", set()),
        ("runcomfy.errors", set()),
        ("runcomfy.values", set()),
        ("runcomfy.sandbox", set()),
        ("runcomfy.api.client", {"httpx"}),
        ("runcomfy.polling.poll", {"httpx"}),
        ("runcomfy.storage.store", {"boto3"}),
    ],
)
def test_a_module_of_the_engine_loads_only_what_it_needs(module: str, needed: set[str]) -> None:
    """The service without the bucket, the bucket without the service, neither with the image and video libraries."""
    assert loaded(f"import {module}") <= needed


def test_the_script_is_the_command() -> None:
    """`prefect-runcomfy`, and never `runcomfy`, which is RunComfy's own."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]

    ((module, _, function),) = (target.partition(":") for target in scripts.values())
    assert list(scripts) == ["prefect-runcomfy"]
    assert callable(getattr(importlib.import_module(module), function))


def commands(app: App, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield every command that there is, and every group of them."""
    yield words
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name], *words, name)


@pytest.mark.parametrize("command", list(commands(app)), ids=" ".join)
def test_a_help_loads_nothing_that_it_does_not_show(command: tuple[str, ...]) -> None:
    """Neither the clients of service and bucket, nor Prefect, nor the libraries for images, videos and tables."""
    assert loaded("from runcomfy.cli.__main__ import main\nmain(sys.argv[1:])", *command, "--help") == set()


@pytest.mark.parametrize(
    "words",
    [
        ("make-video",), ("status",), ("status", "x"), ("balance",), ("text-to-video", "x"),
        ("text-to-video", "x", "--bucket", "videos", "--num-frames", "3"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_argument_or_token_is_reported_before_a_client_is_loaded(words: tuple[str, ...]) -> None:
    """And a wrong environment, which has no token here."""
    assert loaded("from runcomfy.cli.__main__ import main\nmain(sys.argv[1:])", *words) == set()
