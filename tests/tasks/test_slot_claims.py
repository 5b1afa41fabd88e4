"""Slots that nobody holds are distinguished from all others: by hand, and by a model of all that may happen to them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tasks.runtime.slot_label import LEASE_PASSED, SLOTS_LABEL, EarlierSlots, SlotsLabel
from tasks.upkeep.slot_claims import Claim, Claims, Sighting, claims_of, judge_slots

START = datetime(2026, 1, 1, tzinfo=UTC)
LEASE, LOOP, LABEL_WITHIN, LOOK_TAKES = 300, 15, 20, 25  # seconds
LIMIT = "account"


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def label(slots: int, run_count: int = 1, **more: object) -> SlotsLabel:
    return SlotsLabel.model_validate({"run_count": run_count, "slots": slots, "limit": LIMIT} | more)


@pytest.mark.parametrize(
    ("claim", "held", "lately"),
    [
        (Claim(True, START, 1, label(3)), 3, 0),
        (Claim(True, START, 1, label(3, waiting=True)), 0, 0),
        (Claim(False, START, 1, label(3)), 0, 3),
        (Claim(False, START, 1, label(3, waiting=True)), 0, 3),
        (Claim(False, START, 1, label(0)), 0, 0),
        (Claim(True, START, 2, label(3)), 0, 3),
        (Claim(True, START, 1, None), 0, 0),
        (Claim(True, START, 1, label(3, limit="another")), 0, 0),
        (Claim(True, START, 2, label(2, 2, earlier=[EarlierSlots(slots=3, ended_before=START)])), 2, 3),
    ],
)
def test_which_slots_a_run_claims(claim: Claim, held: int, lately: int) -> None:
    """A running run holds what it recorded; what an ended one held, or waited for, may be held for a lease."""
    claims = claims_of([claim], LIMIT)

    assert (claims.held, claims.lately_held(after(1))) == (held, lately)
    assert claims.lately_held(START + LEASE_PASSED) == 0


@pytest.mark.parametrize(
    ("active", "held", "sightings", "free"),
    [
        (5, 2, [], 0),
        (5, 2, [(-361, 3)], 3),
        (5, 2, [(-359, 3)], 0),
        (5, 2, [(-361, 1)], 1),
        (5, 2, [(-700, 0), (-361, 3)], 3),
        (5, 2, [(-361, 3), (-60, 1)], 1),
        (5, 2, [(-361, 3), (-60, 0)], 0),
        (2, 5, [(-361, 3)], 0),
        (2, 2, [(-361, 3)], 0),
    ],
)
def test_only_slots_seen_in_every_check_of_a_lease_are_freed(
    active: int, held: int, sightings: list[tuple[int, int]], free: int
) -> None:
    """And never more than are taken now."""
    seen = [Sighting(after(at), slots) for at, slots in sightings]

    verdict = judge_slots(active, Claims(held), seen, START)

    assert verdict.free == free
    assert (verdict.due is None) == (max(0, active - held) == free)
    assert verdict.due is None or START < verdict.due <= START + LEASE_PASSED


def test_a_label_round_trips_and_drops_old_attempts() -> None:
    """What another program wrote there is ignored."""
    first = label(2)
    second = first.followed_by(2, 3, LIMIT, after(10), process="p")
    third = second.followed_by(3, 1, LIMIT, after(10) + LEASE_PASSED)

    assert SlotsLabel.of(second.to_labels()) == second and second.waiting
    assert second.earlier == (EarlierSlots(slots=2, ended_before=after(10)),)
    assert [each.slots for each in third.earlier] == [3]
    assert second.followed_by(2, 3, LIMIT, after(10)).earlier == second.earlier
    for value in ("", "2:5", "{}", '{"run_count": 1, "slots": -1, "limit": "x"}', 7, None):
        assert SlotsLabel.of({SLOTS_LABEL: value}) is None


@dataclass(eq=False)  # two that have the same count and no lease are two
class Slot:
    """Slots that the server counts as taken, by one acquisition."""

    count: int
    leased_until: float | None


@dataclass
class Run:
    """A flow run and its process."""

    wants: int
    run_count: int = 1
    state: str = "waiting"  # then unrecorded, holding, and finally ended; its process may be dead before that is known
    since: float = 0.0
    dead: bool = False
    taken_at: float = 0.0
    label: SlotsLabel = field(default_factory=lambda: label(0))
    slot: Slot | None = None


class Slots(RuleBasedStateMachine):
    """Runs acquire slots, release them, are killed at any moment and run again, and the server forgets its leases."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.limit = 0.0, 6
        self.runs: list[Run] = []
        self.slots: list[Slot] = []
        self.sightings: list[Sighting] = []
        self.look: tuple[float, int, int] | None = None  # when, active, and what would have been freed at once

    @property
    def active(self) -> int:
        return sum(slot.count for slot in self.slots)

    @property
    def leaked(self) -> int:
        """How many slots are taken that no process holds, and that no lease will free."""
        held = [run.slot for run in self.runs if run.slot and not run.dead]
        return sum(slot.count for slot in self.slots if slot.leased_until is None and slot not in held)

    def claims(self) -> Claims:
        return claims_of(
            [Claim(run.state != "ended", after(run.since), run.run_count, run.label) for run in self.runs], LIMIT
        )

    def some(self, number: int, *states: str, dead: bool = False) -> Run | None:
        among = [run for run in self.runs if run.state in states and run.dead is dead]
        return among[number % len(among)] if among else None

    def give_back(self, run: Run) -> None:
        if run.slot in self.slots and run.slot.leased_until is not None:
            self.slots = [slot for slot in self.slots if slot is not run.slot]
        run.slot, run.label = None, run.label.model_copy(update={"slots": 0})
        run.state, run.since = "ended", self.now

    @rule(wants=st.integers(1, 3))
    def start(self, wants: int) -> None:
        run = Run(wants, since=self.now)
        run.label = run.label.followed_by(1, wants, LIMIT, after(self.now))
        self.runs.append(run)

    @rule(number=st.integers(0, 9))
    def take(self, number: int) -> None:
        run = self.some(number, "waiting")
        if run and self.active + run.wants <= self.limit:
            run.slot = Slot(run.wants, self.now + LEASE)
            self.slots.append(run.slot)
            run.state, run.taken_at = "unsaid", self.now

    @rule(number=st.integers(0, 9))
    def say(self, number: int) -> None:
        if run := self.some(number, "unsaid"):
            run.state, run.label = "holding", run.label.model_copy(update={"waiting": False})

    @rule(number=st.integers(0, 9))
    def end(self, number: int) -> None:
        if run := self.some(number, "unsaid", "holding"):
            self.give_back(run)

    @rule(number=st.integers(0, 9))
    def kill(self, number: int) -> None:
        if run := self.some(number, "waiting", "unsaid", "holding"):
            run.dead = True

    @rule(number=st.integers(0, 9))
    def notice(self, number: int) -> None:
        if run := self.some(number, "waiting", "unsaid", "holding", dead=True):
            run.state, run.since = "ended", self.now

    @rule(number=st.integers(0, 9))
    def run_again(self, number: int) -> None:
        if run := self.some(number, "ended", dead=True):
            run.state, run.since, run.dead, run.slot = "waiting", self.now, False, None
            run.run_count += 1
            run.label = run.label.followed_by(run.run_count, run.wants, LIMIT, after(self.now))

    @rule()
    def forget_leases(self) -> None:
        for slot in self.slots:
            slot.leased_until = None

    @rule(seconds=st.sampled_from([1, 10, 25, 100, 360]))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            for run in self.runs:
                if run.state == "unsaid" and not run.dead and self.now - run.taken_at >= LABEL_WITHIN:
                    self.give_back(run)
                if run.slot and run.slot.leased_until is not None and not run.dead:
                    run.slot.leased_until = self.now + LEASE
            self.slots = [
                slot for slot in self.slots if slot.leased_until is None or self.now < slot.leased_until + LOOP
            ]

    @precondition(lambda self: self.look is None)
    @rule()
    def begin_look(self) -> None:
        verdict = judge_slots(self.active, self.claims(), self.sightings, after(self.now))
        self.look = (self.now, self.active, verdict.free)

    @precondition(lambda self: self.look is not None)
    @rule()
    def end_look(self) -> None:
        assert self.look is not None
        began, active, at_first = self.look
        if at_first:
            self.wait(max(0, int(LOOK_TAKES - (self.now - began))))
        verdict = judge_slots(active, self.claims(), self.sightings, after(self.now))
        verdict = replace(verdict, free=min(verdict.free, at_first))
        assert verdict.free <= self.leaked, "a slot is freed that somebody holds, or that its lease frees once more"
        left = verdict.free
        held = [run.slot for run in self.runs if run.slot and not run.dead]
        for slot in [each for each in self.slots if each.leased_until is None and each not in held]:
            take = min(left, slot.count)
            slot.count, left = slot.count - take, left - take
        self.sightings.append(Sighting(after(self.now), verdict.unexplained - verdict.free))
        self.look = None

    @invariant()
    def never_more_than_there_are(self) -> None:
        assert self.active <= self.limit

    def teardown(self) -> None:
        """What is leaked at the end comes free, though nothing else happens but checks."""
        for run in self.runs:
            if run.dead and run.state != "ended":
                run.state, run.since = "ended", self.now
        for _ in range(3):
            if self.look is None:
                self.begin_look()
            self.end_look()
            self.wait(int(LEASE_PASSED.total_seconds()) + 1)
        assert self.leaked == 0


@pytest.mark.parametrize("runs_again", [False, True])
def test_a_crash_between_two_checks_is_left_to_its_lease(runs_again: bool) -> None:
    """Each check finds one slot that no run holds, but not the same one; the second one's lease frees it by itself."""
    world = Slots()

    def crash() -> None:
        world.start(1)
        world.take(0)
        world.say(0)
        world.kill(0)
        world.notice(0)

    def look() -> None:
        world.begin_look()
        world.end_look()

    crash()
    look()
    assert world.sightings[-1].slots == 1
    world.runs.clear()  # so that the others keep their positions
    world.wait(226)
    crash()
    if runs_again:
        world.run_again(0)
        world.take(0)
        world.say(0)
    world.wait(164)
    look()
    assert world.sightings[-1].slots == 1 and world.active == 1 + runs_again
    world.teardown()
    assert world.active == runs_again


def test_a_leaked_slot_is_distinguished_from_a_held_one_of_the_same_size() -> None:
    """Two of one size with forgotten leases: the one whose release failed comes free, the other stays."""
    world = Slots()
    for number in range(2):
        world.start(1)
        world.take(number)
    world.forget_leases()
    world.say(0)
    world.teardown()
    assert world.active == 1


Slots.TestCase.settings = settings(max_examples=150, stateful_step_count=40, suppress_health_check=list(HealthCheck))
TestSlots = Slots.TestCase
