"""A batch by the command alone, killed again and again: each row is paid for once, and has its one video."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.crash.names import name_api_call
from tests.crash.points import nth
from tests.crash.proxy import Proxy, proxies
from tests.crash.wire import Wire
from tests.runcomfy.cli.command_line import ROOT, CommandLine, command_line, one_object, surroundings

__all__ = ["command_line", "surroundings"]

pytestmark = pytest.mark.slow

ROWS, KILLS, AT_ONCE, PATIENCE_SECONDS = 100, 8, 8, 2
LAST_POINT = 20
"""A kill comes at one of so many moments of a run's calls to the service, which are at least six for each row: it ends
three rows and has eight at work at most, so that after eight kills there are rows left, and every kill finds a process
that waits for an answer."""
SEED = 20261128


def test_rows_under_kills(
    command_line: CommandLine, sandbox: Sandbox, object_store: ObjectStore, tmp_path: Path, prefix: str
) -> None:
    """A row whose answer a kill lost is uncertain and not sent again; all others end archived."""
    manifest, draws = tmp_path / "rows.csv", random.Random(SEED)
    manifest.write_text("prompt\n" + "".join(f"wave {number}\n" for number in range(ROWS)))
    proxy = Proxy(sandbox.url, name_api_call)
    with proxies(proxy):
        environment = command_line.environment | {
            "RUNCOMFY_JOURNAL_PATIENCE_SECONDS": str(PATIENCE_SECONDS),
            "RUNCOMFY_BASE_URL": proxy.url,
            "RUNCOMFY_OUTPUT_HOSTS": proxy.host,
        }
        words = ["batch", str(manifest), "--bucket", command_line.bucket, "--at-once", str(AT_ONCE), "--json"]
        command = [sys.executable, "-m", "runcomfy", *words]
        for _ in range(KILLS):
            started: Future[subprocess.Popen[bytes]] = Future()
            proxy.wire = Wire(nth(draws.randint(1, LAST_POINT))(lambda started=started: started.result().kill()))
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            started.set_result(process)
            assert process.wait(1500) < 0, "it ended by itself"
            proxy.settle()
        proxy.wire = Wire()
        time.sleep(PATIENCE_SECONDS)

        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False
        )

    report, books = one_object(done), sandbox.books()
    prompts = [request.inputs["prompt"] for request in books.requests]
    assert len(prompts) == len(set(prompts)), "a row was paid for twice"
    uncertain = report["counts"].get("uncertain", 0)
    assert report["archived"] + uncertain == report["rows"] == ROWS
    assert uncertain <= AT_ONCE * KILLS
    assert done.returncode == (14 if uncertain else 0)
    listed = (
        object_store.session()
        .client("s3", endpoint_url=object_store.endpoint_url)
        .list_objects_v2(Bucket="videos", Prefix=f"{prefix}/wan-ai/")
    )
    assert sum(each["Key"].endswith(".mp4") for each in listed["Contents"]) == report["archived"]
