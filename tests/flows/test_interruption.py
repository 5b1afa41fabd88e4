"""What an interruption does to a request: a person or a time-out cancels it, a platform's stop does not."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from prefect import flow
from prefect.flow_engine import FlowRunTimeoutError
from prefect.task_engine import TaskRunTimeoutError

from blocks import MediaStore, RunComfyCredentials
from flows.text_to_video import text_to_video
from runcomfy.journal import Entry, EntryState
from runcomfy.models import TextToVideo, generation_key
from runcomfy.policy import Polling
from runcomfy.sandbox import Sandbox
from tasks import submit_request, wait_for_result
from tests.runcomfy.cli.command_line import ROOT, CommandLine

pytestmark = pytest.mark.slow

BLOCKS = """
import os
from blocks import MediaStore, RunComfyCredentials

account = RunComfyCredentials(
    api_token=os.environ["RUNCOMFY_API_TOKEN"],
    base_url=os.environ["RUNCOMFY_BASE_URL"],
    output_hosts=[os.environ["RUNCOMFY_OUTPUT_HOSTS"]],
)
bucket, _, prefix = os.environ["BUCKET"].removeprefix("s3://").partition("/")
store = MediaStore(bucket=bucket, prefix=prefix)
"""
"""Makes the two blocks of what the environment says, in a script."""

FLOW = f"""{BLOCKS}
import asyncio
from flows.text_to_video import text_to_video

asyncio.run(text_to_video("rain", account, store))
"""

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.2, max_interval_seconds=0.2)


async def entry_of(store: MediaStore) -> Entry:
    found = await store.get_journal().read(generation_key(TextToVideo(prompt="rain")))
    assert found is not None
    return found.entry


@contextlib.contextmanager
def started(words: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(happened: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 900
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("sent", "running", "state", "code"),
    [
        (signal.SIGINT, False, EntryState.CANCELLED, 130),
        (signal.SIGINT, True, EntryState.DETACHED, 130),
        (signal.SIGTERM, False, EntryState.SUBMITTED, None),
        (signal.SIGTERM, True, EntryState.SUBMITTED, None),
    ],
)
@pytest.mark.parametrize("what", ["the command", "a flow"])
async def test_signals_in_a_terminal_cancel_or_detach(
    what: str,
    command_line: CommandLine,
    sandbox: Sandbox,
    account: RunComfyCredentials,
    media_store: MediaStore,
    sent: signal.Signals,
    running: bool,
    state: EntryState,
    code: int | None,
) -> None:
    """Ctrl-C cancels what is queued and detaches what runs; SIGTERM leaves both to the next run, to collect."""
    sandbox.hold(queue=not running, runs=True)
    words = ["-m", "runcomfy", "text-to-video", "rain", "--bucket", command_line.bucket]
    words = words if what == "the command" else ["-c", FLOW]
    with started(words, command_line.environment | {"BUCKET": command_line.bucket}) as process:
        until(lambda: sandbox.books().polls > 1)

        process.send_signal(sent)

        said, _ = process.communicate(timeout=900)
    assert process.returncode == code or ((code is None or what == "a flow") and process.returncode != 0), said
    assert (await entry_of(media_store)).state is state
    assert sandbox.books().cancelled == (state is EntryState.CANCELLED)
    sandbox.release()
    await text_to_video("rain", account, media_store, polling=QUICK)
    assert sandbox.books().submissions_accepted == (2 if state is EntryState.CANCELLED else 1)


async def timed_out(run: Callable[[float], Awaitable[Any]], error: type[Exception], sandbox: Sandbox) -> None:
    """Run something with a time-out, and again with a longer one if that came before the request: on a slow machine."""
    for seconds in (6, 20, 60, 180):
        with pytest.raises(error):
            await run(seconds)
        if sandbox.books().submissions_accepted:
            return
    raise AssertionError("nothing was submitted within any time-out")


@flow
async def waiting(account: RunComfyCredentials, store: MediaStore) -> None:
    """Wait for two seconds at most."""
    submission = await submit_request(TextToVideo(prompt="rain"), account, store)
    await wait_for_result.with_options(timeout_seconds=2)(submission, account, store, polling=QUICK)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("of_the_task", [False, True])
async def test_a_time_out_follows_the_rules_of_the_deadlines(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, running: bool, of_the_task: bool
) -> None:
    """`timeout_seconds` of a flow or a task cancels a request in the queue, and detaches one that runs."""
    sandbox.hold(queue=not running, runs=True)
    if of_the_task:
        with pytest.raises(TaskRunTimeoutError):
            await waiting(account, media_store)
    else:

        async def limited(seconds: float) -> None:
            await text_to_video.with_options(timeout_seconds=seconds)("rain", account, media_store, polling=QUICK)

        await timed_out(limited, FlowRunTimeoutError, sandbox)

    state = EntryState.DETACHED if running else EntryState.CANCELLED
    assert (await entry_of(media_store)).state is state
    assert sandbox.books().cancelled == (not running)


@pytest.mark.parametrize(("how", "state"), [("leave", EntryState.SUBMITTED), ("cancel", EntryState.CANCELLED)])
async def test_a_setting_reverses_either_rule(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, how: str, state: EntryState
) -> None:
    """With `leave` it outlives a time-out, and with `cancel` every interruption cancels it."""
    sandbox.hold()

    async def limited(seconds: float) -> None:
        await text_to_video.with_options(timeout_seconds=seconds)(
            "rain", account, media_store, polling=QUICK, on_interrupt=how
        )

    await timed_out(limited, FlowRunTimeoutError, sandbox)

    assert (await entry_of(media_store)).state is state
