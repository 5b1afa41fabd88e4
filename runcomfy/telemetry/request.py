"""One paid request in metrics and traces: its attributes, and its end, which is counted once."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any

from cachetools import LRUCache

from runcomfy.errors import RunComfyError
from runcomfy.telemetry import metrics, tracing
from runcomfy.values import StagedImage, Submission

__all__ = ["MeasuredRequest", "remember_staging"]

_FINAL = ("archived", "failed", "cancelled")

# When earlier phases began, for spans that are emitted later; lost with the process, which shortens a span.
_memory = threading.Lock()  # tasks may run in threads
_staged: LRUCache[str, tuple[int, int, dict[str, Any]]] = LRUCache(maxsize=4096)
_began: LRUCache[str, int] = LRUCache(maxsize=65_536)
_uploaded: LRUCache[str, bool] = LRUCache(maxsize=65_536)


def remember_staging(image: StagedImage, began_ns: int, ended_ns: int) -> None:
    """Remember when an image was staged, for the span in the trace of the first generation that uses it."""
    facts = {"bytes": image.size_bytes, "sha256": image.sha256, "uploaded": image.uploaded}
    named = {f"runcomfy.image.{name}": fact for name, fact in facts.items()}
    with _memory:
        _staged[image.sha256] = began_ns, ended_ns, named


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

    def emit_submission(self, image: StagedImage | None, began_ns: int, error: RunComfyError | None = None) -> None:
        """Emit the spans of what came before the request had an id: its submission, and the staging of its image.

        Args:
            image: The image.
            began_ns: When the submission began, nanoseconds of Unix time.
            error: What it ended with, if it was not accepted.
        """
        ended_ns, staged, is_new = time.time_ns(), None, False
        with _memory:
            if image is not None:
                staged, is_new = _staged.pop(image.sha256, None), image.uploaded and image.sha256 not in _uploaded
                _uploaded[image.sha256] = True
            _began[self.request_id] = began_ns if staged is None else min(began_ns, staged[0])
        if image is not None and is_new:
            metrics.transferred("picture", image.size_bytes)
        if staged is not None:
            attributes = {**self.attributes, **staged[2]}
            tracing.span_of_phase("stage", self.ids, attributes, began_ns=staged[0], ended_ns=staged[1])
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
