"""What a person reads where Prefect's API is away or late, stdout is full, or serving is interrupted: a few lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deployments.conftest import ROOT, PrefectServer

pytestmark = pytest.mark.slow

NOBODY = "http://127.0.0.1:9/api"
SCRIPT = """
import asyncio
from blocks import MediaStore, RunComfyCredentials
from flows.text_to_video import text_to_video
asyncio.run(text_to_video("rain", RunComfyCredentials(api_token="token-of-tests"), MediaStore(bucket="videos")))
"""


def said(words: list[str], home: Path, stdout: int = subprocess.PIPE, **environment: str) -> tuple[int, str]:
    """Run a command, and return its exit code and what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "RUNCOMFY_"))}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=kept | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"} | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=900,
        check=False,
    )
    return done.returncode, (done.stdout or "") + done.stderr


@pytest.mark.parametrize(
    "command",
    [["deployments.serve"], ["deployments.worker"], ["deployments.drain", "--pool", "p", "--", "true"]],
    ids=lambda command: command[0],
)
def test_a_command_names_address_and_setting(command: list[str], tmp_path: Path) -> None:
    """One sentence, and exit code 3; `setup` has a test of its own."""
    code, text = said(["-m", *command], tmp_path, PREFECT_API_URL=NOBODY)

    assert code == 3 and "Nothing listens at 127.0.0.1:9" in text and "PREFECT_API_URL" in text
    assert "Traceback" not in text and len(text.splitlines()) <= 3


def test_a_script_ends_with_what_to_do(tmp_path: Path) -> None:
    """A flow that is called meets Prefect first: nothing of the libraries below is shown, and nothing was paid for."""
    code, text = said(["-c", SCRIPT], tmp_path, PREFECT_API_URL=NOBODY, PYTHONPATH=str(ROOT))

    assert code == 1 and "Nothing listens at 127.0.0.1:9" in text.splitlines()[-1]
    assert text.splitlines()[-1].endswith("Nothing was started or paid for.")
    assert "httpcore" not in text and "During handling" not in text and len(text.splitlines()) < 40


def test_a_temporary_server_that_is_late_is_explained(tmp_path: Path) -> None:
    """Prefect gives it 20 seconds by default, which a busy machine exceeds."""
    late = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "0", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"}
    code, text = said(["-c", SCRIPT], tmp_path, PYTHONPATH=str(ROOT), **late)

    assert code == 1 and "the temporary server that Prefect starts then was not ready within 0 s" in text
    assert "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=90" in text and "Nothing was started or paid for" in text


@pytest.mark.parametrize(
    "command", [["runcomfy", "models", "--help"], ["deployments.setup", "--help"]], ids=lambda command: command[0]
)
def test_a_full_disk_under_stdout_is_said(command: list[str], tmp_path: Path) -> None:
    """Exit code 1, and not the interpreter's 120 with a traceback."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, text = said(["-m", *command], tmp_path, full)
    finally:
        os.close(full)

    assert code == 1 and "No space left on device. Make room" in text and "Traceback" not in text


def test_ctrl_c_ends_serving_in_words(prefect_server: PrefectServer) -> None:
    """What it means for schedules and runs, and exit code 130."""
    with prefect_server.running("deployments.serve") as serving:
        log = max(prefect_server.home.glob("serve-*.log"), key=lambda path: path.stat().st_mtime)
        until = time.monotonic() + 900
        while "Serving report/served" not in log.read_text():
            assert time.monotonic() < until and serving.poll() is None, log.read_text()
            time.sleep(0.2)

        serving.send_signal(signal.SIGINT)

        assert serving.wait(300) == 130
    assert "Stopped. The schedules of what it served are paused" in log.read_text()
    assert "Traceback" not in log.read_text()
