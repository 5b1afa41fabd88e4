"""What the catalogue is called and what an update of it returns; this needs no pyarrow."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FOLDER", "TABLE", "Day", "Row", "Update"]

FOLDER = "catalogue/"
"""Everything of the catalogue, below the store's prefix."""
TABLE = f"{FOLDER}generations/"
"""The table: the folder that readers are given."""
Row = dict[str, Any]
"""A row: each column's name, with its value."""


class Day(BaseModel):
    """A day of the catalogue, as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: date
    rows: int
    outcomes: dict[str, int] = Field(description="How many rows have each outcome.")
    cost_usd: Decimal = Field(description="US dollars, as far as the service has said.")
    requests_without_cost: int
    written: bool = Field(description="Whether it is other than before.")

    @property
    def counted(self) -> str:
        """Return how many have which outcome, such as `3 archived, 1 under way`."""
        return ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in self.outcomes.items())


class Update(BaseModel):
    """What an update did. Rows are generations, and requests that the journal does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str = Field(description="The folder that readers are given, `s3://bucket/prefix/catalogue/generations/`.")
    entries: int = Field(description="How many entries the journal has.")
    files: int = Field(description="How many provenance files there are.")
    entries_read: int
    files_read: int
    days: tuple[Day, ...] = Field(description="The days that what was read belongs to.")
    unreadable: tuple[str, ...] = Field(description="What this version cannot read; it is tried again each time.")

    @property
    def sentence(self) -> str:
        """Return it as one line."""
        written = sum(day.written for day in self.days)
        what = f"{written:,} {'day' if written == 1 else 'days'} written" if written else "Nothing new"
        entries, files = f"{self.entries_read:,} of {self.entries:,}", f"{self.files_read:,} of {self.files:,}"
        return f"{what}; {entries} journal entries and {files} provenance files read"
