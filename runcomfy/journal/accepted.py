"""What an entry says of a request that was accepted, when that was, and that a person rejected what it made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runcomfy.errors import OutputRejected
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.models import workload_of
from runcomfy.storage.commands import StoreOptions, shell_command
from runcomfy.values import ArchivedVideo, Submission

__all__ = ["rejection_of", "submission_of"]

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


def rejection_of(video: ArchivedVideo, entry_key: str, options: StoreOptions, *, model_id: str = "") -> OutputRejected:
    """Return the error for a generation of which a person rejected a file: only a person's release pays for another.

    Args:
        video: The file.
        entry_key: The generation; empty if it is unknown.
        options: The store, as commands name it.
        model_id: Its model.
    """
    said = video.review.sentence if video.review is not None else "rejected"
    release = shell_command("journal", "release", entry_key[:12] or "KEY", *options.for_journal)
    error = OutputRejected(
        f"Output {video.index} of request {video.request_id}, {video.uri}, was {said}. It is not fetched or paid for "
        f"again by itself: only `{release}` lets the next run of the same inputs pay for another.",
        request_id=video.request_id, generation_key=entry_key or None, key=video.key, output_index=video.index,
        model_id=model_id or None,
    )  # fmt: skip
    error.cause = f"Output {video.index} of request {video.request_id}, {video.uri}, was {said}."
    return error


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
