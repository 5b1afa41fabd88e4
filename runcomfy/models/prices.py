"""What a generation costs at least, by the catalogue: the base price for each unit, times the units that are asked for.

It is a "from" price: resolution, sound and the like may make it dearer, and the service says the cost only afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runcomfy.models.inputs import ModelInputs

__all__ = ["BasePrice", "base_price_of"]

_SECONDS: Final = frozenset({"second", "seconds", "sec", "s"})
_OUTPUTS: Final = frozenset({
    "output", "image", "video", "audio", "song", "track", "generation", "request", "run", "call", "file", "clip",
})  # fmt: skip
_COUNTS: Final = ("num_images", "num_outputs", "num_videos", "number_of_images", "n", "batch_size")
_DURATIONS: Final = (
    "duration", "duration_seconds", "seconds", "video_duration", "audio_duration", "length_seconds", "duration_s",
)  # fmt: skip
_MILLISECONDS: Final = ("music_length_ms", "duration_ms", "length_ms", "audio_length_ms")


@dataclass(frozen=True)
class BasePrice:
    """A model's base price, and how many units of it are asked for."""

    usd: float
    """US dollars for each unit."""
    unit: str
    """As the catalogue says it, such as `second` or `output`; empty if it does not."""
    units: float | None
    """How many are asked for; `None` if the inputs do not say it."""

    @property
    def from_usd(self) -> float | None:
        """What it costs at least, US dollars; `None` if that is not known."""
        return None if self.units is None else self.usd * self.units

    @property
    def sentence(self) -> str:
        """Return it as words."""
        if (least := self.from_usd) is None:
            unit = f" a {self.unit}" if self.unit else ""
            return f"from {self.usd:g} USD{unit}; how many units it is, the inputs do not say"
        counted = f" ({self.units:g} x {self.usd:g} USD a {self.unit})" if self.units != 1 else ""
        return f"from {least:g} USD{counted}"


def base_price_of(inputs: ModelInputs) -> BasePrice | None:
    """Return what a generation costs at least; `None` where no base price is known, as of a typed model.

    Args:
        inputs: The checked inputs; what was left out has its default.
    """
    usd = inputs.base_price_usd
    if usd is None or not math.isfinite(usd) or usd < 0:
        return None
    body, unit = inputs.body(), (inputs.price_unit or "").strip().lower()
    count = _number(body, _COUNTS)
    count = 1.0 if count is None else count
    if unit in _SECONDS:
        seconds = _number(body, _DURATIONS)
        if seconds is None and (milliseconds := _number(body, _MILLISECONDS)) is not None:
            seconds = milliseconds / 1000
        return BasePrice(usd, unit, None if seconds is None else seconds * count)
    return BasePrice(usd, unit, count if unit.removesuffix("s") in _OUTPUTS else None)


def _number(body: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """Return the first of these inputs that is a number above zero, as such or as a choice of texts: `5`, `5s`."""
    for name in names:
        value = body.get(name)
        text = value.strip().lower().removesuffix("s") if isinstance(value, str) else str(value)
        try:
            number = float(text)
        except ValueError:
            continue
        if math.isfinite(number) and number > 0 and not isinstance(value, bool):
            return number
    return None
