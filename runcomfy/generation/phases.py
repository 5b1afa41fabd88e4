"""Measure the phases of a generation: a context manager around each, for metrics and traces.

Nothing here raises, or changes what a phase does; and nothing is collected unless telemetry is configured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from opentelemetry.trace import Span

from runcomfy.api.responses import State
from runcomfy.errors import RunComfyError, SubmissionNotSent, UncertainSubmission, is_retryable
from runcomfy.generation.hooks import Hooks
from runcomfy.journal import EntryState, Finding
from runcomfy.journal.record import state_after
from runcomfy.models.settings import main_label_of
from runcomfy.polling.poll import Poll
from runcomfy.telemetry import activation, metrics, tracing
from runcomfy.telemetry.request import MeasuredRequest, remember_staging
from runcomfy.values import ArchivedVideo, GenerationFacts, Result, StagedFile, Submission

__all__ = ["archiving", "found_late", "staging", "submitting", "tried", "waiting", "working_on"]

_KNOWN_WITHIN = 0.5  # of the run time; a less precise value is not recorded
_FOUND = (EntryState.FAILED, EntryState.CANCELLED, EntryState.EXPIRED)

_last: ContextVar[bool | None] = ContextVar("last_attempt", default=None)


@contextmanager
def staging(hooks: Hooks) -> Iterator[Callable[[StagedFile], None]]:
    """Measure the staging of a file; the body passes on what was staged."""
    activation.turn_on()
    _count_retry("stage", hooks)
    began_ns = time.time_ns()

    def done(file: StagedFile) -> None:
        ended_ns = time.time_ns()
        metrics.took("stage", (ended_ns - began_ns) / 1e9)
        remember_staging(file, began_ns, ended_ns)

    try:
        yield done
    except RunComfyError as error:
        metrics.failed_with("stage", error)
        raise


@contextmanager
def submitting(
    key: str, model_id: str, staged: Sequence[StagedFile], hooks: Hooks
) -> Iterator[Callable[[Submission], None]]:
    """Measure a submission; the body passes on one that it made, but not one that the journal knew."""
    activation.turn_on()
    if metrics.begin_at_zero(model_id):
        activation.send_soon()
    began_ns, made = time.time_ns(), list[Submission]()
    with metrics.in_flight("submit", model_id):
        try:
            yield made.append
        except RunComfyError as error:
            if _is_ours(error, began_ns):
                metrics.failed_with("submit", error)
                nameless = MeasuredRequest(f"{key} {began_ns}", model_id, key, **hooks.span_attributes())
                nameless.attributes["runcomfy.request.id"] = error.request_id
                nameless.emit_submission(staged, began_ns, error)
                nameless.emit_span("uncertain" if isinstance(error, UncertainSubmission) else "refused", error=error)
            raise
    for submission in made:
        metrics.took("submit", (time.time_ns() - began_ns) / 1e9, model_id=model_id)
        MeasuredRequest(submission, **hooks.span_attributes()).emit_submission(staged, began_ns)


@asynccontextmanager
async def waiting(submission: Submission | str, hooks: Hooks) -> AsyncIterator[Callable[[Poll], None]]:
    """Measure the waiting for a request; the body passes on each poll."""
    activation.turn_on()
    _count_retry("run", hooks)
    request = MeasuredRequest(submission, **hooks.span_attributes())
    model_id, states = request.model_id, list[State]()
    with _phase("run", "wait", request, hooks) as span, metrics.in_flight("queue", model_id) as phase:

        def polled(poll: Poll) -> None:
            if poll.failure is None and poll.state not in states[-1:]:
                states.append(poll.state)
                span.add_event(str(poll.state), {"runcomfy.waited_seconds": poll.waited_seconds})
            if poll.state is State.IN_PROGRESS:
                phase.move("run")
            if poll.result is not None:
                span.set_attribute("runcomfy.polls", poll.result.polls)
                _record(poll.result, model_id)

        yield polled


@asynccontextmanager
async def archiving(
    request_id: str, model_id: str, submission: Submission | None, hooks: Hooks
) -> AsyncIterator[Callable[[GenerationFacts, Sequence[ArchivedVideo]], None]]:
    """Measure the archiving of a request's files; the body passes them on when all of them exist."""
    activation.turn_on()
    _count_retry("archive", hooks)
    request, began_ns = MeasuredRequest(submission or request_id, model_id, **hooks.span_attributes()), time.time_ns()
    archived: list[GenerationFacts] = []
    with _phase("archive", "archive", request, hooks) as span, metrics.in_flight("archive", model_id):

        def done(facts: GenerationFacts, videos: Sequence[ArchivedVideo]) -> None:
            span.set_attribute("runcomfy.video.bytes", sum(video.size_bytes for video in videos))
            new = [video for video in videos if not video.already_archived]
            if not new:  # by another process, which counts it
                return
            setting = main_label_of(facts.inputs or {})
            for video in new:
                if video.quality is not None:
                    metrics.judged(video.quality.verdict, model_id, setting)
            metrics.transferred("video", sum(video.size_bytes for video in new))
            metrics.took("archive", (time.time_ns() - began_ns) / 1e9, model_id=model_id)
            if facts.submitted_at is not None:
                metrics.took_altogether((datetime.now(UTC) - facts.submitted_at).total_seconds(), model_id=model_id)
            archived.append(facts)

        yield done
    for facts in archived:
        request.record_end(EntryState.ARCHIVED, facts.cost_usd)


@contextmanager
def tried(phase: metrics.Phase, attempt: int, *, of: int) -> Iterator[None]:
    """Count the attempts at a phase, where the program around it does not repeat it.

    Args:
        phase: The phase.
        attempt: From 1.
        of: How many there may be.
    """
    if attempt > 1:
        metrics.retried(phase)
    token = _last.set(attempt >= of)
    try:
        yield
    finally:
        _last.reset(token)


@contextmanager
def working_on(rows: int, hooks: Hooks) -> Iterator[None]:
    """Open the span of a batch, which the spans of its generations link to."""
    activation.turn_on()
    with tracing.batch_span({"runcomfy.batch.rows": rows, **hooks.span_attributes()}):
        yield


def found_late(before: EntryState, finding: Finding, hooks: Hooks) -> None:
    """Count an end that `reconcile` found of a generation that no run waited for; `archiving` counts what is archived.

    Args:
        before: The state that it was in.
        finding: What was found.
        hooks: The program around it.
    """
    activation.turn_on()
    entry = finding.entry
    if entry.state is not before and entry.request_id and entry.state in _FOUND:
        request = MeasuredRequest(
            entry.request_id, entry.model_id, entry.generation_key, entry.submitted_at, **hooks.span_attributes()
        )
        request.record_end(entry.state, entry.cost_usd)


@contextmanager
def _phase(phase: metrics.Phase, name: str, request: MeasuredRequest, hooks: Hooks) -> Iterator[Span]:
    """Open the span of a phase; an error ends the request, unless the phase is tried again."""
    try:
        with tracing.phase_span(name, request.ids, request.attributes) as span:
            yield span
    except asyncio.CancelledError:
        activation.send_soon()
        raise
    except RunComfyError as error:
        metrics.failed_with(phase, error)
        state = state_after(error)
        if state is not None and not _is_tried_again(error, hooks):
            request.record_end(state, error.cost_usd, error)
        raise


def _record(result: Result, model_id: str | None) -> None:
    """Record queue and run times if the polls were close enough to separate them, as they are not after hours away."""
    ran, error = result.running_seconds, result.running_error_seconds
    if ran is not None and error is not None and error <= _KNOWN_WITHIN * ran:
        metrics.took("run", ran, model_id=model_id)
        if result.queued_seconds is not None:
            metrics.took("queue", result.queued_seconds, model_id=model_id)
    try:
        finished = datetime.fromisoformat(result.finished_at or "")
        metrics.took("notice", (result.noticed_at - finished).total_seconds(), model_id=model_id)
    except (TypeError, ValueError):  # missing, or in a form that is not documented
        return


def _is_ours(error: RunComfyError, began_ns: int) -> bool:
    """Whether it is about this submission, sent or tried in vain, and not an earlier one that the journal reports."""
    if isinstance(error, SubmissionNotSent):
        return error.generation_key is not None
    try:
        return datetime.fromisoformat(error.sent_at or "").timestamp() * 1e9 >= began_ns
    except ValueError:
        return False


def _is_tried_again(error: RunComfyError, hooks: Hooks) -> bool:
    """Whether the program around it, or a batch, tries the same again."""
    if not is_retryable(error):
        return False
    last = _last.get()
    return not (hooks.is_last_attempt() if last is None else last)


def _count_retry(phase: metrics.Phase, hooks: Hooks) -> None:
    if hooks.attempt() > 1:
        metrics.retried(phase)
