"""How long a request may run, told from how long others of its kind ran; the latest are kept beside the journal."""

from __future__ import annotations

import asyncio
import logging
import math
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from runcomfy.errors import RunComfyError

__all__ = ["Forecast", "Notes", "RunTimes"]

logger = logging.getLogger(__name__)

_NOTE = "run-times"
_KEPT = 30
_ENOUGH = 3
_MOST_WORKLOADS = 500

# What is believed before anything was seen: a spread of ten per cent, worth two requests.
_PRIOR_SPREAD, _PRIOR_WEIGHT = 0.1, 2.0
_SPREAD_TO_SCALE = math.sqrt(3) / math.pi  # of a logistic distribution
_WIDEST = 1.0  # one in two hundred takes 200 times as long as the median: it may end at any time


@dataclass(frozen=True)
class Forecast:
    """The distribution of a running time: log-logistic.

    In the logarithm it is bell-shaped, with heavier tails than the normal distribution; and everything that is asked of
    it has a closed form (https://en.wikipedia.org/wiki/Log-logistic_distribution).

    Args:
        median_seconds: The time that half of the requests take longer than.
        scale: Of the logarithm; 0.055 is a spread of about ten per cent.
    """

    median_seconds: float
    scale: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return what the times of one request or more foretell: the fewer, the wider, since they say little of it."""
        logarithms = [math.log(each) for each in seconds]
        count, location = len(logarithms), statistics.fmean(logarithms)
        squares = _PRIOR_WEIGHT * _PRIOR_SPREAD**2 + sum((each - location) ** 2 for each in logarithms)
        spread = math.sqrt(squares / (_PRIOR_WEIGHT + count - 1)) * (1 + 3 / count)  # as Student's t is
        return cls(math.exp(location), min(spread * _SPREAD_TO_SCALE, _WIDEST))

    def widened(self, seconds: float) -> Forecast:
        """Return the forecast for a request of which it is only known in which so many seconds it began."""
        more = seconds / math.sqrt(12) / self.median_seconds * _SPREAD_TO_SCALE
        return Forecast(self.median_seconds, min(math.hypot(self.scale, more), _WIDEST))

    def odds(self, age: float) -> float:
        """Return how many have ended at this age, for each one that has not."""
        return math.exp(min((math.log(age) - math.log(self.median_seconds)) / self.scale, 500.0)) if age > 0 else 0.0

    def age_when(self, ended: float) -> float:
        """Return the age in seconds at which this share has ended."""
        return self.median_seconds * math.pow(ended / (1 - ended), self.scale)

    def seconds_left(self, age: float) -> float:
        """Return the time within which half of those end that have not ended at this age."""
        return max(self.median_seconds * math.pow(1 + 2 * self.odds(age), self.scale) - age, 0.0)


class _RunTimesNote(BaseModel):
    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    run_seconds: dict[str, list[Annotated[FiniteFloat, Field(gt=0)]]] = {}


class Notes(Protocol):
    """Where notes are kept that processes share: the journal has such a place beside its entries."""

    async def read_note(self, name: str) -> bytes | None:
        """Return a note, or `None` if there is none."""

    async def update_note(self, name: str, change: Callable[[bytes | None], bytes]) -> bool:
        """Replace a note by what `change` makes of it; `False` if somebody else replaced it in the meantime."""


class RunTimes:
    """The running times of the latest requests of each workload, in seconds; the oldest are forgotten.

    Everything that a process makes shares one, so that the first that end help the others; `recall` and `note` share it
    among processes. What is lost of it costs a few calls, so no failure to read or write it is raised.

    Args:
        notes: Where it is shared; nowhere without.
    """

    def __init__(self, notes: Notes | None = None) -> None:
        self._notes = notes
        self._recalled = notes is None
        self._one_at_a_time = asyncio.Lock()
        self._known: dict[str, list[float]] = {}
        self._new: dict[str, deque[float]] = {}

    @property
    def has_news(self) -> bool:
        """Whether something was seen that is not in the note."""
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

    async def recall(self) -> Self:
        """Read the note, the first time that this is awaited; one that cannot be read says nothing."""
        async with self._one_at_a_time:
            if not self._recalled and self._notes is not None:
                try:
                    self._read(await self._notes.read_note(_NOTE))
                except RunComfyError as error:
                    logger.info("It could not be read how long requests usually run: %s", error)
                self._recalled = True
        return self

    async def note(self) -> None:
        """Write down what is new; where another process does so at the same moment, or it fails, the note stays."""
        if self._notes is None or not self.has_news:
            return
        try:
            if await self._notes.update_note(_NOTE, self._added_to):
                self._new.clear()
        except RunComfyError as error:
            logger.info("It could not be written down how long requests ran: %s", error)

    def _read(self, note: bytes | None) -> None:
        if note is None:
            return
        try:
            self._known = _RunTimesNote.model_validate_json(note).run_seconds
        except ValidationError:
            self._known = {}

    def _added_to(self, note: bytes | None) -> bytes:
        """Return the note that follows another one: with what was seen here since."""
        self._read(note)
        together = dict(self._known)
        for workload, seconds in self._new.items():
            latest = [*together.pop(workload, ()), *seconds][-_KEPT:]
            together[workload] = [float(f"{each:.4g}") for each in latest]  # the latest workload last
        self._known = dict(list(together.items())[-_MOST_WORKLOADS:])
        return _RunTimesNote(run_seconds=self._known).model_dump_json().encode()
