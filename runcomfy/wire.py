"""What the service answers, parsed once.

Field names, state words and output shapes are those of RunComfy's API documentation; the tolerated spellings are those
that its published clients meet. A word that nobody has documented is `UNKNOWN`: neither success nor failure.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Any

from runcomfy.redaction import redact

__all__ = [
    "Answer",
    "Cancellation",
    "State",
    "Status",
    "parse_answer",
    "parse_cancellation",
    "parse_state",
    "parse_status",
]


class State(enum.StrEnum):
    """Where a request is. `COMPLETED` means finished; only an `Answer` says whether it worked."""

    IN_QUEUE = "in_queue"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether a status of this kind is worth asking for the result."""
        return self in (State.COMPLETED, State.SUCCEEDED, State.FAILED, State.CANCELLED)


_SPELLINGS = {"canceled": State.CANCELLED, "pending": State.IN_QUEUE, "processing": State.IN_PROGRESS}


@dataclass(frozen=True)
class Status:
    """The answer of the status call. `word` is the state as the service spelt it."""

    request_id: str
    state: State
    word: str
    queue_position: int | None = None


@dataclass(frozen=True)
class Answer:
    """The answer of the result call.

    `outputs` are the URLs of the generated files, in the order video, videos, image, images. They may be signed: they
    are kept out of the representation, and must not be stored. `error` is the service's own account of a failure, of
    unknown shape, with secrets cut out. Times are the service's texts, whose format nobody has documented.
    """

    request_id: str
    state: State
    word: str
    outputs: tuple[str, ...] = field(default=(), repr=False)
    created_at: str | None = None
    finished_at: str | None = None
    cost_usd: float | None = None
    error: Any = None


@dataclass(frozen=True)
class Cancellation:
    """The answer of the cancel call. `outcome` counts: `cancelled`, `not_cancellable`, or `None` for any other word."""

    request_id: str
    outcome: str | None
    state: State


def parse_state(word: object) -> State:
    """Normalise a state's spelling; a word that is not known is `UNKNOWN`."""
    if not isinstance(word, str):
        return State.UNKNOWN
    spelling = word.strip().lower().replace("-", "_").replace(" ", "_")
    if spelling in _SPELLINGS:
        return _SPELLINGS[spelling]
    return State(spelling) if spelling in State._value2member_map_ else State.UNKNOWN


def parse_status(request_id: str, body: dict[str, Any]) -> Status:
    """Read the body of a status call."""
    word = body.get("status")
    position = body.get("queue_position")
    return Status(
        request_id=request_id,
        state=parse_state(word),
        word=_shown(word),
        queue_position=position if isinstance(position, int) and not isinstance(position, bool) else None,
    )


def parse_answer(request_id: str, body: dict[str, Any]) -> Answer:
    """Read the body of a result call."""
    word = body.get("status")
    return Answer(
        request_id=request_id,
        state=parse_state(word),
        word=_shown(word),
        outputs=_urls(body.get("output")),
        created_at=_text(body.get("created_at")),
        finished_at=_text(body.get("finished_at")),
        cost_usd=_cost(body.get("cost")),
        error=redact(body.get("error")),
    )


def _cost(value: Any) -> float | None:
    """Return a cost; what is no amount of money is not known, since budgets are counted with it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def parse_cancellation(request_id: str, body: dict[str, Any]) -> Cancellation:
    """Read the body of a cancel call. Its `status` may contradict its `outcome`; the outcome is trusted."""
    outcome = {"cancelled": "cancelled", "canceled": "cancelled", "not_cancellable": "not_cancellable"}
    return Cancellation(
        request_id=request_id,
        outcome=outcome.get(str(body.get("outcome")).strip().lower()),
        state=parse_state(body.get("status")),
    )


def _urls(output: object) -> tuple[str, ...]:
    """Find the URLs in `output`: an object with the four known names, a list, or a bare URL; each URL once."""
    if isinstance(output, dict):
        found = [url for name in ("video", "videos", "image", "images") for url in _urls(output.get(name))]
    elif isinstance(output, list):
        found = [url for item in output for url in _urls(item)]
    else:
        found = [output] if isinstance(output, str) and output.startswith(("https://", "http://")) else []
    return tuple(dict.fromkeys(found))


def _shown(word: object) -> str:
    return str(redact(str(word)))[:40]


def _text(value: object) -> str | None:
    return None if value is None else str(redact(str(value)))
