"""What a command says about money when the store refuses after something was paid for."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.crash.proxy import Proxy, proxies
from tests.crash.wire import Answer, Point, Wire
from tests.runcomfy.cli.command_line import ROOT, CommandLine, one_object

DENIED = Answer(403, b"<Error><Code>AccessDenied</Code><Message>Injected</Message></Error>")


@pytest.fixture
def refusing(command_line: CommandLine, object_store: ObjectStore) -> Iterator[Callable[[str, int], CommandLine]]:
    """The command with a store that refuses a kind of write, from the nth on."""
    proxy = Proxy(object_store.endpoint_url, _kind)

    def refuse(kind: str, since: int) -> CommandLine:
        def hook(point: Point) -> Answer | None:
            return DENIED if point.name == kind and point.occurrence >= since and point.moment == "before" else None

        proxy.wire = Wire(hook)
        return CommandLine(command_line.environment | {"AWS_ENDPOINT_URL_S3": proxy.url}, command_line.bucket)

    with proxies(proxy):
        yield refuse


def _kind(method: str, target: str, headers: Mapping[str, str]) -> str:
    path = urlsplit(target).path
    if method != "PUT":
        return "other"
    if "/journal/" in path and "if-match" in headers and "/." not in path:
        return "entry"
    return "results" if "/batches/" in path else "other"


def test_a_video_whose_end_cannot_be_recorded_is_reported_as_paid(
    refusing: Callable[[str, int], CommandLine], command_line: CommandLine, sandbox: Sandbox
) -> None:
    """With its request, and a command that collects it; the first conditional write is that of the request's id."""
    command = refusing("entry", 2)

    done = command.run("text-to-video", "rain", "--bucket", command.bucket, code=12)

    (request,) = sandbox.books().requests
    assert "paid for: It may be" in done.stderr and "Not by this run" not in done.stderr
    (adopt,) = [line.split() for line in done.stderr.splitlines() if "prefect-runcomfy journal adopt" in line]
    assert adopt[-3:] == [request.id, "--bucket", command.bucket]
    pasted = command_line.run(*adopt[1:], "--json")  # as it is, now that the store works again
    assert one_object(pasted)["request_id"] == request.id and len(sandbox.books().requests) == 1


def test_a_batch_whose_results_cannot_be_written_says_that_rows_were_submitted(
    refusing: Callable[[str, int], CommandLine], tmp_path: Path
) -> None:
    """And where they are; it never says that nothing was paid for."""
    manifest, command = tmp_path / "rows.csv", refusing("results", 1)
    manifest.write_text("prompt\nrain\nsnow\n")

    done = command.run("batch", str(manifest), "--bucket", command.bucket, code=12)

    assert "What was submitted may be paid for" in done.stderr and "Not by this run" not in done.stderr
    assert f"prefect-runcomfy journal list --bucket {command.bucket}" in done.stderr


def test_a_sigterm_ends_it_though_nobody_reads_stderr(command_line: CommandLine, sandbox: Sandbox) -> None:
    """A handler that raises in the middle of a callback would be swallowed there."""
    sandbox.hold()
    process = subprocess.Popen(
        [sys.executable, "-m", "runcomfy", "text-to-video", "rain", "--bucket", command_line.bucket],
        cwd=ROOT, env=command_line.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        until = time.monotonic() + 300
        while not sandbox.books().submissions_accepted:
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)  # the request is recorded, and waited for
        process.stderr.close()
        process.send_signal(signal.SIGTERM)

        assert process.wait(300) == -signal.SIGTERM
    finally:
        process.kill()
        sandbox.release()
