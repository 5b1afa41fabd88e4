"""What became of one generation among many: the failure of one is not that of the others."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import RunComfyError, StorageError, UncertainSubmission
from runcomfy.journal.entry import EntryState, code_of
from runcomfy.journal.telling import state_after

__all__ = ["Outcome", "OutcomeStatus", "outcome_of"]


class OutcomeStatus(StrEnum):
    """How it ended; the first two are what everybody wants."""

    ARCHIVED = "archived"
    EXISTING = "existing"
    """It was archived before this run."""
    FAILED = "failed"
    """The service tried and failed."""
    CANCELLED = "cancelled"
    DETACHED = "detached"
    """It may be running; another run, or `reconcile`, collects it."""
    UNCERTAIN = "uncertain"
    """Nobody knows whether it was accepted, or the service has forgotten it: a person has to look."""
    REFUSED = "refused"
    """It was surely not accepted, and nothing was paid for."""
    NOT_STARTED = "not_started"
    """Nothing was sent: the budget was reached, or something is wrong that concerns all."""

    @property
    def is_good(self) -> bool:
        """Whether its video is in the archive."""
        return self in (OutcomeStatus.ARCHIVED, OutcomeStatus.EXISTING)

    @property
    def may_be_paid(self) -> bool:
        """Whether a request was made that may be billed, by this run or before it."""
        return self not in (OutcomeStatus.REFUSED, OutcomeStatus.NOT_STARTED)


_BY_STATE = {
    EntryState.FAILED: OutcomeStatus.FAILED,
    EntryState.CANCELLED: OutcomeStatus.CANCELLED,
    EntryState.DETACHED: OutcomeStatus.DETACHED,
    EntryState.EXPIRED: OutcomeStatus.UNCERTAIN,
}


class Outcome(BaseModel):
    """What became of one generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(description="What it is called in this run: its line, or its picture.")
    status: OutcomeStatus
    generation_key: str | None = None
    request_id: str | None = None
    uris: tuple[str, ...] = Field(default=(), description="Where its files stand, s3://bucket/key.")
    cost_usd: float | None = Field(default=None, description="US dollars, where the service told.")
    seconds: float = Field(default=0.0, description="From its start in this run to its end.")
    error: str | None = None
    error_type: str | None = None
    error_code: str | None = Field(default=None, description="The service's or the store's; else the HTTP status.")
    retryable: bool = Field(default=False, description="Whether another run may have more luck, with nothing changed.")


def outcome_of(
    error: RunComfyError, label: str, *, key: str | None = None, accepted: str | None = None, seconds: float = 0.0
) -> Outcome:
    """Return what an error says of a generation.

    Args:
        error: With which it ended.
        label: What it is called.
        key: The generation, as far as it is known.
        accepted: Its request, if it was accepted before the error.
        seconds: How long it took.
    """
    request_id = accepted or error.request_id
    state = state_after(error)
    if isinstance(error, UncertainSubmission):
        status = OutcomeStatus.UNCERTAIN
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
