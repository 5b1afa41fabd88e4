"""What an import loads: a process that needs little starts at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"aiohttp", "av", "boto3", "httpx", "opentelemetry.sdk", "PIL", "prefect", "pyarrow"}


def loaded(program: str, *arguments: str) -> set[str]:
    """Return which of the heavy packages a fresh interpreter has loaded at the end of a program."""
    last = f"\nprint(*{HEAVY!r} & sys.modules.keys(), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}{last}", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("runcomfy", set()),
        ("runcomfy.models", set()),
        ("runcomfy.errors", set()),
        ("runcomfy.values", set()),
        ("runcomfy.sandbox", set()),
        ("runcomfy.client", {"httpx"}),
        ("runcomfy.polling.poll", {"httpx"}),
        ("runcomfy.store", {"boto3"}),
    ],
)
def test_a_module_of_the_engine_loads_what_it_needs_only(module: str, needed: set[str]) -> None:
    """The service without the bucket, the bucket without the service, and neither what reads pictures and videos."""
    assert loaded(f"import {module}") <= needed


@pytest.mark.parametrize(
    "command",
    [
        (), ("image-to-video",), ("text-to-video",), ("batch",), ("catalogue",), ("doctor",), ("journal",),
        ("journal", "list"), ("status",), ("cancel",), ("fetch",), ("balance",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_help_loads_nothing_that_it_does_not_show(command: tuple[str, ...]) -> None:
    """Neither the clients of the service and of the bucket, nor Prefect, nor what reads pictures, videos and tables."""
    assert loaded("from flows.__main__ import main\nmain(sys.argv[1:])", *command, "--help") == set()
