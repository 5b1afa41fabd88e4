"""What is decided about a run, case by case: alive or a zombie, and what is run again, when and how often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import StateType
from pydantic import ValidationError

from tasks.upkeep.facts import RunFacts
from tasks.upkeep.healing import Healed
from tasks.upkeep.judging import Liveness, RunAgain, judge, judge_all
from tests.tasks.upkeep.making import NOW, ago, facts, run

RUNNING, PENDING, CANCELLING, CRASHED = (
    StateType.RUNNING,
    StateType.PENDING,
    StateType.CANCELLING,
    StateType.CRASHED,
)


def failed(message: str) -> RunFacts:
    return run(StateType.FAILED, 5, message=message)


@pytest.mark.parametrize(
    ("found", "deployment", "verdict"),
    [
        (run(RUNNING, 3600, last_heartbeat=ago(100), beat_seconds=30), {}, Liveness.ALIVE),
        (run(RUNNING, 3600, last_heartbeat=ago(160), beat_seconds=30), {}, Liveness.RUNNING_ZOMBIE),
        (run(RUNNING, 3600, last_heartbeat=ago(160)), {"heartbeat_seconds": 30.0}, Liveness.RUNNING_ZOMBIE),
        # ten minutes of work at Prefect's default frequency, one beat missed or late
        (run(RUNNING, 600, last_heartbeat=ago(400)), {}, Liveness.ALIVE),
        (run(RUNNING, 900, last_heartbeat=ago(640)), {}, Liveness.RUNNING_ZOMBIE),
        # its own beats are slower than the present setting of its deployment
        (run(RUNNING, 9000, last_heartbeat=ago(500), beat_seconds=180), {"heartbeat_seconds": 30.0}, Liveness.ALIVE),
        # beats of an earlier attempt say nothing about this one, which has just begun
        (run(RUNNING, 20, last_heartbeat=ago(5000)), {"heartbeat_seconds": 30.0}, Liveness.ALIVE),
        (run(RUNNING, 700), {}, Liveness.RUNNING_ZOMBIE),  # killed before its first heartbeat
        (run(PENDING, 320), {}, Liveness.ALIVE),
        (run(PENDING, 340), {}, Liveness.PENDING_ZOMBIE),
        (run(PENDING, 340, state_name="Submitting"), {}, Liveness.PENDING_ZOMBIE),
        (run(CANCELLING, 590), {}, Liveness.ALIVE),
        (run(CANCELLING, 610), {}, Liveness.CANCELLING_ZOMBIE),
        (run(StateType.PAUSED, 90000, state_name="Suspended"), {}, Liveness.RESTING),
        (run(StateType.SCHEDULED, 90000, state_name="Resuming"), {}, Liveness.RESTING),
        (run(StateType.SCHEDULED, 90000, state_name="Late"), {}, Liveness.RESTING),
        (run(StateType.SCHEDULED, 5, state_name="AwaitingRetry"), {}, Liveness.RESTING),
        (run(StateType.FAILED, 5), {}, Liveness.LEFT),
        # Prefect's own server was away when the run began, or in the middle of it
        (
            failed("Validation of flow parameters failed with error: ConnectError: [Errno 111] refused"),
            {},
            Liveness.AGAIN,
        ),
        (failed("Flow run encountered an exception: httpx.ReadTimeout"), {}, Liveness.AGAIN),
        (failed("Flow run encountered an exception: RemoteProtocolError: Server disconnected"), {}, Liveness.AGAIN),
        (failed("Flow run encountered an exception: PrefectHTTPStatusError: Server error '503 …"), {}, Liveness.AGAIN),
        # reasons of its own, though in the same words
        (failed("Flow run encountered an exception: PrefectHTTPStatusError: Client error '404 …"), {}, Liveness.LEFT),
        (failed("Flow run encountered an exception: ServiceUnavailable: ConnectError"), {}, Liveness.LEFT),
        (failed("Flow run encountered an exception: InvalidInput: ReadError: is no prompt"), {}, Liveness.LEFT),
        (
            failed("Validation of flow parameters failed with error: ParameterTypeError: ConnectError"),
            {},
            Liveness.LEFT,
        ),
        (run(StateType.CANCELLED, 5), {}, Liveness.LEFT),
        (run(StateType.COMPLETED, 5), {}, Liveness.LEFT),
        (run(CRASHED, 5), {}, Liveness.AGAIN),
        (run(CRASHED, 5, crashes=8), {}, Liveness.AGAIN),
        (run(CRASHED, 5, crashes=9), {}, Liveness.GIVEN_UP),
        (run(CRASHED, 5, first_crash=ago(23 * 3600)), {}, Liveness.AGAIN),
        (run(CRASHED, 5, first_crash=ago(25 * 3600)), {}, Liveness.GIVEN_UP),
        (run(CRASHED, 3 * 86400), {}, Liveness.GIVEN_UP),  # nobody reconciled over the weekend
        (run(CRASHED, 5, deployment_id=uuid4()), {}, Liveness.GIVEN_UP),  # its deployment was deleted
        (run(CRASHED, 5), {"again": False}, Liveness.GIVEN_UP),
        (run(CRASHED, 5, deployment_id=None), {}, Liveness.LEFT),
        (run(CRASHED, 5, is_child=True), {}, Liveness.LEFT),
        (run(CRASHED, 5, cancelled=True), {}, Liveness.LEFT),
        (run(CRASHED, 5), {"paused": True}, Liveness.LEFT),
        (run(CRASHED, 5), {"drops_new": True}, Liveness.LEFT),
        (run(CRASHED, 5), {"reconciles": True}, Liveness.LEFT),
        # marked as crashed by mistake: it is alive, and has to end by itself
        (run(CRASHED, 100, last_heartbeat=ago(20)), {"heartbeat_seconds": 30.0}, Liveness.LEFT),
        (run(CRASHED, 500, last_heartbeat=ago(200)), {"heartbeat_seconds": 30.0}, Liveness.AGAIN),
        (run(CRASHED, 100, last_heartbeat=ago(103)), {"heartbeat_seconds": 30.0}, Liveness.AGAIN),
    ],
)
def test_the_verdict_about_a_run(found: RunFacts, deployment: dict[str, Any], verdict: Liveness) -> None:
    """One row each, with the reason as text."""
    judged = judge(found, facts(**deployment), RunAgain())

    assert judged.verdict is verdict, judged.why
    assert judged.why


@pytest.mark.parametrize(
    ("found", "dead_in"),
    [
        (run(RUNNING, 3600, last_heartbeat=ago(20)), None),
        (run(RUNNING, 3600, last_heartbeat=ago(44)), None),
        (run(RUNNING, 3600, last_heartbeat=ago(50)), 100),
        (run(PENDING, 50), None),
        (run(PENDING, 130, state_name="Submitting"), 200),
        (run(CANCELLING, 500), 100),
        (run(StateType.SCHEDULED, 90000, state_name="Late"), None),
        (run(CRASHED, 5), None),
    ],
)
def test_a_silent_run_is_due_when_it_counts_as_dead(found: RunFacts, dead_in: float | None) -> None:
    """Otherwise the next check would be the scheduled one, ten minutes later, if an automation missed it."""
    known = facts(found, heartbeat_seconds=30.0)
    judgements = tuple(judge_all(known, RunAgain()))

    due = Healed(known, judgements).suspects_due

    assert due == (None if dead_in is None else NOW + timedelta(seconds=dead_in))


@pytest.mark.parametrize("frequency", [None, 30.0])
def test_a_run_of_a_server_without_events_is_not_called_dead(frequency: float | None) -> None:
    """No heartbeat arrives, whatever the deployment sets, or none is stored: silence says nothing."""
    judged = judge(run(RUNNING, 90000), facts(beats_known=False, heartbeat_seconds=frequency), RunAgain())

    assert judged.verdict is Liveness.ALIVE


def test_a_reason_says_since_when_there_was_no_heartbeat() -> None:
    judged = judge(run(RUNNING, 3600, last_heartbeat=ago(300), beat_seconds=30), facts(), RunAgain())

    assert "no sign of life since 11:55:00 UTC" in judged.why


@pytest.mark.parametrize(
    ("crashes", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 320), (7, 600), (8, 600)]
)
def test_the_wait_doubles_up_to_ten_minutes(crashes: int, seconds: float) -> None:
    """It counts from the crash."""
    judged = judge(run(CRASHED, 2, crashes=crashes), facts(), RunAgain())

    assert judged.at == ago(2) + timedelta(seconds=seconds)


def test_an_overdue_run_is_run_again_at_once() -> None:
    """Never in the past, which a worker would treat as late."""
    assert judge(run(CRASHED, 3600), facts(), RunAgain()).at == NOW


def test_nothing_is_run_again_where_that_is_turned_off() -> None:
    assert judge(run(CRASHED, 5), facts(), RunAgain(times=0)).verdict is Liveness.LEFT


def test_a_run_that_was_read_twice_is_judged_once() -> None:
    """It may have moved from one page to another while they were read; the later read counts."""
    found = run(CRASHED, 5)

    assert [judged.run for judged in judge_all(facts(run(RUNNING, 5, id=found.id), found), RunAgain())] == [found]


@pytest.mark.parametrize("wrong", [{"times": -1}, {"within_hours": 0}, {"first_after_seconds": -1}, {"often": 3}])
def test_bounds_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunAgain.model_validate(wrong)


@given(
    st.integers(0, 100),
    st.floats(0.01, 1000),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.lists(st.floats(0, 1e5), min_size=1, max_size=150),
)
def test_an_order_that_always_crashes_is_given_up_eventually(
    times: int, within_hours: float, first: float, longest: float, lives: list[float]
) -> None:
    """Whatever the bounds: run again at most that often, never before its wait is over, never after its time."""
    bounds = RunAgain(times=times, within_hours=within_hours, first_after_seconds=first, longest_after_seconds=longest)
    crashes, seconds, begun = 0, 0.0, 0
    for life in lives:
        crashes, seconds = crashes + 1, seconds + life
        crashed = NOW + timedelta(seconds=seconds)
        judged = judge(
            run(CRASHED, 0, since=crashed, crashes=crashes, first_crash=NOW + timedelta(seconds=lives[0])),
            facts(),
            bounds,
        )
        if judged.verdict is not Liveness.AGAIN:
            break
        assert judged.at is not None and judged.at >= crashed
        assert judged.at <= NOW + timedelta(seconds=lives[0], hours=within_hours)
        begun, seconds = begun + 1, (judged.at - NOW).total_seconds()
    assert begun <= times
