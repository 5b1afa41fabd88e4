"""What is read from a real server: what matters now, and nothing that ended long ago."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, StateType
from prefect.states import AwaitingRetry, Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled

from tasks.upkeep import reading
from tasks.upkeep.heartbeats import any_heartbeat
from tasks.upkeep.marks import again_message
from tests.tasks.upkeep.conftest import Orders, now

AGAIN = again_message(1, 8, "reconcile", "it died")


async def test_runs_at_work_and_crashed_ones_are_read_and_others_are_not(orders: Orders) -> None:
    """A run that has ended well, and one that is due tomorrow, are not read."""
    running, crashed = await orders.run(Pending(), Running()), await orders.run(Crashed(message="oom"))
    await orders.run(Running(), Completed())
    await orders.run(Running(), Failed(message="Flow run encountered an exception: InvalidInput: no prompt"))
    alone = "Validation of flow parameters failed with error: ConnectError: [Errno 111] Connection refused"
    without_server = await orders.run(Running(), Failed(message=alone))
    await orders.run(state=Scheduled(scheduled_time=now() + timedelta(days=1)))
    waiting = await orders.run()

    facts = await orders.facts()

    assert {run.id for run in facts.runs} == {running, crashed, without_server, waiting}
    assert facts.waiting == 1
    found = {run.id: run for run in facts.runs}
    assert found[crashed].message == "oom" and found[crashed].crashes == found[without_server].crashes == 1
    assert found[running].state_type is StateType.RUNNING and str(running) in found[running].url


async def test_every_page_is_read(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PAGE", 2)
    runs = {await orders.run(Running()) for _ in range(5)}

    assert {run.id for run in (await orders.facts()).runs} == runs


async def test_of_many_waiting_runs_the_first_are_read_and_all_are_counted(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_MOST_WAITING", 3)
    first = [await orders.run(state=Scheduled(scheduled_time=now() - timedelta(hours=9 - n))) for n in range(5)]

    facts = await orders.facts()

    assert facts.waiting == 5
    assert {run.id for run in facts.runs} == set(first[:3])


async def test_what_is_never_run_again_does_not_crowd_out_orders(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inbox run that crashes each minute, for days; the order crashed before them."""
    monkeypatch.setattr(reading, "_MOST_CRASHED", 2)
    order = await orders.run(Running(), Crashed())
    await orders.deploy(
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )
    for _ in range(3):
        await orders.run(Pending(), Running(), Crashed())

    facts = await orders.facts()

    assert [each.drops_new for each in facts.deployments.values()].count(True) == 1
    assert order in {run.id for run in facts.runs}


async def test_heartbeats_give_the_last_sign_of_life_and_the_interval(orders: Orders) -> None:
    """Those of before the present state do not count for that."""
    run, other = await orders.run(Running()), await orders.run(Running())
    begun = now()
    await orders.beat(run, *(begun + timedelta(seconds=30 * n) for n in range(5)))
    await orders.beat(other, begun - timedelta(seconds=700), begun)
    await orders.heard({run: 5, other: 2})

    found, foreign = await orders.known(run), await orders.known(other)

    assert found.last_heartbeat is not None
    assert abs((found.last_heartbeat - begun).total_seconds() - 120) < 1
    assert found.beat_seconds == pytest.approx(30, abs=0.1)
    assert foreign.last_heartbeat is not None and foreign.beat_seconds is None


async def test_a_heartbeat_of_any_run_shows_that_they_arrive(orders: Orders) -> None:
    """Such as that of an ended reconcile; a server that never had one says nothing about running ones."""
    ended = await orders.run(Running(), Completed())
    await orders.run(Running())
    assert not await any_heartbeat(orders.client, now() - timedelta(days=300))

    await orders.beat(ended, now())
    await orders.heard({ended: 1})

    assert (await orders.facts()).beats_known


async def test_crashes_count_from_when_a_person_started_it(orders: Orders) -> None:
    """Running it again by hand allows another eight attempts."""
    run = await orders.run(Running(), Crashed(), AwaitingRetry(message=AGAIN), Running(), Crashed())

    assert (await orders.known(run)).crashes == 2

    for state in (Scheduled(message="Retried via CLI"), Running(), Crashed()):
        await orders.client.set_flow_run_state(run, state)
    assert (await orders.known(run)).crashes == 1


async def test_a_run_that_was_cancelled_and_then_crashed_is_known_as_cancelled(orders: Orders) -> None:
    """A process that dies of its cancellation overwrites it with Crashed."""
    run = await orders.run(Running(), Cancelling())
    await orders.client.set_flow_run_state(run, Crashed(), force=True)

    assert (await orders.known(run)).cancelled


async def test_crashed_runs_of_a_deployment_that_is_gone_are_found_by_their_tag(orders: Orders) -> None:
    run = await orders.run(Running(), Crashed())
    await orders.client.delete_deployment(orders.id)
    await orders.deploy()

    found = await orders.known(run)

    assert found.deployment_id not in (await orders.facts()).deployments


async def test_the_heartbeat_frequency_is_that_of_the_deployment_or_of_its_pool(orders: Orders) -> None:
    pool = await orders.client.read_work_pool(orders.pool)
    template = {
        "job_configuration": {"env": "{{ env }}"},
        "variables": {"properties": {"env": {"default": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60"}}}},
    }
    await orders.client._client.patch(f"/work_pools/{pool.name}", json={"base_job_template": template})
    by_pool = orders.id
    own = await orders.deploy(job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}})

    deployments = (await orders.facts()).deployments

    assert deployments[by_pool].heartbeat_seconds == 60
    assert deployments[own].heartbeat_seconds == 30


async def test_workers_are_known_by_their_last_heartbeat(orders: Orders) -> None:
    await orders.client.send_worker_heartbeat(orders.pool, "worker-1", heartbeat_interval_seconds=30)

    (worker,) = (await orders.facts()).workers

    assert (worker.name, worker.online) == ("worker-1", True)
    assert worker.last_heartbeat is not None and now() - worker.last_heartbeat < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("entrypoint", "reconciles", "again"),
    [
        ("flows/text_to_video.py:text_to_video", False, True),
        ("flows/reconcile.py:reconcile", True, True),
        ("flows/release_generation.py:release_generation", False, False),
        ("prefect_runcomfy.flows.text_to_video.text_to_video", False, True),
        ("prefect_runcomfy.flows.reconcile.reconcile", True, True),
        ("prefect_runcomfy:reconcile", True, True),
        ("prefect_runcomfy.flows.release_generation.release_generation", False, False),
        ("flows/reconcile.py:others", False, True),
        ("flows.reconcile.my_reconcile", False, True),
    ],
)
async def test_the_entrypoint_says_what_a_deployment_is_for(
    orders: Orders, entrypoint: str, reconciles: bool, again: bool
) -> None:
    """By file or by module; a person's decision is not carried out a second time, when it may be wrong."""
    deployed = await orders.deploy(entrypoint=entrypoint)

    found = (await orders.facts()).deployments[deployed]

    assert (found.reconciles, found.again) == (reconciles, again)


async def test_a_tag_keeps_the_runs_of_a_deployment_from_being_run_again(orders: Orders) -> None:
    deployed = await orders.deploy(tags=["runcomfy", "not-again"])

    assert not (await orders.facts()).deployments[deployed].again
