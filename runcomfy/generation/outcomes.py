"""The outcome of one generation among many: the failure of one does not affect the others."""

from __future__ import annotations

from runcomfy.errors import DefectiveOutput, RunComfyError, StorageError, UncertainSubmission
from runcomfy.journal.entry import EntryState, code_of
from runcomfy.journal.record import state_after
from runcomfy.values import Outcome, OutcomeStatus

__all__ = ["outcome_of"]


_BY_STATE = {
    EntryState.FAILED: OutcomeStatus.FAILED,
    EntryState.CANCELLED: OutcomeStatus.CANCELLED,
    EntryState.DETACHED: OutcomeStatus.DETACHED,
    EntryState.EXPIRED: OutcomeStatus.UNCERTAIN,
}


def outcome_of(
    error: RunComfyError, label: str, *, key: str | None = None, accepted: str | None = None, seconds: float = 0.0
) -> Outcome:
    """Return the outcome of a generation that ended with an error.

    Args:
        error: The error that it ended with.
        label: What it is called.
        key: The generation, as far as it is known.
        accepted: Its request, if it was accepted before the error.
        seconds: How long it took.
    """
    request_id = accepted or error.request_id
    state = state_after(error)
    if isinstance(error, UncertainSubmission):
        status = OutcomeStatus.UNCERTAIN
    elif isinstance(error, DefectiveOutput):
        status = OutcomeStatus.FAILED
    elif state is not None:
        status = _BY_STATE[state]
    elif request_id and (accepted or isinstance(error, StorageError)):
        status = OutcomeStatus.DETACHED
    else:
        status = OutcomeStatus.REFUSED
    return Outcome(
        label=label,
        status=status,
        generation_key=key or error.generation_key,
        request_id=request_id,
        cost_usd=error.cost_usd,
        seconds=round(seconds, 3),
        error=str(error),
        error_type=type(error).__name__,
        error_code=code_of(error),
        retryable=error.retryable or status is OutcomeStatus.DETACHED,
    )
