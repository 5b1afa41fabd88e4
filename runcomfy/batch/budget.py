"""What a batch may cost, counted before each paid call.

What a generation costs is known when it is done, if at all, so each is counted at the price that was named for one,
or at the highest that was seen, until its own is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from runcomfy.errors import BudgetReached, ConfigurationError
from runcomfy.journal.entry import Entry, EntryState

__all__ = ["Budget", "cost_so_far"]

_TOLERANCE_USD = 1e-9


class Budget:
    """Counts what each generation has cost, and those that are under way at the price of one.

    Args:
        limit_usd: What all may cost together; `None` for no limit.
        usd_per_video: What one is taken to cost until the service says.
        spent_usd: What each has cost before, by its name.

    Raises:
        ConfigurationError: there is a limit and no price.
    """

    def __init__(
        self,
        limit_usd: float | None = None,
        usd_per_video: float | None = None,
        spent_usd: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        if limit_usd is not None and not usd_per_video:
            raise ConfigurationError(
                "A budget needs to know what one video costs, since RunComfy says so only afterwards: give "
                "usd_per_video, rather too high than too low."
            )
        self.limit_usd = limit_usd
        self.price_usd = usd_per_video or 0.0
        self._each = dict(spent_usd)
        self._spent_usd = sum(self._each.values())
        self._under_way: set[str] = set()

    @property
    def spent_usd(self) -> float:
        """What all have cost, as far as is known."""
        return self._spent_usd

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way whose end could leave more than there is now."""
        return not self._under_way

    @property
    def committed_usd(self) -> float:
        """What is spent, and what is under way at its price."""
        return self._spent_usd + len(self._under_way) * self.price_usd

    def reserve(self, name: str) -> None:
        """Count a generation that is about to be paid for; a second time changes nothing.

        Raises:
            BudgetReached: it would cost more than is left; it was not counted.
        """
        if name in self._under_way:
            return
        if self.limit_usd is not None and self.committed_usd + self.price_usd > self.limit_usd + _TOLERANCE_USD:
            raise BudgetReached(
                f"The budget of {self.limit_usd:.2f} USD is reached: {self.committed_usd:.2f} USD are spent or under "
                f"way, and one more may cost {self.price_usd:.2f} USD. Nothing was sent; raise budget_usd and run it "
                "again for the rest."
            )
        self._under_way.add(name)

    def has_cost(self, name: str, usd: float) -> None:
        """Take note of what all requests of a generation have cost until now, whoever made them."""
        self._spent_usd += usd - self._each.get(name, 0.0)
        self._each[name] = usd

    def settle(self, name: str, usd: float, *, its_own_usd: float | None = None) -> None:
        """End what was reserved for a generation, with what all of its requests have cost until now.

        Args:
            name: The generation.
            usd: All of its requests.
            its_own_usd: What the last one cost, where the service told: if that is more than was thought, so will the
                others be.
        """
        self._under_way.discard(name)
        self.has_cost(name, usd)
        self.price_usd = max(self.price_usd, its_own_usd or 0.0)


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
