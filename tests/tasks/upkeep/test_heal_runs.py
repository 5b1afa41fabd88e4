"""The task that `reconcile` calls: everything in one go, and never in the way of the journal."""

from __future__ import annotations

import logging

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed, Running

from tasks.heal_runs import heal, heal_runs
from tasks.upkeep.healing import Healed
from tasks.upkeep.judging import RunAgain, Verdict
from tests.ports import free_ports
from tests.tasks.upkeep.conftest import Orders


@flow(name="looks-after-runs", flow_run_name="reconcile-videos")
async def looks_after_runs(bounds: RunAgain) -> Healed:
    return await heal_runs(bounds)


async def test_what_crashed_is_run_again_and_the_state_names_the_run_that_did_it(orders: Orders) -> None:
    run = await orders.run(Running(), Crashed(message="out of memory"))

    healed = await looks_after_runs(RunAgain())

    assert [(change.judgement.verdict, change.done) for change in healed.changes] == [(Verdict.AGAIN, True)]
    state = await orders.state(run)
    assert state.message == (
        "Run again (1 of 8) by reconcile (flow run reconcile-videos), since it crashed: out of memory"
    )


async def test_turned_off_it_runs_nothing_again(orders: Orders) -> None:
    run = await orders.run(Running(), Crashed())

    healed = await looks_after_runs(RunAgain(times=0))

    assert healed.changes == () and (await orders.state(run)).type is StateType.CRASHED


async def test_where_the_api_does_not_answer_the_log_says_so_and_the_journal_is_looked_at_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever calls it goes on with what it has besides."""
    async with PrefectClient(f"http://127.0.0.1:{free_ports(1)[0]}/api") as client:
        healed = await heal(client, RunAgain(), by="reconcile", logger=logging.getLogger("tests"))

    assert healed == Healed(None)
    assert "Prefect's API did not tell of the runs (ConnectError)" in caplog.text
