"""`reconcile` and the flow runs that submitted open requests: runs that ended are not waited for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Pending, Running, Scheduled
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.reconcile import reconcile
from flows.text_to_video import text_to_video
from runcomfy.errors import AuthenticationError
from runcomfy.journal import EntryState
from runcomfy.sandbox import Sandbox
from tasks.runtime import abandoned
from tests.flows.test_reconcile import QUICK, entry_of, objects
from tests.prefect_server import delete_runs

pytestmark = pytest.mark.usefixtures("sandbox", "nobody_else")


@pytest.fixture
async def nobody_else() -> None:
    """Delete unfinished runs of other tests on the server: they might wait for the same request."""
    await delete_runs()


async def left_behind(sandbox: Sandbox, account: RunComfyCredentials, store: MediaStore, **given: Any) -> UUID:
    """Start a run whose process is stopped when its request is accepted, and return the run: it is Crashed."""
    run = asyncio.create_task(text_to_video("rain", account, store, polling=QUICK, **given))
    for _ in range(1200):
        if sandbox.books().polls:
            break
        await asyncio.sleep(0.1)
    run.cancel()
    await asyncio.wait({run})
    entry = await entry_of(store)
    assert entry.state is EntryState.SUBMITTED
    return UUID(entry.flow_run["id"])


async def forced(run_id: UUID, state: State[Any]) -> None:
    async with get_client() as client:
        await client.set_flow_run_state(run_id, state, force=True)


async def test_the_request_of_a_crashed_run_is_collected_at_once(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Though its entry changed a moment ago; and never while its run is alive."""
    sandbox.hold(queue=False, runs=True)
    await left_behind(sandbox, account, media_store)

    assert (await reconcile(account, media_store)).collected == {}
    sandbox.release()
    sandbox.wait_for_end((await entry_of(media_store)).request_id or "")
    found = await reconcile(account, media_store)

    assert list(found.collected) == [(await entry_of(media_store)).generation_key]
    assert objects(media_store) == ["jpg", "json", "mp4"]
    assert sandbox.books().submissions_accepted == 1


async def test_the_request_of_a_living_run_is_left_to_it(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Its state in Prefect is read, not its request's at the service."""
    sandbox.hold(queue=False, runs=True)
    run_id = await left_behind(sandbox, account, media_store)
    await forced(run_id, Running())
    sandbox.release()
    sandbox.wait_for_end((await entry_of(media_store)).request_id or "")

    assert (await reconcile(account, media_store)).collected == {}
    await forced(run_id, Crashed())
    assert len((await reconcile(account, media_store)).collected) == 1


async def test_an_order_that_runs_again_and_reconcile_may_archive_the_same(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Both at the same moment: one payment, one file, and no error."""
    sandbox.hold(queue=False, runs=True)
    await left_behind(sandbox, account, media_store)
    sandbox.release()
    sandbox.wait_for_end((await entry_of(media_store)).request_id or "")

    generation, found = await asyncio.gather(
        text_to_video("rain", account, media_store, polling=QUICK), reconcile(account, media_store)
    )

    assert found.failures == {}
    assert objects(media_store) == ["jpg", "json", "mp4"]
    assert generation.submission.request_id == (await entry_of(media_store)).request_id
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.parametrize(
    ("state", "on_interrupt", "becomes"),
    [
        (Cancelled(), "ask", EntryState.CANCELLED),
        (Cancelled(message="Deployment concurrency limit reached."), "ask", EntryState.SUBMITTED),
        (Cancelled(), "leave", EntryState.SUBMITTED),
        (Crashed(), "ask", EntryState.SUBMITTED),
    ],
)
async def test_a_request_is_cancelled_whose_run_a_person_cancelled_when_it_was_dead(
    sandbox: Sandbox,
    account: RunComfyCredentials,
    media_store: MediaStore,
    state: State[Any],
    on_interrupt: str,
    becomes: EntryState,
) -> None:
    """Only a person's cancel, and only where the run's parameters allow it."""
    sandbox.hold()
    run_id = await left_behind(sandbox, account, media_store, on_interrupt=on_interrupt)
    await forced(run_id, state)

    found = await reconcile(account, media_store)

    assert (await entry_of(media_store)).state is becomes
    assert sandbox.books().cancelled == (becomes is EntryState.CANCELLED)
    assert found.failures == found.need_a_person == {}


async def test_a_request_that_ended_before_its_cancel_is_collected_by_the_same_reconcile(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person cancelled the run, its process was dead, and the request is paid for and finished: its file is kept."""
    monkeypatch.setattr(abandoned, "_TIME_TO_ACT", timedelta())
    sandbox.hold(queue=False, runs=True)
    await forced(await left_behind(sandbox, account, media_store), Cancelling())
    sandbox.release()
    sandbox.wait_for_end((await entry_of(media_store)).request_id or "")

    found = await reconcile(account, media_store)

    assert list(found.collected) == [(await entry_of(media_store)).generation_key]
    assert (await entry_of(media_store)).state is EntryState.ARCHIVED and not sandbox.books().cancelled


@pytest.mark.parametrize("meanwhile", [Running(), Pending(), Crashed(), Scheduled(name="AwaitingRetry")])
async def test_a_request_is_not_cancelled_that_another_run_waits_for_or_will(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, meanwhile: State[Any]
) -> None:
    """It started before the request was submitted, found it in the journal, and continues or is run again."""
    sandbox.hold()
    async with get_client() as client:
        flow_id = await client.create_flow_from_name("order")
        deployment_id = await client.create_deployment(flow_id, uuid4().hex, enforce_parameter_schema=False)
        other = await client.create_flow_run_from_deployment(deployment_id, parameters={"prompt": "rain"})
        await client.set_flow_run_state(other.id, Running())
        run_id = await left_behind(sandbox, account, media_store)
        await forced(run_id, Cancelled())
        await forced(other.id, meanwhile)
        await reconcile(account, media_store)
        assert (await entry_of(media_store)).state is EntryState.SUBMITTED and not sandbox.books().cancelled

        await forced(other.id, Completed())
        await reconcile(account, media_store)
        await client.delete_deployment(deployment_id)
    assert (await entry_of(media_store)).state is EntryState.CANCELLED and sandbox.books().cancelled


async def test_one_failing_step_does_not_prevent_the_others(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """With a wrong token the journal cannot be reconciled; runs and slots are, and the run fails with the reason."""
    sandbox.hold(queue=False, runs=True)
    await left_behind(sandbox, account, media_store)
    wrong = account.model_copy(update={"api_token": SecretStr("another-account-9c1d")})

    with pytest.raises(AuthenticationError):
        await reconcile(wrong, media_store)

    async with get_client() as client:
        (run,) = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["reconcile"])),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )
        assert run.state_name == "Failed" and "runcomfy.unexplained-slots" in run.labels


async def test_it_runs_again_when_a_request_is_due_and_once_for_all_that_waited(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Deployed: the request that is still running is polled again before the schedule.

    The waiting runs are ended without starting a process; one that has started by then ends by itself.
    """
    sandbox.hold(queue=False, runs=True)
    await left_behind(sandbox, account, media_store)
    given = {"credentials": account, "store": media_store}
    async with get_client() as client:
        flow_id = await client.create_flow_from_name("reconcile")
        name = f"made-up-{uuid4().hex[:8]}"
        deployment_id = await client.create_deployment(flow_id, name, enforce_parameter_schema=False)
        first, *waited = [await client.create_flow_run_from_deployment(deployment_id) for _ in range(4)]
        later = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1))
        not_due = await client.create_flow_run_from_deployment(deployment_id, state=later)
        other_store = await client.create_flow_run_from_deployment(deployment_id, parameters={"store": "other"})
        begun = waited.pop()
        await client.set_flow_run_state(begun.id, Pending())

        did = await run_flow(reconcile, flow_run=first, parameters=given, return_type="state")
        covered = await run_flow(reconcile, flow_run=begun, parameters=given, return_type="state")

        assert (did.name, covered.name) == ("Completed", "Covered")
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
        )
        for run in runs:
            if run.id in {each.id for each in waited}:
                assert (run.state_name, run.run_count) == ("Covered", 0)
                assert run.state is not None and first.name in (run.state.message or "")
        left = [run for run in runs if run.state is not None and run.state.is_scheduled()]
        (again,) = [run for run in left if run.id not in (not_due.id, other_store.id)]
        assert len(left) == 3
        assert again.expected_start_time == (await did.result()).next_look_at
        assert again.state is not None and "1 request(s)" in (again.state.message or "")
        await client.delete_deployment(deployment_id)
