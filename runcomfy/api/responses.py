"""The answers of the service, parsed once.

Field names, state words and output shapes are those of RunComfy's API documentation; the tolerated spellings are those
that its published clients accept. An undocumented word is `UNKNOWN`: neither success nor failure.
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
    """The state of a request. `COMPLETED` means finished; only an `Answer` says whether it succeeded."""

    IN_QUEUE = "in_queue"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the result may be there."""
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
    """The answer of the status call. `word` is the state as the service spells it."""

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
    about a success, for anyone who gets its files. Times are the service's texts, in an undocumented format.
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
    """The value of `output`, with secrets cut out: to be shown where no file is found or taken from it."""
    guessed: bool = False
    """Whether a file among the outputs is just a URL that was found there, under no known name."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cancellation:
    """The answer of the cancel call. `outcome` decides: `cancelled`, `not_cancellable`, or `None` for another word."""

    request_id: str
    outcome: str | None
    state: State


def parse_state(word: object) -> State:
    """Normalise a state's spelling; an unknown word is `UNKNOWN`."""
    if not isinstance(word, str):
        return State.UNKNOWN
    return _SPELLINGS.get("".join(letter for letter in word.lower() if letter.isalnum()), State.UNKNOWN)


def parse_status(request_id: str, body: dict[str, Any]) -> Status:
    """Parse the body of a status call."""
    word = body.get("status")
    position = body.get("queue_position")
    return Status(
        request_id=request_id,
        state=parse_state(word),
        word=_shown(word),
        queue_position=position if isinstance(position, int) and not isinstance(position, bool) else None,
    )


def parse_answer(request_id: str, body: dict[str, Any], *, sent: Collection[str] = ()) -> Answer:
    """Parse the body of a result call.

    An unknown word means neither success nor failure; with a file and the time at which the request finished, it counts
    as `completed`.

    Args:
        request_id: The request.
        body: The answer.
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
    """Return the error in an answer: the value of `error`, or all error fields by name if there are others."""
    said = {name: redact(body[name]) for name in names if body.get(name)}
    return said.get("error") if said.keys() <= {"error"} else said


def _warnings(outputs: Outputs, error: Any) -> Iterator[str]:
    if outputs.guessed:
        yield "The result names its file in a way that is not documented: it was taken from a URL in the output."
    if error is not None:
        yield f"The service says that it succeeded, and beside it an error: {str(error)[:300]}"


def _cost(value: Any) -> float | None:
    """Return a cost; what is not an amount of money is unknown, since budgets are counted with it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def parse_cancellation(request_id: str, body: dict[str, Any]) -> Cancellation:
    """Parse the body of a cancel call. Its `status` may contradict its `outcome`; the outcome is trusted."""
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
