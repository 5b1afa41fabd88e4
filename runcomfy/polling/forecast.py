"""How long a request may run, and what it may cost, by others of its kind: both are cached beside the journal."""

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

__all__ = ["Forecast", "NoteStore", "RunTimes"]

logger = logging.getLogger(__name__)

_NOTE = "run-times"
_KEPT = 30  # for each workload
_ENOUGH = 3
_MAX_WORKLOADS = 500

# The prior: a spread of ten per cent, worth two requests.
_PRIOR_SPREAD, _PRIOR_WEIGHT = 0.1, 2.0
_SPREAD_TO_SCALE = math.sqrt(3) / math.pi  # of a logistic distribution
_WIDEST = 1.0  # one in two hundred takes 200 times as long as the median: it may end at any time


@dataclass(frozen=True)
class Forecast:
    """The distribution of a run time: log-logistic.

    Its logarithm is bell-shaped, with heavier tails than the normal distribution, and everything needed here has a
    closed form (https://en.wikipedia.org/wiki/Log-logistic_distribution).

    Args:
        median_seconds: The time that half of the requests take longer than.
        scale: Of the logarithm; 0.055 is a spread of about ten per cent.
    """

    median_seconds: float
    scale: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return the forecast from the run times of at least one request: the fewer there are, the wider it is."""
        logarithms = [math.log(each) for each in seconds]
        count, location = len(logarithms), statistics.fmean(logarithms)
        squares = _PRIOR_WEIGHT * _PRIOR_SPREAD**2 + sum((each - location) ** 2 for each in logarithms)
        spread = math.sqrt(squares / (_PRIOR_WEIGHT + count - 1)) * (1 + 3 / count)  # as Student's t is
        return cls(math.exp(location), min(spread * _SPREAD_TO_SCALE, _WIDEST))

    def widened(self, seconds: float) -> Forecast:
        """Return the forecast for a request whose start is only known to within this many seconds."""
        more = seconds / math.sqrt(12) / self.median_seconds * _SPREAD_TO_SCALE
        return Forecast(self.median_seconds, min(math.hypot(self.scale, more), _WIDEST))

    def odds(self, age: float) -> float:
        """Return how many requests have ended at this age for each one that has not."""
        return math.exp(min((math.log(age) - math.log(self.median_seconds)) / self.scale, 500.0)) if age > 0 else 0.0

    def age_when(self, ended: float) -> float:
        """Return the age in seconds at which this share has ended."""
        return self.median_seconds * math.pow(ended / (1 - ended), self.scale)

    def seconds_left(self, age: float) -> float:
        """Return the time in which half of the requests that have not ended at this age will end."""
        return max(self.median_seconds * math.pow(1 + 2 * self.odds(age), self.scale) - age, 0.0)


class _CachedRunTimes(BaseModel):
    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    run_seconds: dict[str, list[Annotated[FiniteFloat, Field(gt=0)]]] = {}
    dearest_usd: dict[str, Annotated[FiniteFloat, Field(ge=0)]] = {}


class NoteStore(Protocol):
    """Where processes share notes: the journal keeps them beside its entries."""

    async def read_note(self, name: str) -> bytes | None:
        """Return a note, or `None` if there is none."""

    async def update_note(self, name: str, change: Callable[[bytes | None], bytes]) -> bool:
        """Replace a note with what `change` returns for it; `False` if someone else replaced it in the meantime."""


class RunTimes:
    """The run times of the latest requests of each workload, in seconds, and the most that one has cost.

    All generations of a process share one, so that the first to end help the others; `load` and `save` share it among
    processes. It is a cache: losing it costs a few calls, so no failure to read or write it is raised.

    Args:
        notes: Where it is shared; `None` keeps it in this process.
    """

    def __init__(self, notes: NoteStore | None = None) -> None:
        self._notes = notes
        self._loaded = notes is None
        self._loading = asyncio.Lock()
        self._known: dict[str, list[float]] = {}
        self._new: dict[str, deque[float]] = {}
        self._dearest: dict[str, float] = {}
        self._new_dearest: dict[str, float] = {}

    @property
    def has_unsaved(self) -> bool:
        """Whether it holds run times or costs that are not saved."""
        return bool(self._new or self._new_dearest)

    def record(self, workload: str, seconds: float) -> None:
        """Record how long a request ran."""
        if seconds > 0:
            self._new.setdefault(workload, deque(maxlen=_KEPT)).append(seconds)

    def record_cost(self, workload: str, usd: float) -> None:
        """Record what a request has cost, US dollars, by the service."""
        if math.isfinite(usd) and usd >= 0 and usd > (self.dearest(workload) or -1.0):
            self._new_dearest[workload] = usd

    def dearest(self, workload: str | None) -> float | None:
        """Return the most that a request of this workload has cost, US dollars; `None` if none was seen."""
        seen = [each[workload] for each in (self._dearest, self._new_dearest) if workload and workload in each]
        return max(seen, default=None)

    def forecast(self, workload: str | None) -> Forecast | None:
        """Forecast how long a request of this workload runs; `None` until three have been seen.

        With fewer, a wrong forecast costs more than none.
        """
        if not workload:
            return None
        seen = [*self._known.get(workload, ()), *self._new.get(workload, ())][-_KEPT:]
        return Forecast.of(seen) if len(seen) >= _ENOUGH else None

    async def load(self) -> Self:
        """Read what other processes saved, once; what cannot be read is ignored."""
        async with self._loading:
            if not self._loaded and self._notes is not None:
                try:
                    self._read(await self._notes.read_note(_NOTE))
                except RunComfyError as error:
                    logger.info("The cached run times could not be read: %s", error)
                self._loaded = True
        return self

    async def save(self) -> None:
        """Save what is new; it stays unsaved if that fails, or another process saves at the same moment."""
        if self._notes is None or not self.has_unsaved:
            return
        try:
            if await self._notes.update_note(_NOTE, self._merged_into):
                self._new.clear()
                self._new_dearest.clear()
        except RunComfyError as error:
            logger.info("The run times could not be saved: %s", error)

    def _read(self, note: bytes | None) -> None:
        if note is None:
            return
        try:
            cached = _CachedRunTimes.model_validate_json(note)
        except ValidationError:
            cached = _CachedRunTimes()
        self._known, self._dearest = cached.run_seconds, cached.dearest_usd

    def _merged_into(self, note: bytes | None) -> bytes:
        """Return the note with what was recorded here added to it."""
        self._read(note)
        merged = dict(self._known)
        for workload, seconds in self._new.items():
            latest = [*merged.pop(workload, ()), *seconds][-_KEPT:]
            merged[workload] = [float(f"{each:.4g}") for each in latest]  # the latest workload last
        self._known = dict(list(merged.items())[-_MAX_WORKLOADS:])
        dearest = dict(self._dearest)
        for workload, usd in self._new_dearest.items():
            dearest[workload] = max(usd, dearest.pop(workload, usd))
        self._dearest = dict(list(dearest.items())[-_MAX_WORKLOADS:])
        return _CachedRunTimes(run_seconds=self._known, dearest_usd=self._dearest).model_dump_json().encode()
