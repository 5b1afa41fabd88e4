"""What a batch may cost, counted before each paid call.

What a generation costs is known when it is done, if at all, so each is counted at the price that was named for one,
or at the highest that was seen, until its own is known.
"""

from __future__ import annotations

from runcomfy.errors import BudgetReached, ConfigurationError
from runcomfy.journal.entry import Entry, EntryState

__all__ = ["Budget", "cost_so_far"]

_TOLERANCE_USD = 1e-9


class Budget:
    """Counts what is spent and what is under way.

    Args:
        limit_usd: What all may cost together; `None` for no limit.
        usd_per_video: What one is taken to cost until the service says.
        spent_usd: What was spent before.

    Raises:
        ConfigurationError: there is a limit and no price.
    """

    def __init__(
        self, limit_usd: float | None = None, usd_per_video: float | None = None, spent_usd: float = 0.0
    ) -> None:
        if limit_usd is not None and not usd_per_video:
            raise ConfigurationError(
                "A budget needs to know what one video costs, since RunComfy says so only afterwards: give "
                "usd_per_video, rather too high than too low."
            )
        self.limit_usd = limit_usd
        self.price_usd = usd_per_video or 0.0
        self.spent_usd = spent_usd
        self._under_way: set[str] = set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way whose end could leave more than it does now."""
        return not self._under_way

    @property
    def committed_usd(self) -> float:
        """What is spent, and what is under way at its price."""
        return self.spent_usd + len(self._under_way) * self.price_usd

    def reserve(self, label: str) -> None:
        """Count a generation that is about to be paid for; a second time changes nothing.

        Raises:
            BudgetReached: it would cost more than is left; it was not counted.
        """
        if label in self._under_way:
            return
        if self.limit_usd is not None and self.committed_usd + self.price_usd > self.limit_usd + _TOLERANCE_USD:
            raise BudgetReached(
                f"The budget of {self.limit_usd:.2f} USD is reached: {self.committed_usd:.2f} USD are spent or under "
                f"way, and one more may cost {self.price_usd:.2f} USD. Nothing was sent; raise budget_usd and run it "
                "again for the rest."
            )
        self._under_way.add(label)

    def settle(self, label: str, *, paid: bool, cost_usd: float | None) -> None:
        """Count what a generation did cost: what the service says, or its price; nothing if it was not paid for."""
        if label not in self._under_way:
            return
        self._under_way.remove(label)
        if paid:
            self.spent_usd += self.price_usd if cost_usd is None else cost_usd
            self.price_usd = max(self.price_usd, cost_usd or 0.0)


def cost_so_far(entry: Entry | None, price_usd: float) -> float:
    """Return what a generation has cost until now, US dollars: each request at its cost, or at this price.

    A submission that nobody knows the answer of counts too, and so does one that is being made.
    """
    if entry is None:
        return 0.0
    requests = len(entry.request_ids)
    if entry.state in (EntryState.INTENT, EntryState.UNCERTAIN) and entry.request_id is None:
        requests += 1
    if entry.cost_usd is not None and requests:
        return entry.cost_usd + (requests - 1) * price_usd
    return requests * price_usd
