"""A shard of a batch, which another worker runs, and what that worker is given."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.batch.plan import PlannedRow
from runcomfy.batch.shared_budget import shared_budget_name

__all__ = ["Allowance", "Shard", "divide"]


class Allowance(BaseModel):
    """What the rows of a manifest may cost; its shards share it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit_usd: float | None = Field(
        default=None, title="Limit (USD)", description="All rows of the manifest together, whichever run pays."
    )
    usd_per_video: float | None = Field(
        default=None, title="USD per video", description="What one is taken to cost until it is known."
    )
    purse: str = Field(default="", title="Shared budget", description="The name of the budget that all shards share.")


class Shard(BaseModel):
    """A shard of a batch: where its rows are, where their outcomes go, and what the manifest may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(title="Number", description="Which part of the batch it is, from 1.")
    rows_key: str = Field(title="Rows", description="Key of the rows in the bucket.")
    outcomes_key: str = Field(title="Outcomes", description="Key of their outcomes in the bucket.")
    allowance: Allowance = Allowance()

    @property
    def halt_key(self) -> str:
        """Key of the object that says why a shard of its folder was stopped."""
        return f"{self.rows_key.rpartition('/')[0]}/halt.json"

    def shared_budget_of(self, rows: Sequence[PlannedRow]) -> str:
        """Return the name of its budget; a shard made by an earlier version, which names none, has one of its own.

        Args:
            rows: Its rows.
        """
        return self.allowance.purse or shared_budget_name(row.generation_key for row in rows)


def divide(rows: Sequence[PlannedRow], size: int) -> list[list[PlannedRow]]:
    """Return the rows in shards of at most `size`, in their order."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]
