"""What is done about a run on a real server: once, with who did it and why, and never against what it did since."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prefect import task
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled, Suspended

from tasks.upkeep.facts import RunFacts
from tasks.upkeep.healing import Healing, carry_out
from tasks.upkeep.judging import Judgement, Liveness, RunAgain, judge_all
from tasks.upkeep.marks import FORCED
from tests.tasks.upkeep.conftest import Orders, now

BY = "reconcile (flow run reconcile-videos)"
BOUNDS = RunAgain()


async def healed(orders: Orders, *, later: float = 0, bounds: RunAgain = BOUNDS) -> list[Healing]:
    """Read everything as of this many seconds later, judge it, and carry out the decisions."""
    facts = await orders.facts()
    judgements = judge_all(replace(facts, at=facts.at + timedelta(seconds=later)), bounds)
    return await carry_out(orders.client, judgements, bounds, by=BY)


PLACE_LOST = "Deployment concurrency slot lost during provisioning - no slots available to continue execution"
SERVER_AWAY = "Validation of flow parameters failed with error: ConnectError: [Errno 111] Connection refused"


@pytest.mark.parametrize(
    "end",
    [Crashed(message="out of memory"), Failed(message=SERVER_AWAY), Cancelled(message=PLACE_LOST)],
    ids=["died", "alone", "out of place"],
)
async def test_a_crashed_run_is_run_again_as_the_same_run(orders: Orders, end: State[None]) -> None:
    """Its page, name, parameters and tags stay; its state says how often, by whom, and why.

    Also one that Prefect calls failed, since its own server was away when the run began; or cancelled, since its
    slot was given away.
    """
    run = await orders.run(Running(), end, parameters={"prompt": "snow"}, tags=["spring"])
    crashed = await orders.client.read_flow_run(run)
    await orders.client.update_flow_run(run, infrastructure_pid="host:4711")

    (change,) = await healed(orders)

    assert change.done
    again = await orders.client.read_flow_run(run)
    assert again.state is not None and again.state.type is StateType.SCHEDULED and again.state.name == "AwaitingRetry"
    assert again.state.message == f"Run again (1 of 8) by {BY}, since it crashed: {end.message}"
    assert again.state.state_details.scheduled_time == crashed.state.timestamp + timedelta(seconds=10)  # type: ignore[union-attr]
    assert (again.name, again.parameters) == (crashed.name, crashed.parameters)
    assert set(again.tags) == {"runcomfy", "spring", "run-again"}


async def test_a_suspended_run_is_restored_and_can_be_resumed(orders: Orders) -> None:
    """If its process sent a last heartbeat after the suspension, the automation marks it as crashed."""
    rested = Suspended(timeout_seconds=3600)
    run = await orders.run(Pending(), Running(), rested, Crashed(message=f'{FORCED} "x": no sign of life for 150 s'))

    (change,) = await healed(orders)

    assert change.done
    put_back = (await orders.client.read_flow_run(run)).state
    assert put_back is not None and (put_back.type, put_back.name) == (StateType.PAUSED, "Suspended")
    assert put_back.state_details.pause_timeout == rested.state_details.pause_timeout
    assert put_back.message == f"Put back by {BY}: it was Suspended, which is no crash"
    assert await healed(orders) == []
    resumed = await orders.client.resume_flow_run(run)
    assert resumed.state is not None and (resumed.state.type, resumed.state.name) == (StateType.SCHEDULED, "Resuming")


async def test_a_run_that_is_scheduled_again_can_be_cancelled_at_once(orders: Orders) -> None:
    """Its process is gone, so there is nothing to wait for."""
    run = await orders.run(Running(), Crashed())
    await orders.client.update_flow_run(run, infrastructure_pid="host:4711")
    await healed(orders)

    await orders.client.set_flow_run_state(run, Cancelling())

    assert (await orders.state(run)).type is StateType.CANCELLED
    assert await healed(orders) == []


async def test_a_worker_gets_it_when_it_is_due(orders: Orders) -> None:
    run = await orders.run(Running(), Crashed())
    await healed(orders)

    waits = await orders.client.get_scheduled_flow_runs_for_work_pool(orders.pool, scheduled_before=now())
    due = now() + timedelta(seconds=11)
    comes = await orders.client.get_scheduled_flow_runs_for_work_pool(orders.pool, scheduled_before=due)

    assert [found.flow_run.id for found in waits] == []
    assert [found.flow_run.id for found in comes] == [run]


async def test_zombies_are_ended_and_their_states_say_who_did_it_and_why(orders: Orders) -> None:
    """Each through Prefect's own rules; living and resting runs are left alone."""
    pending, running = await orders.run(Pending()), await orders.run(Running())
    cancelling, resting = await orders.run(Running(), Cancelling()), await orders.run()
    await orders.beat(running, now())
    await orders.heard({running: 1})
    assert await healed(orders, later=300) == []

    changes = await healed(orders, later=700)

    assert all(change.done for change in changes) and len(changes) == 3
    said = {run: await orders.state(run) for run in (pending, running, cancelling)}
    assert [said[run].type for run in said] == [StateType.CRASHED, StateType.CRASHED, StateType.CANCELLED]
    for run, begin in ((pending, "Crashed"), (running, "Crashed"), (cancelling, "Cancelled")):
        assert (said[run].message or "").startswith(f"{begin} by {BY}: ")
    assert "no sign of life since" in (said[running].message or "")
    assert (await orders.state(resting)).type is StateType.SCHEDULED


async def test_the_slots_of_a_deployment_are_free_after_its_zombie_is_ended(orders: Orders) -> None:
    """The next order would wait indefinitely."""
    await orders.deploy(concurrency_limit=1)
    await orders.run(Pending())
    waiting = await orders.run(Pending())
    assert (await orders.state(waiting)).name == "AwaitingConcurrencySlot"

    await healed(orders, later=700)
    await orders.client.set_flow_run_state(waiting, Pending())

    assert (await orders.state(waiting)).type is StateType.PENDING


async def test_an_order_that_is_run_again_takes_a_slot_like_any_other(orders: Orders) -> None:
    """And releases it at its end, once."""
    await orders.deploy(concurrency_limit=2)
    run = await orders.run(Pending(), Running(), Crashed())
    taken = [await orders.places_taken()]
    await healed(orders)
    for state in (Pending(), Running(), Completed()):
        await orders.client.set_flow_run_state(run, state)
        taken.append(await orders.places_taken())

    assert taken == [0, 1, 1, 0]


async def test_two_at_once_run_it_again_once(orders: Orders) -> None:
    """The second finds its state changed."""
    run = await orders.run(Running(), Crashed())
    judgements = judge_all(await orders.facts(), BOUNDS)

    first = await carry_out(orders.client, judgements, BOUNDS, by=BY)
    second = await carry_out(orders.client, judgements, BOUNDS, by=BY)

    assert [change.done for change in (*first, *second)] == [True, False]
    states = [state.type for state in await orders.client.read_flow_run_states(run)]
    assert states.count(StateType.SCHEDULED) == 2  # the order, and this


@pytest.mark.parametrize(
    "verdict", [Liveness.RUNNING_ZOMBIE, Liveness.PENDING_ZOMBIE, Liveness.AGAIN, Liveness.GIVEN_UP]
)
async def test_a_run_whose_state_changed_is_left_alone(orders: Orders, verdict: Liveness) -> None:
    """It was alive, or somebody else was faster."""
    run = await orders.run(Running())
    before = await orders.known(run)
    await orders.client.set_flow_run_state(run, Completed())

    (change,) = await carry_out(orders.client, [Judgement(before, verdict, "silent", now())], BOUNDS, by=BY)

    assert not change.done
    assert (await orders.state(run)).type is StateType.COMPLETED


async def test_a_run_that_somebody_starts_while_its_tasks_are_ended_is_not_scheduled_a_second_time(
    orders: Orders,
) -> None:
    """Ending hundreds of task runs takes seconds; a person may have been faster, and a worker has started it."""
    run = await orders.run(Running(), Crashed())
    judgements = judge_all(await orders.facts(), BOUNDS)

    class StartedMeanwhile(PrefectClient):
        async def read_task_runs(self, *given: Any, **named: Any) -> list[TaskRun]:
            for state in (Scheduled(message="Retried via CLI"), Pending(), Running()):
                await self.set_flow_run_state(run, state)
            return await super().read_task_runs(*given, **named)

    async with StartedMeanwhile(str(orders.client.api_url)) as client:
        (change,) = await carry_out(client, judgements, BOUNDS, by=BY)

    assert not change.done and "is Running now" in change.said
    assert (await orders.state(run)).type is StateType.RUNNING


async def test_the_server_refuses_to_call_crashed_what_has_ended(orders: Orders) -> None:
    """Prefect's own rules guard the last moment, between our read and our change."""
    run = await orders.run(Running(), Completed())
    ended = await orders.client.read_flow_run(run)
    assert ended.state is not None
    known = RunFacts(run, ended.name, orders.id, ended.state.id, StateType.RUNNING, "Running", now())

    (change,) = await carry_out(orders.client, [Judgement(known, Liveness.RUNNING_ZOMBIE, "silent")], BOUNDS, by=BY)

    assert not change.done and "refused" in change.said
    assert (await orders.state(run)).type is StateType.COMPLETED


async def test_a_run_that_is_deleted_in_between_is_no_error(orders: Orders) -> None:
    run, other = await orders.run(Running(), Crashed()), await orders.run(Running(), Crashed())
    judgements = judge_all(await orders.facts(), BOUNDS)
    await orders.client.delete_flow_run(run)

    changes = await carry_out(orders.client, judgements, BOUNDS, by=BY)

    assert {change.judgement.run.id: change.done for change in changes} == {run: False, other: True}


async def test_a_run_that_is_given_up_is_marked_for_a_person_and_reported_once(orders: Orders) -> None:
    """The mark is removed when it is run again after all."""
    run = await orders.run(Running(), Crashed())
    once = RunAgain(times=1, within_hours=0.0001)
    first = await healed(orders, bounds=once, later=60)
    second = await healed(orders, bounds=once, later=60)

    assert [(change.judgement.verdict, change.reported_before) for change in (*first, *second)] == [
        (Liveness.GIVEN_UP, False),
        (Liveness.GIVEN_UP, True),
    ]
    assert "needs-a-person" in (await orders.client.read_flow_run(run)).tags
    assert (await orders.state(run)).type is StateType.CRASHED

    await healed(orders)
    assert "needs-a-person" not in (await orders.client.read_flow_run(run)).tags


async def test_it_runs_again_eight_times_and_then_waits_for_a_person(orders: Orders) -> None:
    """The whole life of an order whose process always dies."""
    run = await orders.run(Running(), Crashed())
    for number in range(1, 9):
        (change,) = await healed(orders)
        assert change.said.startswith(f"Run again ({number} of 8)")
        for state in (Running(), Crashed()):
            await orders.client.set_flow_run_state(run, state, force=True)

    (change,) = await healed(orders)

    assert change.judgement.verdict is Liveness.GIVEN_UP and "9 times" in change.said


async def test_a_process_that_was_alive_after_all_sets_the_end_of_its_run(orders: Orders) -> None:
    """It was marked as crashed while it worked: its own end counts, and no worker starts the same again."""
    run = await orders.run(Running(), Crashed())
    await healed(orders)

    await orders.client.set_flow_run_state(run, Completed())

    due = now() + timedelta(hours=1)
    comes = await orders.client.get_scheduled_flow_runs_for_work_pool(orders.pool, scheduled_before=due)
    assert (await orders.state(run)).type is StateType.COMPLETED
    assert comes == [] and await healed(orders) == []


async def test_task_runs_that_died_with_the_process_are_ended(orders: Orders) -> None:
    """Otherwise the page of an order that ended well shows a running task indefinitely; ended ones stay as they are."""

    @task
    def wait() -> None:
        """What the process was doing."""

    run = await orders.run(Running())
    dead, done = [
        (await orders.client.create_task_run(wait, run, dynamic_key=str(number), state=Running())).id
        for number in range(2)
    ]
    await orders.client.set_task_run_state(done, Completed(), force=True)
    await orders.client.set_flow_run_state(run, Crashed())

    await healed(orders)

    states = [(await orders.client.read_task_run(each)).state for each in (dead, done)]
    assert [state and state.type for state in states] == [StateType.CRASHED, StateType.COMPLETED]
