"""Any interleaving of workers, crashes, lost answers and people: paid for once, archived at last, nothing forgotten."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Literal, cast, get_args

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runcomfy.errors import GenerationError, RequestNotFound, RunComfyError, UncertainSubmission, WaitError
from runcomfy.journal import EntryState, adopt, release
from tests.runcomfy.journal.stepping import How, Worker
from tests.runcomfy.journal.world import INDEFINITELY_SECONDS, LEASE_SECONDS, World

GENERATIONS = st.sampled_from(["a fox", "a fox", "a fox", "a crow"])
RUNS = st.sampled_from(["run-1", "run-2", "run-3"])
WHO = st.integers(0, 2)
End = Literal[
    "pause", "finish", "kill before", "kill after", "interrupt before", "interrupt after", "cancel", "shutdown"
]  # fmt: skip
ENDS = st.sampled_from([*["pause"] * 4, *["finish"] * 2, *get_args(End)])
CHANGES = st.sampled_from(
    ["store goes down", "store comes back", "time passes", "late thread", "request expires", "request goes on",
     "request gets unstuck", "file is lost"]
)  # fmt: skip
_MOST_WORKERS = 3
_MOST_STEPS = 120


def _faults(where: str, names: list[str], most: int = 1) -> st.SearchStrategy[tuple[str, list[str]]]:
    return st.tuples(st.just(where), st.lists(st.sampled_from(names), min_size=1, max_size=most))


TROUBLE = st.one_of(
    _faults(
        "post_faults",
        ["not sent", "refused", "rate", "broken", "lost", "no id", "id and error", "accepted and broken"],
    ),
    _faults("plans", ["failed", "no output", "stuck in queue", "stuck running"]),
    _faults("store_blips", ["", "before", "after"], most=5),
    _faults("call_faults", ["none", "reset", "busy", "lost"], most=5),
)


class Lives(RuleBasedStateMachine):
    """A bundle of generations, and everything that happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def worker(self, who: int) -> Worker:
        alive = [worker for worker in self.world.steps.workers if worker.alive]
        return alive[who % len(alive)]

    def anybody(self) -> bool:
        return any(worker.alive for worker in self.world.steps.workers)

    def room(self) -> bool:
        return sum(worker.alive for worker in self.world.steps.workers) < _MOST_WORKERS

    # ---- workers

    @precondition(room)
    @rule(
        generation=GENERATIONS, run=RUNS, trouble=st.lists(TROUBLE, max_size=2), steps=st.integers(0, 14), end=ENDS,
        pays_again=st.sampled_from([False, False, True]), hasty=st.booleans(),
        stubborn=st.booleans(), cancels=st.booleans(),
    )  # fmt: skip
    def begins(
        self, generation: str, run: str, trouble: list[tuple[str, list[str]]], steps: int, end: End,
        pays_again: bool, hasty: bool, stubborn: bool, cancels: bool,
    ) -> None:  # fmt: skip
        for where, faults in trouble:
            getattr(self.world, where).extend(faults)
        worker = self.start(
            generation, run, on_uncertain="pay_again" if pays_again else "stop",
            lease_seconds=0.0 if hasty else LEASE_SECONDS, cancels=cancels,
            retry=INDEFINITELY_SECONDS if stubborn else 0.0,
        )  # fmt: skip
        self.lead(worker, steps, end)

    def start(self, generation: str, run: str, **options: Any) -> Worker:
        return self.world.steps.start(
            f"{run} of {generation}", lambda: self.world.work(generation, run, **options),
            generation=generation, run=run, role="worker", **options,
        )  # fmt: skip

    @precondition(anybody)
    @rule(who=WHO, steps=st.integers(0, 14), end=ENDS)
    def goes_on(self, who: int, steps: int, end: End) -> None:
        self.lead(self.worker(who), steps, end)

    def lead(self, worker: Worker, steps: int, end: End) -> None:
        """Let it take some steps, and do to it what is to be done then."""
        self.world.steps.finish(worker, most=steps)
        if not worker.alive or end == "pause":
            return
        if end == "finish":
            self.world.steps.finish(worker, most=_MOST_STEPS)
        elif end in ("cancel", "shutdown"):
            late = self.world.steps.cancel(worker, every_task=end == "shutdown")
            if late is not None:
                self.world.late.append(late)
        else:
            self.world.steps.step(worker, cast(How, end))

    # ---- the store, the service, the clock, and people

    @rule(what=CHANGES, who=st.integers(0, 5))
    def the_world_changes(self, what: str, who: int) -> None:
        world = self.world
        request = world.requests[who % len(world.requests)] if world.requests else None
        match what:
            case "store goes down" | "store comes back":
                world.store_is_down = what == "store goes down"
            case "time passes":
                world.now += LEASE_SECONDS + 20
            case "late thread" if world.late:  # what was given to a thread cannot be called back
                with contextlib.suppress(RunComfyError):
                    world.late.pop(0)()
            case "request expires" if request:
                request.expired = True
            case "request gets unstuck" if request and request.plan.startswith("stuck"):
                request.plan = "succeeded"
            case "request goes on" if request:
                world.goes_on(request)
            case "file is lost" if world.bucket and not self.anybody():
                world.bucket.discard(sorted(world.bucket)[who % len(world.bucket)])

    @precondition(room)
    @rule(steps=st.integers(0, 30), end=ENDS, hasty=st.booleans())
    def reconcile_runs(self, steps: int, end: End, hasty: bool) -> None:
        self.lead(self.reconciling(abandoned_after=0.0 if hasty else 3600.0), steps, end)

    def reconciling(self, abandoned_after: float) -> Worker:
        generations = ["a fox", "a crow"]
        return self.world.steps.start(
            "reconcile", lambda: self.world.reconcile(generations, abandoned_after), role="reconcile"
        )

    @precondition(room)
    @rule(what=st.sampled_from(["adopt", "release"]), generation=GENERATIONS, steps=st.integers(0, 8), end=ENDS)
    def person_decides(self, what: str, generation: str, steps: int, end: End) -> None:
        found = self.found_in_dashboard(generation)
        if what == "release" and self.world.entry(generation) is not None:
            self.lead(self.releasing(generation), steps, end)
        elif what == "adopt" and found is not None:
            self.lead(self.adopting(generation, found), steps, end)

    def found_in_dashboard(self, generation: str) -> str | None:
        """The right request, as far as a person can see: the latest that the journal does not know."""
        entry = self.world.entry(generation)
        known = entry.request_ids if entry else []
        shown = [found.id for found in self.world.requests if found.generation == generation and not found.expired]
        return next((found for found in reversed(shown) if found not in known), None)

    def adopting(self, generation: str, request_id: str) -> Worker:
        key = self.world.spec(generation).key
        return self.world.steps.start(
            f"adoption of {request_id}", lambda: adopt(self.world.client, self.world.journal(), key, request_id),
            role="person", generation=generation,
        )  # fmt: skip

    def releasing(self, generation: str) -> Worker:
        key = self.world.spec(generation).key
        return self.world.steps.start(
            f"release of {generation}", lambda: release(self.world.journal(), key[:12]),
            role="person", generation=generation,
        )  # fmt: skip

    # ---- what always holds

    @invariant()
    def paid_once_and_nothing_forgotten(self) -> None:
        self.world.judge()
        assert not self.world.violations, self.world.violations

    def teardown(self) -> None:
        """With everything in order again, and a person who answers when asked, every generation ends archived."""
        try:
            self.heal()
            for worker in list(self.world.steps.workers):
                self.world.steps.finish(worker)
                assert not worker.alive, f"{worker.name} never ends"
            self.paid_once_and_nothing_forgotten()
            self.world.now += 1000
            self.world.steps.finish(reconciling := self.reconciling(abandoned_after=0.0))
            assert reconciling.error() is None
            self.paid_once_and_nothing_forgotten()
            for generation in ("a fox", "a crow"):
                if self.world.entry(generation) is not None:
                    self.is_archived_in_the_end(generation)
        finally:
            self.world.steps.close()

    def heal(self) -> None:
        world = self.world
        world.store_is_down = False
        for faults in (world.store_blips, world.post_faults, world.call_faults, world.plans, world.late):
            faults.clear()
        for request in world.requests:
            if request.plan.startswith("stuck"):
                request.plan = "succeeded"

    def is_archived_in_the_end(self, generation: str) -> None:
        errors = []
        for number in range(8):
            worker = self.start(
                generation, f"last-{number}", on_uncertain="stop", lease_seconds=LEASE_SECONDS, retry=0.0, cancels=False
            )
            self.world.steps.finish(worker)
            assert not worker.alive, f"{worker.name} never ends"
            error = worker.error()
            self.paid_once_and_nothing_forgotten()
            if error is None:
                break
            errors.append(error)
            match error:
                case UncertainSubmission():
                    found = self.found_in_dashboard(generation)
                    person = self.adopting(generation, found) if found else self.releasing(generation)
                case RequestNotFound() | GenerationError() | WaitError():
                    person = self.releasing(generation)
                case _:
                    raise error
            self.world.steps.finish(person)
        entry = self.world.entry(generation)
        assert entry is not None and entry.state is EntryState.ARCHIVED, (errors, entry)
        assert entry.archive is not None and self.world.is_intact(entry.archive)


TestLives = pytest.mark.slow(Lives.TestCase)
TestLives.settings = settings(
    max_examples=int(os.environ.get("JOURNAL_MODEL_EXAMPLES", "300")),
    stateful_step_count=30,
    derandomize="JOURNAL_MODEL_EXAMPLES" not in os.environ,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)
