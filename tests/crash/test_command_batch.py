"""A batch by the command alone, killed again and again: each row is paid for once, and has its one video."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.runcomfy.cli.command_line import ROOT, CommandLine, command_line, one_object, surroundings
from tests.second_tries import enough

__all__ = ["command_line", "surroundings"]

pytestmark = pytest.mark.slow

ROWS, KILLS, PATIENCE_SECONDS = 50, 8, 2
SEED = 20261128


def test_fifty_rows_under_kills(
    command_line: CommandLine, sandbox: Sandbox, object_store: ObjectStore, tmp_path: Path, prefix: str
) -> None:
    """A row whose answer a kill lost is uncertain and not sent again; all others end archived."""
    manifest, draws = tmp_path / "rows.csv", random.Random(SEED)
    manifest.write_text("prompt\n" + "".join(f"wave {number}\n" for number in range(ROWS)))
    environment = command_line.environment | {"RUNCOMFY_JOURNAL_PATIENCE_SECONDS": str(PATIENCE_SECONDS)}
    words = ["batch", str(manifest), "--bucket", command_line.bucket, "--at-once", "8", "--json"]
    killed = 0
    for _ in range(KILLS):
        wanted = sandbox.books().submissions_received + draws.randint(1, 4)
        process = subprocess.Popen(
            [sys.executable, "-m", "runcomfy", *words],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and sandbox.books().submissions_received < wanted:
            time.sleep(0.01)
        time.sleep(draws.uniform(0, 0.3))
        process.kill()
        killed += process.wait() < 0
    enough(killed >= KILLS // 2, f"{killed} kills")
    time.sleep(PATIENCE_SECONDS)

    done = subprocess.run(
        [sys.executable, "-m", "runcomfy", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    report, books = one_object(done), sandbox.books()
    prompts = [request.inputs["prompt"] for request in books.requests]
    assert len(prompts) == len(set(prompts)), "a row was paid for twice"
    uncertain = report["counts"].get("uncertain", 0)
    assert report["archived"] + uncertain == report["rows"] == ROWS
    assert uncertain <= 8 * killed
    assert done.returncode == (14 if uncertain else 0)
    listed = (
        object_store.session()
        .client("s3", endpoint_url=object_store.endpoint_url)
        .list_objects_v2(Bucket="videos", Prefix=f"{prefix}/wan-ai/")
    )
    assert sum(each["Key"].endswith(".mp4") for each in listed["Contents"]) == report["archived"]
