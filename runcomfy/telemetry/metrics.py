"""The metrics, each with its unit, its attributes and what it counts.

They go through OpenTelemetry's API, which drops them until an SDK is configured (by `runcomfy.telemetry.activation`, or
by the platform). No attribute is a request, a generation, an image or a prompt: the number of time series stays small,
however much is generated.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from cachetools import LRUCache
from opentelemetry import metrics
from opentelemetry.metrics import Counter, Histogram, UpDownCounter

from runcomfy.errors import GenerationError, ServiceError

logger = logging.getLogger(__name__)

__all__ = [
    "METRICS",
    "InFlight",
    "Metric",
    "Phase",
    "begin_at_zero",
    "called",
    "count_poll",
    "ended",
    "failed_with",
    "healed",
    "in_flight",
    "judged",
    "retried",
    "submission_answered",
    "took",
    "took_altogether",
    "transferred",
]

Phase = Literal["stage", "submit", "queue", "run", "notice", "archive"]

_MINUTES = (
    0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 3600, 7200,
)  # fmt: skip
_CALL = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_UNKNOWN, _OTHER = "unknown", "other"
_MOST_SETTINGS = 30  # of a model: each makes up to four time series


@dataclass(frozen=True)
class Metric:
    """One metric, as it is documented."""

    name: str
    kind: Literal["counter", "histogram", "up-down counter"]
    unit: str
    """In UCUM; braces hold what is counted."""
    about: str
    attributes: tuple[str, ...]


_GENERATIONS = Metric(
    "runcomfy.generations", "counter", "{generation}",
    "Accepted requests that came to an end here: archived, failed, cancelled, detached (given up, may be running) or "
    "expired. One that was archived before is not counted again.",
    ("outcome", "model"),
)  # fmt: skip
_ERRORS = Metric(
    "runcomfy.errors", "counter", "{error}",
    "Errors that a phase of a generation ended with, those that are tried again as well; error.type is the class.",
    ("phase", "error.type"),
)  # fmt: skip
_DURATION = Metric(
    "runcomfy.generation.duration", "histogram", "s",
    "From the submission until the video is in the archive, of those that were archived.",
    ("model",),
)  # fmt: skip
_PHASE = Metric(
    "runcomfy.generation.phase.duration", "histogram", "s",
    "How long a phase took that succeeded: stage, submit, queue, run, notice (from the end to our noticing, where the "
    "service says when it ended), archive.",
    ("phase", "model"),
)  # fmt: skip
_IN_FLIGHT = Metric(
    "runcomfy.generations.in_flight", "up-down counter", "{generation}",
    "Generations that this process is working on now, by phase: submit, queue, run, archive.",
    ("phase", "model"),
)  # fmt: skip
_SUBMISSIONS = Metric(
    "runcomfy.submissions", "counter", "{submission}",
    "Paid calls by what became of them: accepted, refused, not_sent, or uncertain. One that is tried again because of "
    "its rate is one.",
    ("outcome", "model"),
)  # fmt: skip
_POLLS = Metric(
    "runcomfy.polls", "counter", "{poll}",
    "Polls of requests: ok, or failed, which says nothing about the request.",
    ("outcome",),
)  # fmt: skip
_CALLS = Metric(
    "runcomfy.api.call.duration", "histogram", "s",
    "Calls of the RunComfy API: submit, status, result, cancel or balance; status is that of the answer (2xx, 4xx …), "
    "none where there was no answer.",
    ("call", "status"),
)  # fmt: skip
_RETRIES = Metric(
    "runcomfy.retries", "counter", "{retry}",
    "A phase that was tried again after it had failed, or was asked to come later.",
    ("phase",),
)  # fmt: skip
_TRANSFERRED = Metric(
    "runcomfy.transferred", "counter", "By",
    "Bytes written to the bucket: videos when they are archived, images when they are submitted for the first time; "
    "not what was there already.",
    ("content",),
)  # fmt: skip
_COST = Metric(
    "runcomfy.cost_usd", "counter", "{USD}",
    "US dollars that the service named for requests that ended here.",
    ("model", "outcome"),
)  # fmt: skip
_WITHOUT_COST = Metric(
    "runcomfy.requests.without_cost", "counter", "{request}",
    "Requests that ended here, or whose outcome is unknown, and that may be billed, but whose cost is unknown.",
    ("model", "outcome"),
)  # fmt: skip
_HEALED = Metric(
    "runcomfy.runs.healed", "counter", "{run}",
    "Flow runs that reconcile changed: run_again (an order that had crashed), given_up (it needs a person), crashed or "
    "cancelled (no process was working on it any more).",
    ("outcome",),
)  # fmt: skip
_FILES = Metric(
    "runcomfy.files", "counter", "{file}",
    "Files that were archived here, by what they were judged to be: good, suspect, damaged or not_judged; setting is "
    "what was asked for of size and length, such as resolution 720p, other beyond 30 of a model in a process.",
    ("verdict", "model", "setting"),
)  # fmt: skip

METRICS = (
    _GENERATIONS, _SUBMISSIONS, _ERRORS, _RETRIES, _DURATION, _PHASE, _IN_FLIGHT, _POLLS, _CALLS, _TRANSFERRED, _COST,
    _WITHOUT_COST, _HEALED, _FILES,
)  # fmt: skip
"""Every metric that there is."""

_meter = metrics.get_meter("runcomfy")


def _counter(metric: Metric) -> Counter:
    return _meter.create_counter(metric.name, metric.unit, metric.about)


def _histogram(metric: Metric, buckets: tuple[float, ...]) -> Histogram:
    return _meter.create_histogram(metric.name, metric.unit, metric.about, explicit_bucket_boundaries_advisory=buckets)


_generations, _submissions, _polls = _counter(_GENERATIONS), _counter(_SUBMISSIONS), _counter(_POLLS)
_errors, _retries, _transferred = _counter(_ERRORS), _counter(_RETRIES), _counter(_TRANSFERRED)
_cost, _without_cost, _healed = _counter(_COST), _counter(_WITHOUT_COST), _counter(_HEALED)
_files = _counter(_FILES)
_duration, _phase, _calls = _histogram(_DURATION, _MINUTES), _histogram(_PHASE, _MINUTES), _histogram(_CALLS, _CALL)
_in_flight: UpDownCounter = _meter.create_up_down_counter(_IN_FLIGHT.name, _IN_FLIGHT.unit, _IN_FLIGHT.about)


def _record(record: Callable[[float, dict[str, str]], None], amount: float, attributes: dict[str, str]) -> None:
    """Record an amount; a provider that fails must not break what is paid for."""
    try:
        record(amount, attributes)
    except Exception as error:
        logger.warning("A metric could not be recorded (%s); the run goes on", type(error).__name__)


_begun: set[str] = set()
_counting = threading.Lock()
_counted: LRUCache[tuple[str, str], bool] = LRUCache(maxsize=65_536)
_settings: dict[str, set[str]] = {}


def begin_at_zero(model_id: str) -> bool:
    """Start the counters of a model at zero, once: a rate misses the first count of a counter that starts with it.

    Returns:
        Whether this was the first time.
    """
    if model_id in _begun:
        return False
    _begun.add(model_id)
    for outcome in ("accepted", "refused", "not_sent", "uncertain"):
        _record(_submissions.add, 0, {"outcome": outcome, "model": model_id})
    for outcome in ("archived", "failed", "cancelled", "detached", "expired"):
        _record(_generations.add, 0, {"outcome": outcome, "model": model_id})
        _record(_cost.add, 0, {"model": model_id, "outcome": outcome})
    for verdict in ("good", "suspect", "damaged", "not_judged"):
        _record(_files.add, 0, {"verdict": verdict, "model": model_id, "setting": ""})
    return True


def ended(request_id: str, outcome: str, *, model_id: str | None, cost_usd: float | None = None) -> bool:
    """Count a request that ended, once in each process, and what it cost.

    Args:
        request_id: The request; it is not part of the metric.
        outcome: `archived`, `failed`, `cancelled`, `detached` or `expired`.
        model_id: Its model, if it is known.
        cost_usd: What the service says that it cost.

    Returns:
        Whether it was counted.
    """
    outcome = str(outcome)  # a member of an enumeration would make another time series of the same name
    with _counting:
        if (request_id, outcome) in _counted:
            return False
        _counted[request_id, outcome] = True
    model = model_id or _UNKNOWN
    _record(_generations.add, 1, {"outcome": outcome, "model": model})
    if cost_usd is not None:
        _record(_cost.add, cost_usd, {"model": model, "outcome": outcome})
    elif outcome != "detached":  # its cost is asked for when it is collected
        _record(_without_cost.add, 1, {"model": model, "outcome": outcome})
    return True


def submission_answered(outcome: str, model_id: str) -> None:
    """Count the outcome of a paid call: `accepted`, `refused`, `not_sent` or `uncertain`."""
    _record(_submissions.add, 1, {"outcome": outcome, "model": model_id})
    if outcome == "uncertain":
        _record(_without_cost.add, 1, {"model": model_id, "outcome": outcome})


def took(phase: Phase, seconds: float, *, model_id: str | None = None) -> None:
    """Record how long a phase took; images are staged for no model in particular."""
    _record(_phase.record, max(0.0, seconds), {"phase": phase, "model": model_id or _UNKNOWN})


def took_altogether(seconds: float, *, model_id: str | None) -> None:
    """Record how long a generation took, from its submission to the archive."""
    _record(_duration.record, max(0.0, seconds), {"model": model_id or _UNKNOWN})


@contextmanager
def count_poll() -> Iterator[None]:
    """Count the poll that the body makes; learning that a generation failed is a poll that worked."""
    try:
        yield
    except ServiceError:
        _record(_polls.add, 1, {"outcome": "failed"})
        raise
    except GenerationError:
        _record(_polls.add, 1, {"outcome": "ok"})
        raise
    _record(_polls.add, 1, {"outcome": "ok"})


def healed(outcome: Literal["run_again", "given_up", "crashed", "cancelled"]) -> None:
    """Count a flow run that was run again, given up, or ended because no process was working on it."""
    _record(_healed.add, 1, {"outcome": outcome})


def retried(phase: Phase) -> None:
    """Count that a phase is tried again."""
    _record(_retries.add, 1, {"phase": phase})


def failed_with(phase: Phase, error: BaseException) -> None:
    """Count the error that a phase ended with."""
    _record(_errors.add, 1, {"phase": phase, "error.type": type(error).__name__})


def transferred(content: Literal["picture", "video"], size_bytes: int) -> None:
    """Count bytes that were written to the bucket."""
    _record(_transferred.add, size_bytes, {"content": content})


def judged(verdict: str, model_id: str | None, setting: str = "") -> None:
    """Count a file that was archived, by its verdict.

    Args:
        verdict: What it was judged to be.
        model_id: The model that made it, if it is known.
        setting: What was asked for of size and length, such as `resolution 720p`; no text and no seed.
    """
    model = model_id or _UNKNOWN
    with _counting:
        known = _settings.setdefault(model, set())
        if setting and setting not in known and len(known) >= _MOST_SETTINGS:
            setting = _OTHER
        known.add(setting)
    _record(_files.add, 1, {"verdict": verdict, "model": model, "setting": setting})


@contextmanager
def called(call: str) -> Iterator[list[int]]:
    """Record how long a call of the API takes; the body appends the HTTP status of the answer to the list."""
    status: list[int] = []
    began = time.monotonic()
    try:
        yield status
    finally:
        answer = f"{status[-1] // 100}xx" if status else "none"
        _record(_calls.record, time.monotonic() - began, {"call": call, "status": answer})


class InFlight:
    """One generation that this process is working on, counted in its phase."""

    def __init__(self, phase: Phase, model_id: str | None) -> None:
        self._attributes = {"phase": str(phase), "model": model_id or _UNKNOWN}
        _record(_in_flight.add, 1, self._attributes)

    def move(self, phase: Phase) -> None:
        """Count it in another phase."""
        if self._attributes["phase"] != phase:
            self.leave()
            self._attributes = {**self._attributes, "phase": str(phase)}
            _record(_in_flight.add, 1, self._attributes)

    def leave(self) -> None:
        """Stop counting it."""
        _record(_in_flight.add, -1, self._attributes)


@contextmanager
def in_flight(phase: Phase, model_id: str | None) -> Iterator[InFlight]:
    """Count a generation as being in a phase while the body runs."""
    generation = InFlight(phase, model_id)
    try:
        yield generation
    finally:
        generation.leave()
