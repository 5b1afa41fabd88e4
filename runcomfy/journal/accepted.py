"""What an entry says of a request that was accepted, and when that was, even if a worker's clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runcomfy.journal.entry import Entry, EntryState
from runcomfy.models import workload_of
from runcomfy.values import Submission

__all__ = ["submission_of"]

_CLOCKS_DIFFER = timedelta(minutes=1)


def submission_of(entry: Entry, *, age_seconds: float | None = None) -> Submission:
    """Return what is known of an accepted request.

    Args:
        entry: The journal's entry.
        age_seconds: How old this version of it is by the store's clock. With it, `submitted_at` is by this machine's
            clock if the clock of the machine that submitted proves to be wrong.
    """
    if entry.request_id is None:
        raise ValueError(f"generation {entry.generation_key} is {entry.state} and has no request")
    submitted_at = entry.submitted_at or entry.updated_at
    if age_seconds is not None:
        submitted_at = _by_our_clock(entry, submitted_at, age_seconds)
    return Submission(
        request_id=entry.request_id,
        model_id=entry.model_id,
        generation_key=entry.generation_key,
        submitted_at=submitted_at,
        archive=entry.archive if entry.state is EntryState.ARCHIVED else None,
        workload=workload_of(entry.model_id, entry.inputs),
    )


def _by_our_clock(entry: Entry, submitted_at: datetime, age_seconds: float) -> datetime:
    """Return when a request was submitted, from the age of its entry: the store's clock is the same for all.

    This is exact to the second if the machine that submitted it also wrote the entry's latest version: its clock may be
    wrong, but not the time between the two. Otherwise, all that is known is that it was submitted before that version.
    """
    ours = datetime.now(UTC) - timedelta(seconds=age_seconds)
    hosts = [event.worker.rpartition(":")[0] for event in entry.history if event.request_id == entry.request_id]
    if hosts and hosts[0] == hosts[-1]:
        ours -= max(entry.updated_at - submitted_at, timedelta())
        return ours if abs(ours - submitted_at) > _CLOCKS_DIFFER else submitted_at
    return ours if submitted_at - ours > _CLOCKS_DIFFER else submitted_at
