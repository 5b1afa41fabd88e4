"""What waits for a person: which generations go no further by themselves, and the commands that decide each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runcomfy.catalogue.values import Row
from runcomfy.journal import EntryState
from runcomfy.journal.advice import Advice, advise
from runcomfy.journal.situation import Situation
from runcomfy.storage.commands import StoreOptions

__all__ = ["Waiting", "waiting"]

_URGENT = (EntryState.UNCERTAIN, EntryState.EXPIRED, EntryState.DETACHED)


@dataclass(frozen=True)
class Waiting:
    """A generation, and what to do about it."""

    row: Row
    advice: Advice


def waiting(rows: Iterable[Row], options: StoreOptions) -> list[Waiting]:
    """Return what waits for a person: the most urgent first, which is what nothing collects by itself.

    Args:
        rows: Generations of the catalogue.
        options: The store and its journal, as commands name them.
    """
    found = [row for row in rows if row["generation_key"] and row["outcome"] in _URGENT]
    found.sort(key=lambda row: _URGENT.index(row["outcome"]))
    return [Waiting(row, advise(_situation(row), options)) for row in found]


def _situation(row: Row) -> Situation:
    cost, earlier = row["cost_usd"], row["earlier_cost_usd"]
    return Situation(
        state=EntryState(row["outcome"]),
        generation_key=row["generation_key"],
        model_id=row["model_id"],
        request_id=row["request_id"],
        sent_at=row["updated_at"],
        sent_at_approximate=True,
        reason=row["reason"] or "",
        error_type=row["error_type"],
        error_code=row["error_code"],
        cost_usd=None if cost is None else float(cost),
        earlier_cost_usd=None if earlier is None else float(earlier),
    )
