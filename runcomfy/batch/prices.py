"""What the rows of a batch are taken to cost until it is known: by the catalogue, and by what others have cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from runcomfy.batch.plan import PlannedRow
from runcomfy.models import short_name, workload_of
from runcomfy.models.prices import base_price_of
from runcomfy.polling.forecast import RunTimes

__all__ = ["RowPrices"]


@dataclass(frozen=True)
class RowPrices:
    """The prices of the rows that are left to do."""

    guesses: tuple[float, ...]
    """Of each row whose price is known: the base price or, if that is more, the dearest of its kind that was seen."""
    least_usd: float
    """The base prices of these rows together, US dollars."""
    unknown: tuple[tuple[str, int], ...] = ()
    """The models of the other rows, and how many rows each has."""

    @classmethod
    def of(cls, rows: Sequence[PlannedRow], run_times: RunTimes) -> Self:
        """Return the prices of these rows; a base price of nothing is none, until something is seen to cost.

        Args:
            rows: Those that may be paid for.
            run_times: What others of their kind have cost; loaded.
        """
        guesses, least, unknown = list[float](), 0.0, Counter[str]()
        for row in rows:
            inputs = row.order.inputs(row.staged)
            price = base_price_of(inputs)
            base, seen = (
                price.from_usd if price else None,
                run_times.dearest(workload_of(inputs.model_id, inputs.body())),
            )
            if not base and not seen:  # for nothing, or not said: a budget cannot count with it
                unknown[row.order.model_id] += 1
            else:
                guesses.append(max(base or 0.0, seen or 0.0))
                least += base or 0.0
        return cls(tuple(guesses), least, tuple(sorted(unknown.items())))

    @property
    def dearest_usd(self) -> float | None:
        """What one row is taken to cost, whichever it is; `None` if that of some is not known."""
        return max(self.guesses, default=0.0) if not self.unknown else None

    @property
    def models(self) -> str:
        """The models whose prices are not known, as words."""
        return ", ".join(short_name(model_id) for model_id, _ in self.unknown)

    @property
    def sentence(self) -> str:
        """Return it as one line."""
        parts = []
        if self.guesses:
            parts.append(f"from {self.least_usd:,.2f} USD by the catalogue, and {sum(self.guesses):,.2f} USD if each")
            parts[-1] += " costs what the dearest of its kind did"
        parts += [f"the price of {count:,} rows of {short_name(model)} is not known" for model, count in self.unknown]
        return "; ".join(parts)
