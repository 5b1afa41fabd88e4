"""SIGTERM to runs during their paid calls, in every way that Prefect runs our tasks."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from blocks import MediaStore
from runcomfy.journal import EntryState
from runcomfy.sandbox import Sandbox
from tests.flows.test_interruption import BLOCKS, started, until
from tests.runcomfy.cli.command_line import CommandLine

pytestmark = pytest.mark.slow

MANY = 40

PROGRAM = f"""{BLOCKS}
import asyncio, sys
from prefect import flow, unmapped
from runcomfy.models import TextToVideo
from tasks import submit_request, wait_for_result

inputs = [TextToVideo(prompt=f"{{os.environ['PROMPT']}} {{number}}") for number in range(int(os.environ["MANY"]))]

async def all_at_once():
    await asyncio.gather(*(submit_request(each, account, store) for each in inputs))
    await asyncio.sleep(600)

@flow
async def in_a_flow():
    await all_at_once()

@flow
def in_threads():
    submissions = submit_request.map(inputs, unmapped(account), unmapped(store))
    wait_for_result.map(submissions, unmapped(account), unmapped(store)).result()

@flow
def in_a_sync_flow():
    asyncio.run(all_at_once())

how = sys.argv[1]
if how == "in_a_flow":
    asyncio.run(in_a_flow())
elif how == "without_a_flow":
    asyncio.run(all_at_once())
else:
    globals()[how]()
"""


async def states(store: MediaStore) -> Counter[EntryState]:
    return Counter([found.entry.state async for found in store.get_journal().entries()])


@pytest.mark.parametrize("how", ["in_a_flow", "in_threads", "in_a_sync_flow", "without_a_flow"])
@pytest.mark.parametrize(("seconds", "grace", "state"), [(4, 60, EntryState.SUBMITTED), (100, 2, EntryState.UNCERTAIN)])
async def test_a_stopped_program_records_its_paid_calls(
    command_line: CommandLine, sandbox: Sandbox, media_store: MediaStore,
    how: str, seconds: int, grace: int, state: EntryState,
) -> None:  # fmt: skip
    """Calls answered in time are known, others are recorded as uncertain; the process ends by the signal."""
    sandbox.hold(queue=True, runs=True)
    environment = command_line.environment | {
        "BUCKET": command_line.bucket,
        "PROMPT": f"rain [sandbox: submit=slow:seconds={seconds}]",
        "MANY": str(MANY),
        "RUNCOMFY_SHUTDOWN_GRACE_SECONDS": str(grace),
    }
    with started(["-c", PROGRAM, how], environment) as process:
        until(lambda: sandbox.books().submissions_accepted == MANY)
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=900)

    assert process.returncode != 0
    assert await states(media_store) == {state: MANY}, log[-6000:]
    assert sandbox.books().submissions_accepted == MANY
    if how != "in_a_flow" and state is EntryState.SUBMITTED:  # Prefect raises out of `asyncio.run`, and logs failures
        assert "Traceback" not in log, log[-6000:]


async def test_a_stopped_batch_on_the_command_line(
    command_line: CommandLine, sandbox: Sandbox, media_store: MediaStore, tmp_path: Path
) -> None:
    """Rows in their paid call are recorded, waiting rows are not started; no traceback; exit code."""
    sandbox.hold(queue=True, runs=True)
    manifest = tmp_path / "rows.csv"
    rows = [f"rain {number} [sandbox: submit=slow:seconds=6]" for number in range(MANY)]
    manifest.write_text("\n".join(["prompt", *rows]))
    command = ["-m", "runcomfy", "batch", str(manifest), "--bucket", command_line.bucket]
    with started(command, command_line.environment) as process:
        until(lambda: sandbox.books().submissions_accepted > 0)
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=900)

    accepted = sandbox.books().submissions_accepted
    assert process.returncode in (143, 130, -signal.SIGTERM) and "Traceback" not in log, log[-6000:]
    assert f"`prefect-runcomfy journal list --bucket {command_line.bucket}` shows it" in log, log[-6000:]
    known = await states(media_store)
    assert known[EntryState.SUBMITTED] == accepted and known.keys() <= {EntryState.SUBMITTED, EntryState.REFUSED}, log


async def test_ctrl_c_and_then_a_sigterm(command_line: CommandLine, sandbox: Sandbox, media_store: MediaStore) -> None:
    """Ctrl-C waits for the answer in order to cancel what is queued, and SIGTERM waits for that."""
    sandbox.hold(queue=True, runs=True)
    with command_line.start(
        "text-to-video", "rain [sandbox: submit=slow:seconds=4]", "--bucket", command_line.bucket
    ) as process:
        until(lambda: sandbox.books().submissions_accepted == 1)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=900)

    assert process.returncode in (143, 130, -signal.SIGTERM) and "Traceback" not in log, log
    assert await states(media_store) == {EntryState.CANCELLED: 1}, log
