"""`prefect-runcomfy` as a process of its own, in an environment that knows the sandbox and the S3 server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore

__all__ = ["ROOT", "CommandLine", "command_line", "one_object", "surrounded", "surroundings"]

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class CommandLine:
    """The command in an environment that knows the sandbox and the S3 server."""

    environment: dict[str, str]
    bucket: str

    def run(self, *arguments: str, code: int = 0, **changed: str | None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; fail the test if it ends with another exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "runcomfy", *arguments],
            cwd=ROOT,
            env=self._with(changed),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    @contextlib.contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command and leave it running, until the body ends at the latest."""
        with subprocess.Popen(
            [sys.executable, "-m", "runcomfy", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def text_to_video(self, *options: str, code: int = 0, **changed: str | None) -> subprocess.CompletedProcess[str]:
        """Make a video of rain."""
        bucket = () if "--bucket" in options else ("--bucket", self.bucket)
        return self.run("text-to-video", "rain", *bucket, *options, code=code, **changed)

    def modules(self, *arguments: str) -> set[str]:
        """Run a command inside an interpreter that says which top-level packages it has loaded at the end."""
        program = (
            "import sys\nfrom runcomfy.cli.__main__ import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        return set(done.stderr.splitlines()[-1].split())

    def _with(self, changed: dict[str, str | None]) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.environment, **changed}
        return {name: value for name, value in merged.items() if value is not None}


@pytest.fixture
def surroundings(sandbox: Sandbox, object_store: ObjectStore) -> dict[str, str]:
    """The environment of a process that knows the sandbox and the S3 server, and no Prefect server."""
    own = ("PREFECT_", "AWS_", "RUNCOMFY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)} | {
        "RUNCOMFY_API_TOKEN": sandbox.token,
        "RUNCOMFY_BASE_URL": sandbox.url,
        "RUNCOMFY_OUTPUT_HOSTS": sandbox.host,
        "AWS_ENDPOINT_URL_S3": object_store.endpoint_url,
        "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "COLUMNS": "80",
    }


@pytest.fixture
def surrounded(surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have the environment that the command has in one of its own."""
    for name in set(os.environ) - set(surroundings):
        monkeypatch.delenv(name)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def command_line(surroundings: dict[str, str], prefix: str) -> CommandLine:
    """`prefect-runcomfy` on a prefix of this test's own."""
    return CommandLine(surroundings, f"s3://videos/{prefix}")


def one_object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON object that is all of stdout."""
    assert done.stdout.count("\n") == 1
    return dict(json.loads(done.stdout))
