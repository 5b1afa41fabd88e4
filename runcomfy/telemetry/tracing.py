"""One trace for each generation, however many runs, processes and days its phases are spread over.

The trace id is the first 32 digits of the generation's key, so all that work on a generation add to the same trace
without passing a context on, and a person finds the trace by the key. In it, each paid request is one span
`generation`, whose id is derived from the request's; the process that sees the request end emits it, and the spans of
the phases name it as their parent before it exists. No span has a prompt, a token or a URL.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runcomfy.errors import (
    ArchiveError,
    GenerationError,
    RunComfyError,
    ServiceError,
    StorageError,
    UncertainSubmission,
)

__all__ = ["batch_span", "generation_span", "phase_span", "request_ids", "span_of_phase", "trace_id_of"]

_KEY = re.compile(r"[0-9a-f]{32}")

logger = logging.getLogger(__name__)

_QUOTING = (ArchiveError, GenerationError, ServiceError, StorageError, UncertainSubmission)

_ids: ContextVar[tuple[int, int] | None] = ContextVar("runcomfy_trace_ids", default=None)


class _ChosenIds:
    """The SDK's id generator of our own tracer, with the chosen ids where there are some."""

    # No public API starts a span with a chosen id: a remote parent gives it a trace id, and phases need the span's.

    def __init__(self, own: Any) -> None:
        self._own = own

    def generate_trace_id(self) -> int:
        chosen = _ids.get()
        return int(self._own.generate_trace_id()) if chosen is None else chosen[0]

    def generate_span_id(self) -> int:
        chosen = _ids.get()
        return int(self._own.generate_span_id()) if chosen is None else chosen[1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def _tracer() -> trace.Tracer:
    """Return our tracer of the current provider; if it is an SDK's, ids can be chosen."""
    tracer = trace.get_tracer("runcomfy")
    own = getattr(tracer, "id_generator", None)
    if own is not None and not isinstance(own, _ChosenIds):
        tracer.id_generator = _ChosenIds(own)  # type: ignore[attr-defined]  # of the SDK's tracer, not of the API's
    return tracer


def trace_id_of(key: str | None, request_id: str | None) -> int:
    """Return the id of a generation's trace, derived from the request if the generation is unknown."""
    if key is None or not _KEY.match(key):
        key = hashlib.sha256((key or str(request_id)).encode()).hexdigest()
    return int(key[:32], 16)


def request_ids(key: str | None, request_id: str) -> tuple[int, int]:
    """Return the ids of the trace, and of the span of one request in it."""
    return trace_id_of(key, request_id), int(hashlib.sha256(f"request {request_id}".encode()).hexdigest()[:16], 16)


def _below(ids: tuple[int, int], tracer: trace.Tracer) -> Context:
    """Return the context of spans below a request's; sampled if that one is: a sampler decides by the trace id."""
    sampler = getattr(tracer, "sampler", None)
    sampled = sampler is None or sampler.should_sample(None, ids[0], "generation").decision.is_sampled()
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(*ids, is_remote=True, trace_flags=flags)), Context())


def _links() -> list[Link]:
    """Link to the current span: of the task run, the flow run or the batch."""
    current = trace.get_current_span().get_span_context()
    return [Link(current)] if current.is_valid else []


@contextmanager
def phase_span(name: str, ids: tuple[int, int], attributes: Mapping[str, Any]) -> Iterator[Span]:
    """Make a span of a generation the current one while the body runs.

    Args:
        name: The phase.
        ids: Of the trace and of the request, as `request_ids` returns them.
        attributes: Those that are `None` are left out.
    """
    span = _started(name, ids, attributes)
    try:
        with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield span
    except BaseException as error:
        _end(span, error=error)
        raise
    _end(span)


@contextmanager
def batch_span(attributes: Mapping[str, Any]) -> Iterator[None]:
    """Make a span of a batch the current one, in the current trace if any; generations in the body link to it."""
    span = _started("batch", None, attributes, here=True)
    try:
        with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield
    finally:
        _end(span)


def span_of_phase(
    name: str,
    ids: tuple[int, int],
    attributes: Mapping[str, Any],
    *,
    began_ns: int,
    ended_ns: int,
    error: BaseException | None = None,
) -> None:
    """Emit the span of a phase that is over, where only its end showed which generation and request it was for."""
    span = _started(name, ids, attributes, began_ns=min(began_ns, ended_ns))
    _end(span, ended_ns, error)


def generation_span(
    ids: tuple[int, int],
    attributes: Mapping[str, Any],
    *,
    began_ns: int,
    ended_ns: int,
    error: BaseException | None = None,
) -> None:
    """Emit the span of a whole request, the root of its phases."""
    token = _ids.set(ids)
    try:
        span = _started("generation", None, attributes, began_ns=min(began_ns, ended_ns))
    finally:
        _ids.reset(token)
    _end(span, ended_ns, error)


def _record_failure(span: Span, error: BaseException) -> None:
    """Record on a span the error that it ended with.

    The description is the error's message if that is entirely ours. What the service says may quote the prompt, and an
    object's key may contain it, so then it is the first line of the error class's docstring; the run's log and the
    journal have the rest.
    """
    span.set_attribute("error.type", type(error).__name__)
    if isinstance(error, _QUOTING) or not isinstance(error, RunComfyError):
        description = (type(error).__doc__ or type(error).__name__).partition("\n")[0]
    else:
        description = error.message
    if isinstance(error, Exception):  # an interruption is not an error
        span.set_status(Status(StatusCode.ERROR, description))


def _started(
    name: str,
    below: tuple[int, int] | None,
    attributes: Mapping[str, Any],
    *,
    began_ns: int | None = None,
    here: bool = False,
) -> Span:
    """Start a span: below a request's, as a root, or (`here`) below the current one.

    A provider that fails must not break what is paid for.
    """
    known = {name: value for name, value in attributes.items() if value is not None}
    try:
        tracer = _tracer()
        if here:
            return tracer.start_span(name, attributes=known)
        context = Context() if below is None else _below(below, tracer)
        return tracer.start_span(name, context, SpanKind.INTERNAL, known, _links(), began_ns)
    except Exception as error:
        logger.warning("The span %s could not be started (%s)", name, type(error).__name__)
        return trace.INVALID_SPAN


def _end(span: Span, ended_ns: int | None = None, error: BaseException | None = None) -> None:
    try:
        if error is not None:
            _record_failure(span, error)
        span.end(ended_ns)
    except Exception as failure:
        logger.warning("A span could not be ended (%s)", type(failure).__name__)
