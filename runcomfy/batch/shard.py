"""A part of a batch that another worker does: what it is told, and how a budget is divided."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.batch.plan import PlannedRow
from runcomfy.batch.standing import Standing

__all__ = ["Allowance", "Shard", "divide"]


class Allowance(BaseModel):
    """What the rows of a part may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit_usd: float | None = Field(
        default=None, title="Limit (USD)", description="All rows together, with what was spent before."
    )
    usd_per_video: float | None = Field(
        default=None, title="USD per video", description="What one is taken to cost until it is known."
    )


class Shard(BaseModel):
    """A part: where its rows are, where what became of them is to be written, and what they may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(title="Number", description="Which part of the batch it is, from 1.")
    rows_key: str = Field(title="Rows", description="Key of the rows in the bucket.")
    outcomes_key: str = Field(title="Outcomes", description="Key of what became of them.")
    allowance: Allowance = Allowance()


def divide(
    rows: Sequence[PlannedRow],
    size: int,
    standing: Standing,
    *,
    left_usd: float | None,
    usd_per_video: float | None,
) -> list[tuple[list[PlannedRow], Allowance]]:
    """Return the parts of a batch in the order of their rows, each with its share of what is left to spend.

    The shares add up to no more than what is left, and the first rows come first, so that no two parts ever spend the
    same money, however many workers there are.

    Args:
        rows: Those that are to be done.
        size: How many rows a part has, at most.
        standing: What is known of them.
        left_usd: What may still be spent; `None` for no limit.
        usd_per_video: What one is taken to cost.
    """
    parts, price = [], usd_per_video or 0.0
    for start in range(0, len(rows), size):
        part = list(rows[start : start + size])
        limit = None
        if left_usd is not None:
            wanted = sum(not standing.paid_before(row) for row in part) * price
            share = min(wanted, max(left_usd, 0.0))
            left_usd -= share
            limit = standing.spent_usd(part, price) + share
        parts.append((part, Allowance(limit_usd=limit, usd_per_video=usd_per_video)))
    return parts
