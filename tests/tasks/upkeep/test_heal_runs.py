"""The task that `reconcile` calls: everything in one call, and never blocking the journal."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.states import Completed, Crashed, Running

from tasks.heal_runs import heal, heal_runs, still_silent
from tasks.upkeep.healing import Healed
from tasks.upkeep.judging import Liveness, RunAgain, judge_all
from tests.ports import free_ports
from tests.tasks.upkeep.conftest import Orders, now


@flow(name="looks-after-runs", flow_run_name="reconcile-videos")
async def looks_after_runs(bounds: RunAgain) -> Healed:
    return await heal_runs(bounds)


async def test_a_crashed_run_is_run_again_and_its_state_names_the_reconcile_run(orders: Orders) -> None:
    run = await orders.run(Running(), Crashed(message="out of memory"))

    healed = await looks_after_runs(RunAgain())

    assert [(change.judgement.verdict, change.done) for change in healed.changes] == [(Liveness.AGAIN, True)]
    state = await orders.state(run)
    assert state.message == (
        "Run again (1 of 8) by reconcile (flow run reconcile-videos), since it crashed: out of memory"
    )


async def test_turned_off_it_runs_nothing_again(orders: Orders) -> None:
    run = await orders.run(Running(), Crashed())

    healed = await looks_after_runs(RunAgain(times=0))

    assert healed.changes == () and (await orders.state(run)).type is StateType.CRASHED


async def test_a_silent_run_that_sends_a_heartbeat_during_the_check_is_left_alone(orders: Orders) -> None:
    """The server had been away, and received no heartbeats."""
    dead, alive, ended = [await orders.run(Running()) for _ in range(3)]
    facts = await orders.facts()
    later = replace(facts, at=facts.at + timedelta(hours=1), beats_known=True)
    silent = [each for each in judge_all(later, RunAgain()) if each.verdict is Liveness.RUNNING_ZOMBIE]
    assert len(silent) == 3

    await orders.beat(alive, now())
    await orders.heard({alive: 1})
    await orders.client.set_flow_run_state(ended, Completed())

    assert [each.run.id for each in await still_silent(orders.client, silent, facts.at)] == [dead]


async def test_an_order_that_is_run_again_or_given_up_emits_an_event(orders: Orders) -> None:
    """For other automations: with its run, why, and when; for one that is given up, once."""
    again, lost = await orders.run(Running(), Crashed(message="out of memory")), await orders.run(Running(), Crashed())

    await looks_after_runs(RunAgain())
    await orders.client.set_flow_run_state(lost, Running(), force=True)
    await orders.client.set_flow_run_state(lost, Crashed())
    for _ in range(2):
        await looks_after_runs(RunAgain(within_hours=1e-9))

    told = await orders.told({again: 1, lost: 2}, "runcomfy.order.")
    assert [(event["event"], event["payload"]["crashes"]) for event in told[lost]] == [
        ("runcomfy.order.run_again", 1),
        ("runcomfy.order.given_up", 2),
    ]
    (event,) = told[again]
    assert "out of memory" in event["payload"]["reason"] and event["payload"]["scheduled_for"]


async def test_if_the_api_does_not_answer_the_log_says_so_and_the_journal_is_still_reconciled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller continues with its other work."""
    async with PrefectClient(f"http://127.0.0.1:{free_ports(1)[0]}/api") as client:
        healed = await heal(client, RunAgain(), by="reconcile", logger=logging.getLogger("tests"))

    assert healed == Healed(None)
    assert "Prefect's API did not say how the runs are (ConnectError)" in caplog.text
