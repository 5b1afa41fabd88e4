"""What the journal holds of a generation, and which states may follow which.

intent ──POST answered──> submitted ──> archived
  │                          ├─> failed       the service reported a failure: a later run may try again
  ├─ refused for sure ─> refused              nothing was paid for: a later run may try again
  └─ uncertain ───> uncertain ├─> cancelled    while queued: a later run may try again
       │                     ├─> detached     nobody waits, it may be running: a later run or `reconcile` collects
       │                     └─> expired      the service no longer knows it: a person decides
       └─ adopted ─> submitted, or released ─> a later run may try again

What has ended may be erased: a tombstone remains, and nothing is submitted before a person releases it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import RunComfyError
from runcomfy.redaction import redact
from runcomfy.values import Archive, ArchivedVideo, Moment, StagedFile, StagedImage

__all__ = ["OPEN", "RESTARTABLE", "Entry", "EntryState", "Event", "code_of"]


class EntryState(StrEnum):
    """Where a generation is, as the journal knows it."""

    INTENT = "intent"
    """A worker is about to submit it, or was when it died."""
    SUBMITTED = "submitted"
    """The service accepted it, and a worker waits for it, or did when it died."""
    DETACHED = "detached"
    """The service accepted it, and nobody waits for it: it may be running, and is collected when it is done."""
    UNCERTAIN = "uncertain"
    """It may have been accepted, and its request id is unknown: a person adopts or releases it."""
    EXPIRED = "expired"
    """It was accepted, and the service no longer knows its request: a person looks for it, and releases it."""
    ARCHIVED = "archived"
    FAILED = "failed"
    REFUSED = "refused"
    """It was certainly not accepted."""
    CANCELLED = "cancelled"
    """It was cancelled while it was in the queue."""
    RELEASED = "released"
    """A person allowed another submission."""
    ERASED = "erased"
    """A person removed all that it was made of and that was made; it is not submitted again by itself."""


_S = EntryState
RESTARTABLE = frozenset({_S.FAILED, _S.REFUSED, _S.CANCELLED, _S.RELEASED})
"""A later run may submit again."""
OPEN = frozenset({_S.INTENT, _S.SUBMITTED, _S.DETACHED, _S.UNCERTAIN, _S.EXPIRED})
"""Not at an end: a worker waits for it or collects it, or a person has to decide."""

# Which states may follow for the same request. A new attempt (any of RESTARTABLE to intent) is `Entry.begun_again`.
_FOLLOWS: Mapping[EntryState, frozenset[EntryState]] = {
    _S.INTENT: frozenset({_S.SUBMITTED, _S.REFUSED, _S.UNCERTAIN}),
    _S.UNCERTAIN: frozenset({_S.SUBMITTED, _S.FAILED, _S.CANCELLED, _S.RELEASED}),
    _S.SUBMITTED: frozenset({_S.DETACHED, _S.ARCHIVED, _S.FAILED, _S.CANCELLED, _S.EXPIRED, _S.RELEASED}),
    _S.DETACHED: frozenset({_S.ARCHIVED, _S.FAILED, _S.CANCELLED, _S.EXPIRED, _S.RELEASED}),
    # What ended differently than recorded: a cancel that was answered wrongly, a request that was found again.
    _S.CANCELLED: frozenset({_S.DETACHED, _S.ARCHIVED, _S.FAILED, _S.SUBMITTED, _S.ERASED}),
    _S.EXPIRED: frozenset({_S.DETACHED, _S.ARCHIVED, _S.FAILED, _S.CANCELLED, _S.SUBMITTED, _S.RELEASED}),
    _S.FAILED: frozenset({_S.ARCHIVED, _S.SUBMITTED, _S.ERASED}),
    _S.RELEASED: frozenset({_S.ARCHIVED, _S.SUBMITTED, _S.ERASED}),
    _S.REFUSED: frozenset({_S.SUBMITTED, _S.ERASED}),
    _S.ARCHIVED: frozenset({_S.DETACHED, _S.ERASED}),  # detached: its file is gone from the bucket
    _S.ERASED: frozenset({_S.RELEASED}),
}


_LONGEST_HISTORY, _RECENT = 200, 100
_LONGEST_CODE = 100
_WITHOUT_REQUEST = (_S.INTENT, _S.REFUSED)


class Event(BaseModel):
    """One step in the life of a generation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: Moment
    state: EntryState
    worker: str
    attempt: int = 0
    """The attempt that it belongs to, from 1; 0 if an older version wrote it."""
    run: str = ""
    """The run whose attempt it belongs to."""
    request_id: str | None = None
    reason: str | None = None
    error_type: str | None = None
    """The class of the error that led to it, if one did."""
    error_code: str | None = None
    """The service's or the store's own code of that error; the HTTP status if it gave none."""
    cost_usd: float | None = None
    """What its request cost in US dollars, if the service said so at this step."""


def code_of(error: BaseException | None) -> str | None:
    """Return the service's or the store's own code of an error; the HTTP status if it gave none."""
    if not isinstance(error, RunComfyError):
        return None
    code = error.error_code or error.http_status
    return str(code)[:_LONGEST_CODE] if code else None


def _shortened(history: tuple[Event, ...]) -> tuple[Event, ...]:
    """Leave out the oldest refusals of a generation that is refused every minute; never a request."""
    if len(history) <= _LONGEST_HISTORY:
        return history
    early = [event for event in history[:-_RECENT] if event.request_id or event.state not in _WITHOUT_REQUEST]
    return (*early, *history[-_RECENT:])


def _new_nonce() -> str:
    return uuid.uuid4().hex


class Entry(BaseModel):
    """The journal's object of one generation, `<generation_key>.json`. Holds no token and no signed URL."""

    # A later version may add fields; an older reader ignores them.
    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    generation_key: str
    state: EntryState
    model_id: str
    service: str = Field(description="The base URL that it is submitted to.")
    inputs: dict[str, Any] = Field(description="What is asked for; an image is named by its URI.")
    image: StagedImage | None = None
    staged: tuple[StagedFile, ...] = Field(default=(), description="The input files, where they are not one image.")
    variation: str = ""
    attempt: int = Field(default=1, ge=1, description="Which submission of this generation this is, from 1.")
    run: str = Field(default="", description="The outermost run that submitted this attempt: it does so only once.")
    flow_run: dict[str, str] = Field(default_factory=dict)
    store: str = Field(default="", description="Where it is to be archived, `s3://bucket/prefix/`.")
    patience_seconds: float = Field(
        default=180.0, allow_inf_nan=False, description="An intent that is older is that of a dead worker."
    )
    request_id: str | None = None
    submitted_at: Moment | None = None
    reason: str | None = Field(default=None, description="Why it is in this state, where that needs a reason.")
    cost_usd: float | None = Field(default=None, description="What the request cost in US dollars, where it is known.")
    archive: Archive | None = None
    created_at: Moment
    updated_at: Moment
    history: tuple[Event, ...] = ()
    nonce: str = Field(default_factory=_new_nonce, description="Makes each version's bytes different from all others.")

    @property
    def waiting(self) -> ArchivedVideo | None:
        """The first of its archived files that was set aside, and that nobody has decided about; `None` if none is."""
        videos = self.archive.videos if self.archive and self.state is EntryState.ARCHIVED else ()
        return next((video for video in videos if video.set_aside and video.review is None), None)

    @property
    def rejected(self) -> ArchivedVideo | None:
        """The first of its archived files that a person rejected; `None` if there is none."""
        videos = self.archive.videos if self.archive and self.state is EntryState.ARCHIVED else ()
        return next((video for video in videos if video.is_rejected), None)

    @property
    def files(self) -> tuple[StagedFile, ...]:
        """The staged files of its inputs."""
        return (self.image,) if self.image else self.staged

    def moved(
        self,
        state: EntryState,
        *,
        worker: str,
        reason: str | None = None,
        error: BaseException | None = None,
        **changes: Any,
    ) -> Self:
        """Return the next version of this entry, with the step in its history.

        Args:
            state: Its next state.
            worker: Who writes this version.
            reason: Why, for a person.
            error: What led to it, if an error did; its class and its code are recorded.
            **changes: Other fields of the entry that are known now.
        """
        now, reason = datetime.now(UTC), redact(reason)
        event = Event(
            at=now,
            state=state,
            worker=worker,
            attempt=changes.get("attempt", self.attempt),
            run=changes.get("run", self.run),
            request_id=changes.get("request_id", self.request_id),
            reason=reason,
            error_type=type(error).__name__ if error else None,
            error_code=code_of(error),
            cost_usd=changes.get("cost_usd"),
        )
        return self.model_copy(
            update=changes
            | {"state": state, "reason": reason, "updated_at": now, "nonce": _new_nonce()}
            | {"history": _shortened((*self.history, event))}
        )

    def begun_again(self, other: Self, *, worker: str) -> Self:
        """Return the intent of another attempt, with the inputs of `other` and this entry's history."""
        kept = self.model_copy(
            update={
                name: getattr(other, name)
                for name in (
                    "service",
                    "inputs",
                    "image",
                    "staged",
                    "variation",
                    "run",
                    "flow_run",
                    "store",
                    "patience_seconds",
                )
            }
        )
        return kept.moved(
            EntryState.INTENT,
            worker=worker,
            attempt=self.attempt + 1,
            request_id=None,
            submitted_at=None,
            cost_usd=None,
            archive=None,
        )

    def blanked(self, *, worker: str) -> Self:
        """Return the tombstone of an erased generation: which requests it had, when, and what they cost."""
        emptied: dict[str, Any] = {
            "inputs": {}, "image": None, "staged": (), "variation": "", "flow_run": {}, "archive": None,
            "history": tuple(event.model_copy(update={"reason": None}) for event in self.history),
        }  # fmt: skip
        return self.model_copy(update=emptied).moved(EntryState.ERASED, worker=worker, reason="erased by a person")

    def marked_uncertain(self, *, worker: str) -> Self:
        """Return the next version of an intent whose worker died: uncertain."""
        return self.moved(EntryState.UNCERTAIN, worker=worker, reason=self.silence_reason)

    @property
    def silence_reason(self) -> str:
        """What is known of an intent whose worker died."""
        intents = (event.worker for event in reversed(self.history) if event.state is EntryState.INTENT)
        return f"{next(intents, self.history[-1].worker)} did not say what became of its submission"

    def may_become(self, state: EntryState) -> bool:
        """Whether this state may follow the present one for the same request."""
        return state in _FOLLOWS[self.state]

    def to_json(self) -> bytes:
        """Return the document as it is stored."""
        left_out = None if self.staged else {"staged"}  # as it was stored before this field existed
        return self.model_dump_json(indent=1, exclude=left_out).encode()

    def attempts_of(self, run: str) -> int:
        """Return how many attempts of a run became uncertain, so that each may be paid for."""
        uncertain = [event for event in self.history if event.run == run and event.state is EntryState.UNCERTAIN]
        return len(uncertain) if run else 0

    def errors_since(self, moment: datetime, error_type: str) -> int:
        """Return how many steps since then were caused by an error of this class."""
        return sum(event.error_type == error_type and event.at >= moment for event in self.history)

    @property
    def began_at(self) -> datetime:
        """When the current attempt was about to be sent, by the clock of the worker that sent it."""
        return next((event.at for event in reversed(self.history) if event.state is EntryState.INTENT), self.created_at)

    @property
    def cause(self) -> Event | None:
        """The step with the error that led to the current state; `None` if none did or none was recorded."""
        for event in reversed(self.history):
            if event.state is self.state and event.error_type:
                return event
            if event.state is EntryState.INTENT:
                break
        return None

    @property
    def earlier_costs_usd(self) -> dict[str, float]:
        """What requests before the current one cost in US dollars, by their ids, as far as the service said."""
        costs = {event.request_id: event.cost_usd for event in self.history if event.cost_usd is not None}
        return {name: cost for name, cost in costs.items() if name and name != self.request_id and cost is not None}

    @property
    def request_ids(self) -> list[str]:
        """Every request that was ever accepted for this generation, the latest last."""
        return list(dict.fromkeys(event.request_id for event in self.history if event.request_id))
