"""Who holds the slots of a concurrency limit, decided from what runs record and from what the server counts.

A slot counts as leaked only if every inspection since one that is older than any lease found it unexplained. By then,
Prefect itself has freed what a dead process held, or what the server granted to a caller that never got the answer; to
free that a second time would take away the slot of a live run. This cannot be detected: several answers of the server
were lost one after the other, each of which took a slot for some minutes. Then one slot too many may be granted, until
the limit is idle for a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.runtime.slot_label import LEASE_PASSED, SlotsLabel

__all__ = ["Claim", "Claims", "Sighting", "SlotReview", "claims_of", "judge_slots"]


@dataclass(frozen=True)
class Claim:
    """What a flow run records of the slots that it holds, and what the server says of the run."""

    at_work: bool
    """Whether a process works on it, as far as the server knows."""
    since: datetime
    """Since when it is in its state."""
    run_count: int
    label: SlotsLabel | None


@dataclass(frozen=True)
class Claims:
    """The slots of one limit that are accounted for."""

    held: int = 0
    """By runs that are at work."""
    lately: tuple[tuple[int, datetime], ...] = ()
    """By runs that ended: how many, and until when Prefect may hold them still."""

    def lately_held(self, now: datetime) -> int:
        """Return how many slots of runs that ended Prefect may hold still."""
        return sum(slots for slots, until in self.lately if until > now)


@dataclass(frozen=True)
class Sighting:
    """How many slots an earlier inspection found that no run at work accounts for."""

    at: datetime
    slots: int


@dataclass(frozen=True)
class SlotReview:
    """What becomes of a limit's slots."""

    unexplained: int
    """Slots that no run at work holds; later inspections use it."""
    free: int
    """How many of these certainly nobody holds."""
    due: datetime | None
    """When that can be decided for more of them."""


def claims_of(runs: Iterable[Claim], limit: str, *, lease: timedelta = LEASE_PASSED) -> Claims:
    """Add up what runs record that they hold of a limit; Prefect may hold it for as long as a lease after their end."""
    held, lately = 0, []
    for run in runs:
        label = run.label
        if label is None:
            continue
        lately += [(each.slots, each.ended_before + lease) for each in label.earlier if label.limit == limit]
        if label.limit != limit:
            continue
        if run.at_work and label.run_count == run.run_count:
            held += 0 if label.waiting else label.slots
        else:
            lately.append((label.slots, run.since + lease))
    return Claims(held, tuple(lately))


def judge_slots(
    active: int, claims: Claims, sightings: Sequence[Sighting], now: datetime, *, lease: timedelta = LEASE_PASSED
) -> SlotReview:
    """Decide how many slots nobody holds.

    Args:
        active: How many the server counts as taken, read before the runs were.
        claims: What is accounted for, read so long after `active` that a run that took a slot before that has recorded
            it.
        sightings: What earlier inspections found, in any order.
        now: The time, by the clock that the claims are dated by.
        lease: After this, Prefect frees nothing more of what was seen before.
    """
    unexplained = max(0, active - claims.held)
    nobody = max(0, unexplained - claims.lately_held(now))
    old = [each.at for each in sightings if now - each.at >= lease]
    since = max(old, default=None)
    steady = min((each.slots for each in sightings if since and each.at >= since), default=0)
    free = min(nobody, steady)
    if not unexplained - free:
        return SlotReview(unexplained, free, None)
    first = min((each.at for each in sightings if each.slots), default=now)
    ends = min((until for _, until in claims.lately if until > now), default=now)
    due = max(first + lease, ends)
    return SlotReview(unexplained, free, due if due > now else now + lease)
