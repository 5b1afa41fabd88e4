"""What the service answers, parsed once.

Field names, state words and output shapes are those of RunComfy's API documentation; the tolerated spellings are those
that its published clients meet. A word that nobody has documented is `UNKNOWN`: neither success nor failure.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from runcomfy.api.outputs import Outputs, find_outputs, given_urls
from runcomfy.api.refusals import error_code
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


_SPELLINGS = {state.value.replace("_", ""): state for state in State} | {
    "canceled": State.CANCELLED,
    "pending": State.IN_QUEUE,
    "waiting": State.IN_QUEUE,
    "starting": State.IN_PROGRESS,
    "processing": State.IN_PROGRESS,
}
_ERROR_FIELDS = ("error", "error_code", "error_message")
_MORE_ERROR_FIELDS = (*_ERROR_FIELDS, "detail", "message")


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

    `outputs` are the URLs of the generated files, in the order video, videos, image, images, audio, audios. They may be
    signed: they are kept out of the representation, and must not be stored. `error` is the service's own account of
    what went wrong, of unknown shape, with secrets cut out; a success may have one too. `warnings` says what is odd
    about a success, for whoever gets its files. Times are the service's texts, whose format nobody has documented.
    """

    request_id: str
    state: State
    word: str
    outputs: tuple[str, ...] = field(default=(), repr=False)
    created_at: str | None = None
    finished_at: str | None = None
    cost_usd: float | None = None
    error: Any = None
    error_code: int | str | None = None
    output: Any = field(default=None, repr=False)
    """What stands under `output`, with secrets cut out: to be shown where no file is found or taken from it."""
    guessed: bool = False
    """Whether a file among the outputs is only a URL that was found there, under no name that is known."""
    warnings: tuple[str, ...] = ()


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
    return _SPELLINGS.get("".join(letter for letter in word.lower() if letter.isalnum()), State.UNKNOWN)


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


def parse_answer(request_id: str, body: dict[str, Any], *, sent: Collection[str] = ()) -> Answer:
    """Read the body of a result call.

    A word that nobody knows says neither success nor failure; with a file, and the time at which the request finished,
    it is read as `completed`.

    Args:
        request_id: The request.
        body: What was answered.
        sent: URLs that were submitted, without their queries: where `output` repeats one, it is not a file.
    """
    word, state = body.get("status"), parse_state(body.get("status"))
    repeated = given_urls({name: body.get(name) for name in ("input", "inputs")})
    outputs = find_outputs(body.get("output"), sent=sent, repeated=repeated)
    if state is State.UNKNOWN and outputs.urls and body.get("finished_at"):
        state = State.COMPLETED
    error = _error(body, _MORE_ERROR_FIELDS if state is State.FAILED else _ERROR_FIELDS)
    return Answer(
        request_id=request_id,
        state=state,
        word=_shown(word),
        outputs=outputs.urls,
        created_at=_text(body.get("created_at")),
        finished_at=_text(body.get("finished_at")),
        cost_usd=_cost(body.get("cost")),
        error=error,
        error_code=error_code(body),
        output=redact(body.get("output")),
        guessed=outputs.guessed,
        warnings=tuple(_warnings(outputs, error)) if outputs.urls else (),
    )


def _error(body: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Return what an answer says of an error: the one field that says it, or all of them by their names."""
    said = {name: redact(body[name]) for name in names if body.get(name)}
    return said.get("error") if said.keys() <= {"error"} else said


def _warnings(outputs: Outputs, error: Any) -> Iterator[str]:
    if outputs.guessed:
        yield "The result names its file in a way that is not documented: it was taken from a URL in the output."
    if error is not None:
        yield f"The service says that it succeeded, and beside it an error: {str(error)[:300]}"


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


def _shown(word: object) -> str:
    return str(redact(str(word)))[:40]


def _text(value: object) -> str | None:
    return None if value is None else str(redact(str(value)))
