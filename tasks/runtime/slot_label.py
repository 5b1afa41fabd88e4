"""The label in which a flow run records the slots that it holds: Prefect does not say who holds them.

Prefect 3.9 keep leases of slots, but no endpoint of the server says whose they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["LEASE_PASSED", "LEASE_SECONDS", "SLOTS_LABEL", "EarlierSlots", "SlotsLabel"]

SLOTS_LABEL = "runcomfy.slots"
LEASE_SECONDS = 300.0
"""For how long the server keeps the slots of a process that died, from its last renewal."""
LEASE_PASSED = timedelta(seconds=LEASE_SECONDS + 60)
"""After this, Prefect has freed what an ended process held: the server looks for leases that have ended every 15 s
(`RepossessorService`, Prefect 3.9)."""


class EarlierSlots(BaseModel):
    """The slots that an earlier attempt of the same flow run held."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    slots: int = Field(ge=0)
    ended_before: datetime


class SlotsLabel(BaseModel):
    """The label's value, as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_count: int
    """The attempt of the flow run that took them: what an earlier one recorded no longer holds."""
    slots: int = Field(ge=0)
    limit: str
    waiting: bool = False
    """Whether it waits for them; if its process dies, it is unknown whether it just got them."""
    process: str | None = None
    """The flow run in whose process this one runs, if it is another one: this one ends with it."""
    earlier: tuple[EarlierSlots, ...] = ()
    """Of attempts that ended so recently that Prefect may not have freed what they held."""

    @classmethod
    def of(cls, labels: Mapping[str, Any]) -> Self | None:
        """Return what a flow run's labels record; `None` if there is nothing that can be read."""
        try:
            return cls.model_validate_json(str(labels.get(SLOTS_LABEL, "")))
        except ValidationError:
            return None

    def followed_by(
        self, run_count: int, slots: int, limit: str, began: datetime, *, process: str | None = None
    ) -> SlotsLabel:
        """Return the label of the next attempt, which began then and waits; what this one held is kept for a while.

        Times are the server's, so that no clock of a worker matters.
        """
        earlier = [each for each in self.earlier if began - each.ended_before < LEASE_PASSED]
        if self.run_count != run_count and self.limit == limit and self.slots:
            earlier.append(EarlierSlots(slots=self.slots, ended_before=began))
        return SlotsLabel(
            run_count=run_count, slots=slots, limit=limit, waiting=True, process=process, earlier=tuple(earlier)
        )

    def to_labels(self) -> dict[str, str | int | float | bool]:
        """Return it as a label to be written."""
        return {SLOTS_LABEL: self.model_dump_json(exclude_defaults=True)}
