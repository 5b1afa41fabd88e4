"""Whatever is killed, and whatever fails: paid for at most once, and archived or reported as uncertain."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from tests.crash.generation import Generation
from tests.crash.points import OF_ANY_MODEL, SCENARIOS, SIGNED, Scenario, at, is_in_every_run, nth, points_of, writes_of
from tests.crash.promises import Verdict, judge, look
from tests.crash.stage import Stage
from tests.crash.tally import Tally
from tests.crash.wire import Answer, Drop, Point, Wire
from tests.crash.workers import Outcome

pytestmark = pytest.mark.slow

_T = TypeVar("_T")

IMAGE, TEXT, PARTS = SCENARIOS[:3]
SEED = 20261121
EVERY_SO_OFTEN = 30
RECORDINGS, TRIES_TO_KILL, MISSED_AT_MOST = 3, 3, 0.25
ONCE_MORE_AFTER_EVERY = 4
SAMPLE = 7
CHAINS, KILLS_IN_A_CHAIN, RUNS_IN_A_CHAIN = 24, 4, 8
LONGEST_PAUSE_SECONDS = 0.05
"""A kill between two calls comes at most so long after the first of them: about as long as a call takes."""


def recorded(stage: Stage, scenario: Scenario) -> Wire:
    """Return the recorded calls of an undisturbed run."""
    with stage.generation(scenario) as generation:
        outcome = generation.run()
        assert outcome.videos, outcome
        return generation.lane.api.wire


def finish(
    label: str,
    generation: Generation,
    *,
    once_more: Callable[[Outcome], bool] = lambda _: False,
    uncertain_before: bool = False,
) -> Verdict:
    """Run a generation again without disturbance, perhaps twice, and judge it."""
    left = look(generation)
    outcomes = [generation.run()]
    if once_more(outcomes[0]):
        outcomes.append(generation.run())
    verdict = judge(label, generation, left, outcomes, honest=uncertain_before or left.state == "intent")
    if verdict.found.left_over:
        generation.collect_garbage()
        if look(generation).left_over:
            return replace(verdict, broken=(*verdict.broken, "left over even after the garbage collection"))
    return verdict


def until_killed(crash: Callable[[_T], Verdict], case: _T) -> Verdict:
    """Crash a case again if its run passed no such point, unless it broke a promise even so."""
    for _ in range(TRIES_TO_KILL):
        verdict = crash(case)
        if verdict.kills or verdict.broken:
            break
    return verdict


def recorded_points(stage: Stage, scenario: Scenario) -> tuple[list[Point], set[Point]]:
    """Return the points of a recorded run, and those of them that other runs passed as well.

    One that a busy machine held up writes to the journal once more than others do: it renews its claim.
    """
    traces = stage.side_by_side(lambda each: points_of(recorded(stage, each).trace), [scenario] * RECORDINGS)
    return traces[0], set.intersection(*map(set, traces))


def missed(points: Sequence[Point], verdicts: Sequence[Verdict], in_others: Container[Point]) -> list[Point]:
    """Return the points at which nothing was killed, of those that each run passes, if they are too many.

    On a slow machine every recorded run may renew its claim, one of them once less: a quarter of the points is more
    than all such calls.
    """
    found = [point for point, verdict in zip(points, verdicts, strict=True) if not verdict.kills]
    found = [point for point in found if point in in_others and is_in_every_run(point)]
    return found if len(found) > MISSED_AT_MOST * len(points) else []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_at_every_point(stage: Stage, tally: Tally, scenario: Scenario) -> None:
    """The same inputs, run again after a kill before or after any call, end with their one video."""

    def crash(numbered: tuple[int, Point]) -> Verdict:
        number, point = numbered
        with stage.generation(scenario) as generation:
            generation.run_killed(at(point), fresh=number % EVERY_SO_OFTEN == EVERY_SO_OFTEN // 2)
            # What was archived is found again, as in the story "rerun": a sample of the points is enough for that.
            return finish(
                f"killed {point}", generation,
                once_more=lambda outcome: not outcome.videos or number % ONCE_MORE_AFTER_EVERY == 0,
            )  # fmt: skip

    points, in_others = recorded_points(stage, scenario)
    verdicts = stage.side_by_side(lambda numbered: until_killed(crash, numbered), enumerate(points))

    row = tally.row(f"every point: {scenario.name}", verdicts)
    assert not row.broken
    assert not missed(points, verdicts, in_others)


@pytest.mark.parametrize("scenario", OF_ANY_MODEL + SIGNED, ids=lambda scenario: scenario.name)
def test_any_model_killed_at_some_points(stage: Stage, tally: Tally, scenario: Scenario) -> None:
    """An image and a sound of the catalogue are paid once too, and whole: a sample of the points, spread evenly.

    So is what is signed: each attempt makes another signature, and the one in the bucket holds.
    """

    def crash(point: Point) -> Verdict:
        with stage.generation(scenario) as generation:
            generation.run_killed(at(point))
            return finish(f"killed {point}", generation, once_more=lambda outcome: not outcome.videos)

    all_points, in_others = recorded_points(stage, scenario)
    points = all_points[:: max(1, len(all_points) // SAMPLE)]
    verdicts = stage.side_by_side(lambda point: until_killed(crash, point), points)

    row = tally.row(f"some points: {scenario.name}", verdicts)
    assert not row.broken
    assert not missed(points, verdicts, in_others)


def test_killed_at_random_times(stage: Stage, tally: Tally) -> None:
    """Up to four kills in a row on the same generation: the first at a call, the others between calls.

    Those may come too late for a run that has less left to do, so only the first ones are certain.
    """
    stories = [IMAGE, TEXT, PARTS, TEXT]
    length = min(len(wire.trace) for wire in stage.side_by_side(lambda scenario: recorded(stage, scenario), stories))

    def crash(number: int) -> Verdict:
        draws, uncertain = random.Random(f"{SEED}:{number}"), False
        with stage.generation(stories[number % len(stories)]) as generation:
            generation.run_killed(nth(draws.randint(1, length // 2)))
            last = length
            for _ in range(RUNS_IN_A_CHAIN - 1):
                uncertain = uncertain or look(generation).state == "intent"
                if generation.kills < KILLS_IN_A_CHAIN:
                    when, pause_seconds = nth(draws.randint(1, last)), draws.uniform(0, LONGEST_PAUSE_SECONDS)
                    (outcome,) = generation.run_killed(when, pause_seconds=pause_seconds)
                    last = last if outcome.killed else max(1, last // 2)  # this generation has less left to do
            uncertain = uncertain or look(generation).state == "intent"
            label = f"{generation.scenario.name}, chain {number}, {generation.kills} kills"
            return finish(label, generation, uncertain_before=uncertain)

    row = tally.row("random times, chained", stage.side_by_side(crash, range(CHAINS)))

    assert not row.broken
    assert row.kills >= CHAINS


def test_two_compete_and_are_killed(stage: Stage, tally: Tally) -> None:
    """Two processes want the same generation; one or both are killed at some point of their calls.

    Uncertain is always honest here: one that is held up for longer than its lease is dead to the other.
    """
    draws, length = random.Random(SEED), len(recorded(stage, TEXT).trace)
    deaths = [(draws.randint(1, length * 3 // 2), draws.choice([(0,), (1,), (0, 1)])) for _ in range(16)]

    def crash(death: tuple[int, tuple[int, ...]]) -> Verdict:
        number, victims = death
        with stage.generation(TEXT, patience_seconds=5) as generation:
            generation.run_killed(nth(number), processes=2, victims=victims)
            label = f"killed {len(victims)} of two at point {number}"
            return finish(label, generation, uncertain_before=True)

    row = tally.row("two compete, one or both killed", stage.side_by_side(crash, deaths, at_once=3))

    assert not row.broken


def test_twenty_at_once(stage: Stage, tally: Tally) -> None:
    """Twenty processes want the same generation: one submission, and the same video for all."""
    with stage.generation(TEXT, patience_seconds=90) as generation:
        outcomes = generation.run_together(20)

        row = tally.row("twenty at once", [judge("twenty", generation, look(generation), outcomes, honest=False)])

    assert not row.broken
    assert len({str(video["key"]) for outcome in outcomes for video in outcome.videos}) == 1


def test_flows_and_the_command_want_the_same(stage: Stage, tally: Tally) -> None:
    """One journal serves both at the same time: one submission, and the same video for all."""
    with stage.generation(TEXT, patience_seconds=90) as generation:
        outcomes = generation.run_together(10, by=("prefect", "command"))

        row = tally.row("flows and commands", [judge("ten", generation, look(generation), outcomes, honest=False)])

    assert not row.broken
    assert len({str(video["key"]) for outcome in outcomes for video in outcome.videos}) == 1


def test_those_that_sign_the_same_want_one_file(stage: Stage, tally: Tally) -> None:
    """Each process signs it anew: no conflict, and the provenance is that of the file that stays."""
    with stage.generation(SIGNED[0], patience_seconds=90) as generation:
        outcomes = generation.run_together(8, by=("prefect", "command"))

        row = tally.row("eight that sign", [judge("eight", generation, look(generation), outcomes, honest=False)])

    assert not row.broken
    assert len({str(video["sha256"]) for outcome in outcomes for video in outcome.videos}) == 1


def error(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>Injected</Message></Error>".encode())


@dataclass(frozen=True)
class Fault:
    """A fault of the store at a write: instead of it, or `after` it was done; so many times in a row."""

    name: str
    act: Drop | Answer
    times: int = 1
    after: bool = False


LONGER_THAN_BOTO3_TRIES = 5
FAULTS = (
    Fault("500", error(500, "InternalError")),
    Fault("503 SlowDown for long", error(503, "SlowDown"), LONGER_THAN_BOTO3_TRIES),
    Fault("reset before", Drop()),
    Fault("reset after", Drop(), after=True),
    Fault("reset after, for long", Drop(), LONGER_THAN_BOTO3_TRIES, after=True),
)
OF_CONDITIONAL_WRITES = (
    Fault("spurious 412", error(412, "PreconditionFailed")),
    Fault("spurious 412 for long", error(412, "PreconditionFailed"), LONGER_THAN_BOTO3_TRIES),
)


def test_the_store_fails_at_every_write(stage: Stage, tally: Tally) -> None:
    """A store that fails at a write costs time at most; a later run, on a healthy one, keeps the promises."""
    cases = [
        (scenario, point, fault)
        for scenario in (IMAGE, PARTS)
        for point in writes_of(recorded(stage, scenario).trace)
        if scenario is IMAGE or point.name.startswith(("s3 PUT part 1", "s3 POST"))
        for fault in FAULTS + (OF_CONDITIONAL_WRITES if " if-" in point.name else ())
    ]

    def fail(case: tuple[Scenario, Point, Fault]) -> Verdict:
        scenario, point, fault = case
        with stage.generation(scenario) as generation:
            moment = point._replace(moment="after" if fault.after else "before")
            outcome = generation.run(at(moment, times=fault.times)(lambda: fault.act))
            left = look(generation)
            verdict = finish(f"{fault.name} at {point.name} #{point.occurrence}, which {outcome}", generation)
            if verdict.uncertain and not all(request in f"{outcome} {outcome.facts}" for request in left.requests):
                return replace(verdict, broken=(*verdict.broken, "the run's error does not name the request"))
            return verdict

    row = tally.row("the store fails", stage.side_by_side(fail, cases, at_once=8))

    assert not row.broken


def test_the_whole_session_keeps_the_promises(tally: Tally) -> None:
    """At least two hundred kills, nothing paid twice, no video lost."""
    if len(tally.rows) < len(SCENARIOS) + len(OF_ANY_MODEL) + 4:
        pytest.skip("only some of the crashes were run")

    assert tally.total("kills") >= 200
    assert (tally.total("paid_twice"), tally.total("lost")) == (0, 0)
