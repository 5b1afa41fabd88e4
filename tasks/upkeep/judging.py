"""Decide what happens to each run: pure functions of what is known, so that a table of tests covers every case.

What ends a run of a deployment, and what Prefect (3.8) does about it by itself:

- Its process dies while its worker lives: the worker reports Crashed within seconds.
- Prefect's server does not answer when it begins: it ends as Failed, since it cannot read its blocks.
- Its place in its deployment's limit is lost while its process begins: it ends as Cancelled, and nobody meant that.
- Its worker or its machine dies: nothing is reported. It stays Running or Pending.
- It is cancelled after that: it stays Cancelling, until the server itself sets Cancelled after 300 s
  (`server/services/cancellation_cleanup.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from prefect.client.schemas.objects import StateType
from pydantic import BaseModel, ConfigDict, Field

from tasks.runtime.heartbeats import default_frequency, patience
from tasks.upkeep.facts import DeploymentFacts, Facts, RunFacts
from tasks.upkeep.marks import has_crashed

__all__ = [
    "PAUSED",
    "TURNED_OFF",
    "Judgement",
    "Liveness",
    "RunAgain",
    "beat_seconds",
    "judge",
    "judge_all",
    "patience_seconds",
]

TURNED_OFF = "running again is turned off"
"""Why a crashed order is left alone if `times` is 0."""
_PENDING_SECONDS = 330.0
"""How long a run may be on its way into a process; the automation, which is quicker, waits for 300."""
_CANCELLING_SECONDS = 600.0
_SUSPECT_SECONDS = 60.0
"""After so long on its way, a run is checked again when it counts as dead."""
_SUSPECT_BEATS = 1.5
_ON_THE_WAY = timedelta(seconds=5)  # an event of before the crash may arrive after it


PAUSED = "its deployment is paused"
"""Why an order is left alone that is run again later."""


class RunAgain(BaseModel):
    """How often, how soon and for how long an order that crashed is run again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    times: int = Field(default=8, ge=0, le=100, description="How often at most; 0 runs nothing again.")
    within_hours: float = Field(default=24, gt=0, description="Counted from its first crash.")
    first_after_seconds: float = Field(default=10, ge=0, description="The first wait; each further one is twice it.")
    longest_after_seconds: float = Field(default=600, ge=0, description="The longest wait.")

    def wait(self, crashes: int) -> timedelta:
        """Return how long to wait after this crash; the first is 1."""
        doubled = self.first_after_seconds * 2.0 ** min(crashes - 1, 60)
        return timedelta(seconds=min(doubled, max(self.longest_after_seconds, self.first_after_seconds)))


class Liveness(StrEnum):
    """What a run is: alive, resting, dead or crashed."""

    ALIVE = "alive"
    RESTING = "resting"
    """It waits on purpose: for its time, for a place, for a person."""
    PENDING_ZOMBIE = "pending zombie"
    """A worker took it, and no process started."""
    RUNNING_ZOMBIE = "running zombie"
    """Its state is Running, and it gives no sign of life."""
    CANCELLING_ZOMBIE = "cancelling zombie"
    """It was cancelled, and nobody was there to end it."""
    AGAIN = "to be run again"
    RESTED = "rested"
    """It was marked as crashed for its silence, but was resting on purpose: its state is put back."""
    GIVEN_UP = "given up"
    """It crashed, and a person has to decide."""
    LEFT = "left alone"
    """It crashed, and is not for us to run again."""


@dataclass(frozen=True)
class Judgement:
    """What was decided about a run, and why."""

    run: RunFacts
    verdict: Liveness
    why: str
    at: datetime | None = None
    """When it is to be run again."""
    dead_at: datetime | None = None
    """For a run that has been silent for longer than usual: when it counts as dead without a sign of life."""


def judge_all(facts: Facts, bounds: RunAgain) -> list[Judgement]:
    """Judge every run.

    Args:
        facts: What is known.
        bounds: Of running again.
    """
    return [judge(run, facts, bounds) for run in _each_once(facts.runs)]


def judge(run: RunFacts, facts: Facts, bounds: RunAgain) -> Judgement:
    """Judge a run.

    Args:
        run: The run.
        facts: What is known of its deployment, and the time.
        bounds: Of running again.
    """
    deployment = facts.deployments.get(run.deployment_id) if run.deployment_id else None
    match run.state_type:
        case StateType.RUNNING:
            return _running(run, facts)
        case StateType.PENDING:
            return _waited_for(run, facts, _PENDING_SECONDS, Liveness.PENDING_ZOMBIE, "a worker took it")
        case StateType.CANCELLING:
            return _waited_for(run, facts, _CANCELLING_SECONDS, Liveness.CANCELLING_ZOMBIE, "it was cancelled")
        case StateType.CRASHED | StateType.FAILED | StateType.CANCELLED if has_crashed(run.state_type, run.message):
            return _crashed(run, deployment, facts, bounds)
        case StateType.SCHEDULED | StateType.PAUSED:
            return Judgement(run, Liveness.RESTING, run.state_name)
        case _:
            return Judgement(run, Liveness.LEFT, f"it has ended: {run.state_name}")


def beat_seconds(run: RunFacts, facts: Facts) -> float:
    """Return how far apart the heartbeats of a run are.

    Known from those that it sent, and from the setting of its deployment or work pool; the longer one counts. If
    neither is known, it is Prefect's default of 180 s.

    Args:
        run: The run.
        facts: What is known of its deployment.
    """
    deployment = facts.deployments.get(run.deployment_id) if run.deployment_id else None
    known = [run.beat_seconds, deployment.heartbeat_seconds if deployment else None]
    return max((seconds for seconds in known if seconds), default=default_frequency())


def patience_seconds(run: RunFacts, facts: Facts) -> float:
    """Return how long a run may be silent: as long as the automation that ends such runs waits.

    Args:
        run: The run.
        facts: What is known of its deployment.
    """
    return patience(beat_seconds(run, facts)).total_seconds()


def _running(run: RunFacts, facts: Facts) -> Judgement:
    allowed = patience_seconds(run, facts)
    last = max(filter(None, (run.since, run.last_heartbeat)))
    silent = (facts.at - last).total_seconds()
    if silent <= allowed:
        suspect = silent > _SUSPECT_BEATS * beat_seconds(run, facts)
        dead_at = last + timedelta(seconds=allowed) if suspect else None
        return Judgement(run, Liveness.ALIVE, f"a sign of life {silent:.0f} s ago", dead_at=dead_at)
    if run.last_heartbeat is None and not facts.beats_known:
        return Judgement(run, Liveness.ALIVE, "no heartbeats are known here, so nobody can tell")
    return Judgement(
        run,
        Liveness.RUNNING_ZOMBIE,
        f"no sign of life since {last:%H:%M:%S} UTC, for {silent:.0f} s, where {allowed:.0f} s are allowed",
    )


def _waited_for(run: RunFacts, facts: Facts, allowed: float, verdict: Liveness, what: str) -> Judgement:
    waited = (facts.at - run.since).total_seconds()
    if waited <= allowed:
        dead_at = run.since + timedelta(seconds=allowed) if waited > _SUSPECT_SECONDS else None
        return Judgement(run, Liveness.ALIVE, f"{what} {waited:.0f} s ago", dead_at=dead_at)
    return Judgement(
        run, verdict, f"{what} at {run.since:%H:%M:%S} UTC, and nothing came of it in {waited:.0f} s ({run.state_name})"
    )


def _crashed(run: RunFacts, deployment: DeploymentFacts | None, facts: Facts, bounds: RunAgain) -> Judgement:
    if run.rested is not None:
        return Judgement(run, Liveness.RESTED, f"it was {run.rested.name}, which is no crash")
    if left := _left_alone(run, deployment, facts, bounds):
        return Judgement(run, Liveness.LEFT, left)
    crashes, since = max(run.crashes, 1), run.first_crash or run.since
    wanted = run.since + bounds.wait(crashes)
    if deployment is None:
        given_up = "its deployment is gone from this server"
    elif not deployment.again:
        given_up = "its deployment is one that only people run again"
    elif crashes > bounds.times:
        given_up = f"it crashed {crashes} times, and is run again {bounds.times} times at most"
    elif max(wanted, facts.at) - since > timedelta(hours=bounds.within_hours):
        given_up = f"it crashed first at {since:%Y-%m-%d %H:%M} UTC, more than {bounds.within_hours:g} hours ago"
    else:
        return Judgement(run, Liveness.AGAIN, f"{crashes} of {bounds.times}", max(wanted, facts.at))
    return Judgement(run, Liveness.GIVEN_UP, given_up)


def _left_alone(run: RunFacts, deployment: DeploymentFacts | None, facts: Facts, bounds: RunAgain) -> str | None:
    """Return why a crashed run is left alone, `None` if it is not."""
    if run.is_child:
        return "the run that started it sees to it"
    if run.cancelled:
        return "somebody cancelled it"
    if run.deployment_id is None:
        return "no deployment started it"
    if deployment is not None and deployment.reconciles:
        return "it was a reconcile, and the next one does its work"
    if deployment is not None and deployment.drops_new:
        return "the next run of its deployment does its work"
    if deployment is not None and deployment.paused:
        return PAUSED
    if bounds.times == 0:
        return TURNED_OFF
    if run.last_heartbeat is not None and run.last_heartbeat > run.since + _ON_THE_WAY:
        silent = (facts.at - run.last_heartbeat).total_seconds()
        if silent <= patience_seconds(run, facts):
            return f"it is alive after all: a heartbeat {silent:.0f} s ago"
    return None


def _each_once(runs: Iterable[RunFacts]) -> list[RunFacts]:
    return list({run.id: run for run in runs}.values())
