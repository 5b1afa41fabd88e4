"""The facts of a generation from which the advice for a person follows: from its entry, or from a run's error."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from runcomfy import errors
from runcomfy.api.refusals import ANOTHER_ACCOUNT
from runcomfy.errors import RunComfyError
from runcomfy.journal.entry import Entry, EntryState, code_of

__all__ = ["Situation"]

_S = EntryState


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The facts of a generation from which the advice follows."""

    state: EntryState
    generation_key: str
    """Empty if it is unknown."""
    model_id: str
    request_id: str | None = None
    sent_at: datetime | None = None
    """When its submission was about to be sent."""
    sent_at_approximate: bool = False
    """Whether that is approximate."""
    reason: str = ""
    error_type: str | None = None
    """The class of the error that led to the state."""
    error_code: str | None = None
    cost_usd: float | None = None
    earlier_cost_usd: float | None = None
    """What earlier attempts cost, as far as that is known."""
    abandoned: bool = False
    """Whether it is an intent whose worker must have died."""
    stuck: bool = False
    """Whether it makes no progress by itself, though its state does not say so."""
    set_aside: str = ""
    """The address of a file that waits for a person's decision."""
    rejected: str = ""
    """The address of a file that a person rejected."""
    overdue: bool = False
    """Whether the service has worked on it for longer than any request takes."""

    @classmethod
    def of(
        cls, entry: Entry, *, news: str = "", abandoned: bool = False, stuck: bool = False, overdue: bool = False
    ) -> Self:
        """Return the situation of an entry.

        Args:
            entry: What the journal knows.
            news: What was found out since.
            abandoned: Whether it is an intent whose worker must have died.
            stuck: Whether it makes no progress by itself.
            overdue: Whether it takes too long.
        """
        cause, earlier = entry.cause, entry.earlier_costs_usd
        return cls(
            state=entry.state,
            generation_key=entry.generation_key,
            model_id=entry.model_id,
            request_id=entry.request_id,
            sent_at=entry.began_at,
            reason=news or (entry.silence_reason if abandoned else entry.reason or ""),
            error_type=cause.error_type if cause else None,
            error_code=cause.error_code if cause else None,
            cost_usd=entry.cost_usd,
            earlier_cost_usd=sum(earlier.values()) if earlier else None,
            abandoned=abandoned,
            stuck=stuck,
            overdue=overdue,
            set_aside=waiting.uri if (waiting := entry.waiting) is not None else "",
            rejected=rejected.uri if (rejected := entry.rejected) is not None else "",
        )

    @classmethod
    def after(cls, error: RunComfyError, model_id: str | None) -> Self | None:
        """Return the situation after the error that a run ended with; `None` if it is about no request.

        Args:
            error: The error.
            model_id: The model, if the error does not say it.
        """
        match error:
            case errors.GenerationErased():
                state = _S.ERASED
            case errors.UncertainSubmission():
                state = _S.UNCERTAIN
            case errors.StillRateLimited() if error.generation_key:
                state = _S.REFUSED
            case errors.GenerationFailed():
                state = _S.FAILED
            case errors.GenerationCancelled() | errors.QueueTimeout():
                state = _S.CANCELLED
            case errors.RequestNotFound() if not error.generation_key:
                return None
            case errors.RequestNotFound() if error.error_code != ANOTHER_ACCOUNT:
                state = _S.EXPIRED
            case errors.GenerationError() | errors.WaitError() | errors.ArchiveError():
                state = _S.DETACHED
            case _ if error.request_id:
                state = _S.DETACHED
            case _:
                return None
        return cls(
            state=state,
            generation_key=error.generation_key or "",
            model_id=error.model_id or model_id or "",
            request_id=error.request_id,
            sent_at=datetime.fromisoformat(error.sent_at) if error.sent_at else None,
            reason=error.cause or error.message,
            error_type=type(error).__name__,
            error_code=code_of(error),
            cost_usd=error.cost_usd,
        )

    @property
    def kind(self) -> type[RunComfyError]:
        """The class of the error, from the name that the journal keeps; the base class if there is none."""
        found = getattr(errors, self.error_type or "", None)
        return found if isinstance(found, type) and issubclass(found, RunComfyError) else RunComfyError
