"""Which requests nobody waits for, determined from the flow runs that Prefect knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled

from runcomfy.journal import Entry
from tasks.runtime.abandoned import Known, cancelled_by_person, is_abandoned, may_wait_too

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OWN, OUTER, DEPLOYMENT = uuid4(), uuid4(), uuid4()


def entry(*, run: UUID | str = OWN, deployment: UUID | None = None, state: str = "submitted") -> Entry:
    facts = {"id": str(OWN)} | ({"deployment_id": str(deployment)} if deployment else {})
    return Entry(
        generation_key="a" * 64, state=state, model_id="m", service="https://s", inputs={"prompt": "rain"},
        run=str(run), flow_run=facts, request_id="r", submitted_at=NOW, created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def run(run_id: UUID, state: State[Any], deployment: UUID | None = None, **more: Any) -> FlowRun:
    state = state.model_copy(update={"timestamp": more.pop("since", NOW)})
    return FlowRun(
        id=run_id, flow_id=uuid4(), state=state, state_type=state.type, state_name=state.name, deployment_id=deployment,
        **more,
    )  # fmt: skip


def known(*runs: FlowRun, deployments: tuple[UUID, ...] = (), under_way: tuple[FlowRun, ...] = ()) -> Known:
    return Known({each.id: each for each in runs}, deployments, under_way)


@pytest.mark.parametrize("state", [Crashed(), Failed(), Cancelled(), Completed(), Pending(), Scheduled()])
def test_the_request_of_a_run_that_ended_is_abandoned(state: State[Any]) -> None:
    """Whether the run ended or is to run again: no process waits for the request."""
    assert is_abandoned(entry(), known(run(OWN, state))) is True


@pytest.mark.parametrize("state", [Running(), Cancelling()])
def test_the_request_of_a_living_run_is_not_abandoned(state: State[Any]) -> None:
    """Also of a shard of a batch, which has a process of its own, whatever became of the batch."""
    assert is_abandoned(entry(), known(run(OWN, state))) is False
    batch = run(OUTER, Crashed())
    assert is_abandoned(entry(run=OUTER), known(run(OWN, state, DEPLOYMENT), batch)) is False


def test_a_subflow_ends_with_its_outermost_run() -> None:
    """Nobody reports that a subflow's process died; for the outermost run, the worker does."""
    assert is_abandoned(entry(run=OUTER), known(run(OWN, Running()), run(OUTER, Crashed()))) is True
    assert is_abandoned(entry(run=OUTER), known(run(OWN, Running()), run(OUTER, Running()))) is False
    assert is_abandoned(entry(run=OUTER), known(run(OWN, Running()))) is False


def test_an_unknown_run_counts_as_deleted_only_if_its_deployment_is_known() -> None:
    """It may belong to another server, or to a laptop; if its deployment is known, it was deleted here."""
    assert is_abandoned(entry(), known()) is None
    assert is_abandoned(entry(deployment=DEPLOYMENT), known()) is None
    assert is_abandoned(entry(deployment=DEPLOYMENT), known(deployments=(DEPLOYMENT,))) is True
    assert is_abandoned(entry(run="no run of Prefect").model_copy(update={"flow_run": {}}), known()) is None
    assert is_abandoned(entry().model_copy(update={"flow_run": {"id": "7"}}), known()) is None


@pytest.mark.parametrize(
    ("own", "outer", "cancelled"),
    [
        (run(OWN, Cancelled()), None, True),
        (run(OWN, Cancelled(), parameters={"on_interrupt": "ask"}), None, True),
        (run(OWN, Cancelled(), parameters={"on_interrupt": "leave"}), None, False),
        (run(OWN, Cancelling()), None, False),
        (run(OWN, Cancelling(), since=NOW - timedelta(minutes=2)), None, True),
        (run(OWN, Cancelled(message="Deployment concurrency limit reached.")), None, False),
        (run(OWN, Cancelled(message="Runner is shutting down.")), None, False),
        (run(OWN, Cancelled(message="Deployment concurrency slot lost during provisioning - no slots")), None, False),
        (run(OWN, Cancelled(message=f"Deployment {DEPLOYMENT} no longer exists, cancelled run.")), None, False),
        (run(OWN, Crashed()), None, False),
        (run(OWN, Failed()), None, False),
        (run(OWN, Running()), run(OUTER, Cancelled()), True),
        (run(OWN, Running(), parameters={"on_interrupt": "leave"}), run(OUTER, Cancelled()), False),
        (run(OWN, Running(), DEPLOYMENT), run(OUTER, Cancelled()), False),
        (run(OWN, Scheduled(), DEPLOYMENT), run(OUTER, Cancelled()), False),
        (run(OWN, Cancelled(), DEPLOYMENT), run(OUTER, Cancelled()), True),
        (run(OWN, Crashed(), DEPLOYMENT), run(OUTER, Cancelled()), True),
        (None, run(OUTER, Cancelled()), False),
    ],
)
def test_a_persons_cancel_is_distinguished_from_all_other_ends(
    own: FlowRun | None, outer: FlowRun | None, cancelled: bool
) -> None:
    """And one that the process may be handling at this moment is left to it."""
    runs = known(*(each for each in (own, outer) if each))

    assert cancelled_by_person(entry(run=OUTER), runs, NOW) is cancelled
    assert cancelled_by_person(entry(run=OUTER, state="detached"), runs, NOW) is False


@pytest.mark.parametrize(
    ("other", "waits"),
    [
        ({"parameters": {"prompt": "rain"}}, True),
        ({"parameters": {"prompt": " rain\n"}}, True),
        ({"parameters": {"prompt": "snow"}}, False),
        ({"parameters": {"prompt": "rain"}, "start_time": NOW - timedelta(hours=1)}, True),
        ({"parameters": {"manifest": "s3://b/m.csv"}, "tags": ["runcomfy"], "start_time": NOW - timedelta(1)}, True),
        ({"parameters": {"manifest": "s3://b/m.csv"}, "tags": ["runcomfy"]}, True),
        ({"parameters": {"store": "s"}, "tags": ["runcomfy", "upkeep"]}, False),
        ({"parameters": {}}, False),
    ],
)
def test_a_request_that_another_run_may_wait_for_is_not_cancelled(other: dict[str, Any], waits: bool) -> None:
    """Another run with the same inputs found it in the journal; a batch may, too."""
    begun = {"start_time": NOW + timedelta(minutes=1)} | other

    assert may_wait_too(entry(), known(under_way=(run(uuid4(), Running(), **begun),))) is waits
    assert may_wait_too(entry(), known(under_way=(run(OWN, Running(), **begun),))) is False
