"""What was learnt of how long requests run: the latest of each kind, kept as a note beside the journal's entries."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError

from runcomfy.forecast import Forecast

__all__ = ["RunTimes", "workload_of"]

_KEPT = 30
_ENOUGH = 3
_MOST_WORKLOADS = 500
_SAYS_NOTHING = {"prompt", "image_url", "seed"}


def workload_of(model_id: str, inputs: Mapping[str, Any]) -> str:
    """Name what requests have in common that take about the same time: the model, and every setting but the content."""
    settings = sorted((name, value) for name, value in inputs.items() if name not in _SAYS_NOTHING)
    return f"{model_id}?{urlencode([(name, json.dumps(value)) for name, value in settings])}"


class _Note(BaseModel):
    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    run_seconds: dict[str, list[PositiveFloat]] = {}


class RunTimes:
    """The running times of the latest requests of each workload, in seconds; the oldest are forgotten.

    Everything that a process makes shares one, so that the first that end tell the others. `added_to` and `read_note`
    share it among processes. What is lost of it costs a few calls.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[float]] = {}
        self._new: dict[str, deque[float]] = {}

    @property
    def has_news(self) -> bool:
        """Whether something was seen that was not in the note."""
        return bool(self._new)

    def saw(self, workload: str, seconds: float) -> None:
        """Take note of how long a request ran."""
        if seconds > 0:
            self._new.setdefault(workload, deque(maxlen=_KEPT)).append(seconds)

    def forecast(self, workload: str | None) -> Forecast | None:
        """Foretell how long a request of this workload runs; `None` until three have been seen.

        With less, a forecast that is wrong costs more than none.
        """
        if not workload:
            return None
        seen = [*self._known.get(workload, ()), *self._new.get(workload, ())][-_KEPT:]
        return Forecast.of(seen) if len(seen) >= _ENOUGH else None

    def read_note(self, note: bytes | None) -> None:
        """Take over what a note says; one that cannot be read says nothing."""
        if note is None:
            return
        try:
            self._known = _Note.model_validate_json(note).run_seconds
        except ValidationError:
            self._known = {}

    def added_to(self, note: bytes | None) -> bytes:
        """Return the note that follows another one: with what was seen here since."""
        self.read_note(note)
        together = dict(self._known)
        for workload, seconds in self._new.items():
            latest = [*together.pop(workload, ()), *seconds][-_KEPT:]
            together[workload] = [float(f"{each:.4g}") for each in latest]  # the latest workload last
        self._known = dict(list(together.items())[-_MOST_WORKLOADS:])
        return _Note(run_seconds=self._known).model_dump_json().encode()

    def forget_news(self) -> None:
        """Drop what was seen here: it is written down."""
        self._new.clear()
