"""Whatever is killed, and whatever fails: paid for at most once, and archived or reported as uncertain."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from tests.crash.generation import Generation
from tests.crash.points import OF_ANY_MODEL, SCENARIOS, Scenario, at, is_in_every_run, nth, points_of, writes_of
from tests.crash.promises import Verdict, judge, look
from tests.crash.stage import Stage
from tests.crash.tally import Tally
from tests.crash.wire import Answer, Drop, Point, Wire
from tests.crash.workers import Outcome
from tests.second_tries import enough

pytestmark = pytest.mark.slow

_T = TypeVar("_T")

IMAGE, TEXT, PARTS = SCENARIOS[:3]
SEED = 20261121
EVERY_SO_OFTEN = 30
TRIES_TO_KILL, MISSED_AT_MOST = 3, 0.25
ONCE_MORE_AFTER_EVERY = 4
SAMPLE = 7
CHAINS, KILLS_IN_A_CHAIN, RUNS_IN_A_CHAIN = 24, 4, 6


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


def missed(points: Sequence[Point], verdicts: Sequence[Verdict]) -> list[Point]:
    """Return the points at which nothing was killed, of those that each run passes, if they are too many.

    A recorded run that a busy machine held up writes to the journal once more than others do: it renews its claim.
    """
    found = [point for point, verdict in zip(points, verdicts, strict=True) if not verdict.kills]
    found = [point for point in found if is_in_every_run(point)]
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

    points = points_of(recorded(stage, scenario).trace)
    verdicts = stage.side_by_side(lambda numbered: until_killed(crash, numbered), enumerate(points))

    row = tally.row(f"every point: {scenario.name}", verdicts)
    assert not row.broken
    enough(not (left := missed(points, verdicts)), f"no kill at {left}")


@pytest.mark.parametrize("scenario", OF_ANY_MODEL, ids=lambda scenario: scenario.name)
def test_any_model_killed_at_some_points(stage: Stage, tally: Tally, scenario: Scenario) -> None:
    """An image and a sound of the catalogue are paid once too, and whole: a sample of the points, spread evenly."""

    def crash(point: Point) -> Verdict:
        with stage.generation(scenario) as generation:
            generation.run_killed(at(point))
            return finish(f"killed {point}", generation, once_more=lambda outcome: not outcome.videos)

    all_points = points_of(recorded(stage, scenario).trace)
    points = all_points[:: max(1, len(all_points) // SAMPLE)]
    verdicts = stage.side_by_side(lambda point: until_killed(crash, point), points)

    row = tally.row(f"some points: {scenario.name}", verdicts)
    assert not row.broken
    enough(not (left := missed(points, verdicts)), f"no kill at {left}")


def test_killed_at_random_times(stage: Stage, tally: Tally) -> None:
    """Up to four kills in a row on the same generation, at times that nobody chose."""
    stories = [IMAGE, TEXT, PARTS, TEXT]
    wires = stage.side_by_side(lambda scenario: recorded(stage, scenario), stories)
    seconds = min(wire.seconds for wire in wires)

    def crash(number: int) -> Verdict:
        draws, uncertain, longest = random.Random(f"{SEED}:{number}"), False, 0.7 * seconds
        with stage.generation(stories[number % len(stories)]) as generation:
            for _ in range(RUNS_IN_A_CHAIN):
                if generation.kills < KILLS_IN_A_CHAIN:
                    killed = generation.run_killed_after(draws.uniform(0, longest)).killed
                    longest = longest if killed else longest / 2  # the machine is less busy than it was
                    uncertain = uncertain or look(generation).state == "intent"
            label = f"{generation.scenario.name}, chain {number}, {generation.kills} kills"
            return finish(label, generation, uncertain_before=uncertain)

    row = tally.row("random times, chained", stage.side_by_side(crash, range(CHAINS)))

    assert not row.broken
    # Of up to four times as many: a run may end before its time has come.
    enough(row.kills >= CHAINS, f"{row.kills} kills in {CHAINS} chains")


def test_two_compete_and_are_killed(stage: Stage, tally: Tally) -> None:
    """Two processes want the same generation; one or both are killed at some point of their calls."""
    draws, length = random.Random(SEED), len(recorded(stage, TEXT).trace)
    deaths = [(draws.randint(1, length * 3 // 2), draws.choice([(0,), (1,), (0, 1)])) for _ in range(16)]

    def crash(death: tuple[int, tuple[int, ...]]) -> Verdict:
        number, victims = death
        with stage.generation(TEXT, patience_seconds=5) as generation:
            generation.run_killed(nth(number), processes=2, victims=victims)
            label = f"killed {len(victims)} of two at point {number}"
            return finish(label, generation, uncertain_before=generation.kills > 0)

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
