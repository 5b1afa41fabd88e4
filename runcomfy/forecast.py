"""How long a request may run, told from how long others of its kind ran."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

__all__ = ["Forecast"]

# What is believed before anything was seen: a spread of ten per cent, worth two requests.
_PRIOR_SPREAD, _PRIOR_WEIGHT = 0.1, 2.0
# One request in two hundred is like none before: the service became slower or faster, or the settings mean more.
_SURPRISES, _SURPRISE_SPREAD, _SURPRISE_DOF = 0.005, 0.7, 3.0
_LOCATION_STEPS, _SCALE_STEPS = 100, 20


@dataclass(frozen=True)
class Forecast:
    """The distribution of a running time in seconds: its logarithm is Student's t, with a few surprises.

    That is what is to be expected of the next of several log-normal times whose mean and spread are known from those
    times alone: the fewer were seen, the heavier its tails.

    Args:
        location: The logarithm of its median, in seconds.
        scale: The spread of the logarithm; 0.05 is about five per cent.
        dof: The degrees of freedom: how much the spread can be relied on.
    """

    location: float
    scale: float
    dof: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return what the times of one request or more foretell, rounded to a per cent, so that equal ones are many."""
        logarithms = [math.log(each) for each in seconds]
        count, location = len(logarithms), statistics.fmean(logarithms)
        dof = _PRIOR_WEIGHT + count - 1
        squares = _PRIOR_WEIGHT * _PRIOR_SPREAD**2 + sum((each - location) ** 2 for each in logarithms)
        scale = math.sqrt(squares / dof * (1 + 1 / count))
        return cls(round(location * _LOCATION_STEPS) / _LOCATION_STEPS, _stepped(scale), dof)

    @property
    def median_seconds(self) -> float:
        """The time that half of the requests take longer than."""
        return math.exp(self.location)

    def widened(self, seconds: float) -> Forecast:
        """Return the forecast for a request of which it is only known in which so many seconds it began."""
        more = seconds / math.sqrt(12) / self.median_seconds
        return Forecast(self.location, _stepped(math.hypot(self.scale, more)), self.dof)

    def density(self, seconds: float) -> float:
        """Return the probability density of ending at this age, per second."""
        logarithm = math.log(seconds)
        usual = _student(logarithm, self.location, self.scale, self.dof)
        surprise = _student(logarithm, self.location, _SURPRISE_SPREAD, _SURPRISE_DOF)
        return ((1 - _SURPRISES) * usual + _SURPRISES * surprise) / seconds


def _stepped(scale: float) -> float:
    """Round to a twentieth of itself."""
    return math.exp(round(math.log(scale) * _SCALE_STEPS) / _SCALE_STEPS)


def _student(value: float, location: float, scale: float, dof: float) -> float:
    distance = (value - location) / scale
    constant = math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2) - math.log(dof * math.pi) / 2 - math.log(scale)
    return math.exp(constant - (dof + 1) / 2 * math.log1p(distance * distance / dof))
