"""A run that is interrupted between the stages: its request is cancelled before the wait, and never after it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prefect import flow, get_client, runtime
from prefect.flow_engine import FlowRunTimeoutError
from prefect.states import Cancelling

from blocks import MediaStore, RunComfyCredentials
from flows.text_to_video import text_to_video
from runcomfy.generation.engine import open_engine
from runcomfy.generation.generate import generate, submit, wait
from runcomfy.generation.hooks import Hooks, StateChange
from runcomfy.journal import EntryState
from runcomfy.models import TextToVideo
from runcomfy.models.orders import read_order
from runcomfy.policy import OnInterrupt, RunPolicy
from runcomfy.sandbox import Sandbox
from runcomfy.values import Submission
from tasks import archive_outputs, submit_request, wait_for_result
from tests.flows.test_interruption import QUICK, entry_of, timed_out

pytestmark = pytest.mark.slow

RAIN = TextToVideo(prompt="rain")


def interrupt(*_: Any) -> None:
    """Cancel what runs here; it notices at its next suspension, wherever that is."""
    running = asyncio.current_task()
    assert running is not None
    running.cancel()


async def suspend(*_: Any) -> None:
    """Let an interruption be noticed."""
    await asyncio.sleep(0)


async def interrupt_by_person() -> None:
    """Say in Prefect that the flow run is being cancelled, as a person does in the UI, and interrupt it."""
    async with get_client() as client:
        await client.set_flow_run_state(runtime.flow_run.id, Cancelling(), force=True)  # type: ignore[arg-type]
    interrupt()


async def assert_cancelled(sandbox: Sandbox, store: MediaStore, cancelled: bool = True) -> None:
    assert sandbox.books().submissions_accepted == 1
    assert sandbox.books().cancelled == cancelled
    state = EntryState.CANCELLED if cancelled else EntryState.SUBMITTED
    assert (await entry_of(store)).state is state


@flow
async def at_the_wait(account: RunComfyCredentials, store: MediaStore, how: OnInterrupt) -> None:
    """Be interrupted when the wait begins, which is all that a test can tell: Prefect's engine is in between."""
    submission = await submit_request(RAIN, account, store, on_interrupt=how)
    interrupt()
    await wait_for_result(submission, account, store, polling=QUICK, on_interrupt=how)


@flow
async def at_the_end_of_submitting(account: RunComfyCredentials, store: MediaStore, how: OnInterrupt) -> None:
    """Be interrupted in the engine of Prefect, when the function of the task has returned."""
    await submit_request.with_options(on_completion=[interrupt, suspend])(RAIN, account, store, on_interrupt=how)


@pytest.mark.parametrize("how", ["cancel", "leave"])
@pytest.mark.parametrize("where", [at_the_wait, at_the_end_of_submitting])
async def test_an_interruption_before_the_wait_follows_the_setting(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, where: Any, how: OnInterrupt
) -> None:
    """As one of the wait does: the request is cancelled in the queue, or left to the next run."""
    sandbox.hold()

    with pytest.raises(asyncio.CancelledError):
        await where(account, media_store, how)

    await assert_cancelled(sandbox, media_store, how == "cancel")


@pytest.mark.parametrize("by_person", [True, False])
async def test_a_person_cancels_and_a_platform_does_not(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, by_person: bool
) -> None:
    """What Prefect says of the run decides, between the stages as in them."""

    @flow
    async def interrupted() -> None:
        submission = await submit_request(RAIN, account, media_store)
        await interrupt_by_person() if by_person else interrupt()
        await wait_for_result(submission, account, media_store, polling=QUICK)

    sandbox.hold()

    with pytest.raises(asyncio.CancelledError):
        await interrupted()

    await assert_cancelled(sandbox, media_store, by_person)


async def test_a_time_out_of_the_flow_between_the_stages(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """It is over while nothing is awaited, and is noticed where the wait begins."""

    @flow
    async def slow(seconds: float) -> None:
        began = time.monotonic()
        submission = await submit_request(RAIN, account, media_store)
        left = seconds + 0.5 - (time.monotonic() - began)
        time.sleep(max(left, 0))  # noqa: ASYNC251  # nothing is to notice it here
        await wait_for_result(submission, account, media_store, polling=QUICK)

    sandbox.hold()

    await timed_out(lambda seconds: slow.with_options(timeout_seconds=seconds)(seconds), FlowRunTimeoutError, sandbox)

    await assert_cancelled(sandbox, media_store)


async def test_a_time_out_around_the_stages_is_an_interruption(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """`asyncio.timeout` of a script's own: the setting says what it means."""

    @flow
    async def submitting() -> None:
        async with asyncio.timeout(None) as outer:
            submission = await submit_request(RAIN, account, media_store, on_interrupt="cancel")
            outer.reschedule(0)
            await wait_for_result(submission, account, media_store, polling=QUICK, on_interrupt="cancel")

    sandbox.hold()

    with pytest.raises(TimeoutError):
        await submitting()

    await assert_cancelled(sandbox, media_store)


async def test_an_interruption_after_the_wait_cancels_nothing(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """What has succeeded is paid for: the next run collects it, and pays nothing."""

    @flow
    async def collecting() -> None:
        submission = await submit_request(RAIN, account, media_store, on_interrupt="cancel")
        waited = wait_for_result.with_options(on_completion=[interrupt, suspend])
        result = await waited(submission, account, media_store, polling=QUICK, on_interrupt="cancel")
        await archive_outputs(result, account, media_store, model_id=RAIN.model_id, inputs=RAIN, submission=submission)

    with pytest.raises(asyncio.CancelledError):
        await collecting()
    await text_to_video("rain", account, media_store, polling=QUICK)

    assert sandbox.books().submissions_accepted == 1
    assert (await entry_of(media_store)).state is EntryState.ARCHIVED


async def test_what_another_run_has_archived_in_the_meantime_stays_archived(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """This run does not know it yet, and cancels in vain: neither the journal nor an event says otherwise."""

    @flow
    async def late() -> None:
        submission = await submit_request(RAIN, account, media_store, on_interrupt="cancel")
        await text_to_video("rain", account, media_store, polling=QUICK)
        interrupt()
        await wait_for_result(submission, account, media_store, polling=QUICK, on_interrupt="cancel")

    with pytest.raises(asyncio.CancelledError):
        await late()

    entry = await entry_of(media_store)
    assert [event.state for event in entry.history][-1] is EntryState.ARCHIVED is entry.state


class Interrupted(Hooks):
    """A program that is interrupted as soon as its request is accepted."""

    def changed(self, change: StateChange) -> None:
        if change.state is EntryState.SUBMITTED:
            interrupt()


@pytest.mark.parametrize("told", [True, False])
async def test_the_engine_without_prefect(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, told: bool
) -> None:
    """One of many, while the program is told of the request, and a single one as a command makes it."""
    sandbox.hold()

    async def on_accepted(_: Submission) -> None:
        interrupt()
        await suspend()

    async def single() -> None:
        policy = RunPolicy(on_interrupt="cancel")
        hooks = Hooks() if told else Interrupted()
        async with open_engine(account.get_client(), media_store.destination(), policy=policy, hooks=hooks) as engine:
            if told:
                order = read_order({"prompt": "rain"}, {})
                await generate(order, (), engine, label="rain", on_accepted=on_accepted)
                return
            submission = await submit(engine, RAIN)
            await wait(engine.client, submission, engine.destination, engine.run_times, engine.policy, engine.hooks)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(single())

    await assert_cancelled(sandbox, media_store)
