"""One paid request in metrics and traces: its attributes, and its end, which is counted once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cachetools import LRUCache

from runcomfy.errors import RunComfyError
from runcomfy.telemetry import metrics, tracing
from runcomfy.values import StagedFile, Submission

__all__ = ["MeasuredRequest", "remember_staging"]

_FINAL = ("archived", "failed", "cancelled")

# When earlier phases began, for spans that are emitted later; lost with the process, which shortens a span.
_memory = threading.Lock()  # tasks may run in threads
_staged: LRUCache[str, tuple[int, int, dict[str, Any]]] = LRUCache(maxsize=4096)
_began: LRUCache[str, int] = LRUCache(maxsize=65_536)
_uploaded: LRUCache[str, bool] = LRUCache(maxsize=65_536)


def remember_staging(file: StagedFile, began_ns: int, ended_ns: int) -> None:
    """Remember when a file was staged, for the span in the trace of the first generation that uses it."""
    facts = {"bytes": file.size_bytes, "sha256": file.sha256, "uploaded": file.uploaded}
    named = {f"runcomfy.image.{name}": fact for name, fact in facts.items()}
    with _memory:
        _staged[file.sha256] = began_ns, ended_ns, named


class MeasuredRequest:
    """One paid request.

    Args:
        submission: The submission, or just the request's id.
        model_id: Its model, if only the request's id is given.
        key: The generation, likewise.
        submitted_at: When it was submitted, UTC, likewise.
        **attributes: More attributes of its spans.
    """

    def __init__(
        self,
        submission: Submission | str,
        model_id: str | None = None,
        key: str | None = None,
        submitted_at: datetime | None = None,
        **attributes: Any,
    ) -> None:
        if isinstance(submission, Submission):
            model_id, key = submission.model_id or model_id, submission.generation_key
            submitted_at, submission = submission.submitted_at, submission.request_id
        self.request_id, self.model_id, self._submitted_at = submission, model_id, submitted_at
        self.ids = tracing.request_ids(key, submission)
        self.attributes: dict[str, Any] = {
            "runcomfy.generation.key": key,
            "runcomfy.request.id": submission,
            "runcomfy.model": model_id,
            **attributes,
        }

    def emit_submission(self, files: Sequence[StagedFile], began_ns: int, error: RunComfyError | None = None) -> None:
        """Emit the spans of what came before the request had an id: its submission, and the staging of its files.

        Args:
            files: The staged files.
            began_ns: When the submission began, nanoseconds of Unix time.
            error: What it ended with, if it was not accepted.
        """
        ended_ns = time.time_ns()
        with _memory:
            new = [file for file in files if file.uploaded and file.sha256 not in _uploaded]
            stagings = [found for file in files if (found := _staged.pop(file.sha256, None)) is not None]
            _uploaded.update({file.sha256: True for file in files})
            _began[self.request_id] = min([began_ns, *(staged_ns for staged_ns, _, _ in stagings)])
        for file in new:
            metrics.transferred("picture", file.size_bytes)
        for staged_ns, staged_until_ns, facts in stagings:
            attributes = {**self.attributes, **facts}
            tracing.span_of_phase("stage", self.ids, attributes, began_ns=staged_ns, ended_ns=staged_until_ns)
        tracing.span_of_phase("submit", self.ids, self.attributes, began_ns=began_ns, ended_ns=ended_ns, error=error)

    def record_end(self, outcome: str, cost_usd: float | None = None, error: RunComfyError | None = None) -> None:
        """Count its end, once in each process, and emit its whole span if the end is final."""
        if metrics.ended(self.request_id, outcome, model_id=self.model_id, cost_usd=cost_usd) and outcome in _FINAL:
            self.emit_span(outcome, cost_usd, error)

    def emit_span(self, outcome: str, cost_usd: float | None = None, error: RunComfyError | None = None) -> None:
        """Emit the span of the whole request, from the earliest start that this process knows until now."""
        now = time.time_ns()
        submitted_ns = now if self._submitted_at is None else int(self._submitted_at.timestamp() * 1e9)
        attributes = {**self.attributes, "runcomfy.outcome": str(outcome), "runcomfy.cost_usd": cost_usd}
        with _memory:
            began_ns = _began.pop(self.request_id, submitted_ns)
        tracing.generation_span(self.ids, attributes, began_ns=began_ns, ended_ns=now, error=error)
