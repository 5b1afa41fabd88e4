"""When to look at something that ends at a time that is only known by its distribution: the inspection problem.

A look costs a call, and a result that is not looked at waits. The best plan looks at a density that follows the square
root of the hazard rate (R. E. Barlow, F. Proschan: Mathematical Theory of Reliability, 1965, chapter 4): rarely while
nothing can be ready, often when it is due. How densely in all is a matter of taste; here, so that a result waits for
about a hundredth of the time that it took.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from itertools import accumulate, pairwise

from runcomfy.polling.forecast import Forecast

__all__ = ["Inspection", "inspection_of"]

_MEAN_DELAY = 0.008  # of the median
_DUE = 0.005  # where so many have ended, nothing may wait for longer than the share that is allowed
_REACH = 4.0  # the grid goes from 1/55 of the median to 55 times it
_FINE, _COARSE = 0.1, 0.05
_SPREADS = 80


class Inspection:
    """The plan of looks for one forecast. Ages are in seconds since the request began to run.

    Args:
        forecast: When it may end.
        fraction: The share of its age that a result may wait for once it can be due.
        min_interval_seconds: Nobody looks more often.
        max_interval_seconds: Nobody looks less often.
    """

    def __init__(
        self, forecast: Forecast, *, fraction: float, min_interval_seconds: float, max_interval_seconds: float
    ) -> None:
        self._fraction = fraction
        self._ages = [0.0, *_grid(forecast)]
        density = [0.0, *(forecast.density(age) for age in self._ages[1:])]
        masses = _areas(self._ages, density)
        total = sum(masses)
        ended = accumulate(masses, initial=0.0)
        # what lies beyond the grid is nearly nothing, and must not be nothing at all
        self._surviving = [max(1 - each / total, 1e-6) for each in ended]
        roots = [math.sqrt(f * s) for f, s in zip(density, self._surviving, strict=True)]
        effort = sum(_areas(self._ages, roots))
        factor = effort / (2 * _MEAN_DELAY * forecast.median_seconds)

        def per_second(age: float, f: float, surviving: float) -> float:
            interval = 1 / max(factor * math.sqrt(f / surviving), 1e-9)
            if surviving <= 1 - _DUE:
                interval = min(interval, fraction * age)
            return 1 / max(min(interval, max_interval_seconds), min_interval_seconds)

        rates = [per_second(*each) for each in zip(self._ages, density, self._surviving, strict=True)]
        self._looks = list(accumulate(_areas(self._ages, rates), initial=0.0))

    def next_age(self, age: float, looks: float = 1.0) -> float:
        """Return the age at which the next look is due, after one at `age`.

        Args:
            age: Now.
            looks: 2 leaves out every other look, and so on.
        """
        due = _interpolated(age, self._ages, self._looks) + looks
        if due > self._looks[-1]:
            return max(age, self._ages[-1]) * (1 + self._fraction * looks)
        return _interpolated(due, self._looks, self._ages)

    def seconds_left(self, age: float) -> float:
        """Return the time within which half of those end that have not ended at `age`."""
        surviving = _interpolated(age, self._ages, self._surviving)
        rising = [-each for each in self._surviving]
        return max(_interpolated(-surviving / 2, rising, self._ages) - age, 0.0)


@functools.lru_cache(maxsize=512)
def inspection_of(
    forecast: Forecast, fraction: float, min_interval_seconds: float, max_interval_seconds: float
) -> Inspection:
    """Return the plan for a forecast; thousands of requests share a few."""
    return Inspection(
        forecast,
        fraction=fraction,
        min_interval_seconds=min_interval_seconds,
        max_interval_seconds=max_interval_seconds,
    )


def _grid(forecast: Forecast) -> list[float]:
    """Return ages that are dense where the forecast is."""
    coarse = [step * _COARSE for step in range(round(-_REACH / _COARSE), round(_REACH / _COARSE) + 1)]
    fine = [forecast.scale * step * _FINE for step in range(-_SPREADS, _SPREADS + 1)]
    return [math.exp(forecast.location + each) for each in sorted({*coarse, *fine}) if abs(each) <= _REACH]


def _areas(ages: list[float], heights: list[float]) -> list[float]:
    """Return the area between each age and the next."""
    return [(b - a) * (f + g) / 2 for (a, b), (f, g) in zip(pairwise(ages), pairwise(heights), strict=True)]


def _interpolated(value: float, rising: list[float], others: list[float]) -> float:
    at = bisect_left(rising, value)
    if at == 0:
        return others[0]
    if at == len(rising):
        return others[-1]
    share = (value - rising[at - 1]) / (rising[at] - rising[at - 1])
    return others[at - 1] + share * (others[at] - others[at - 1])
