"""What a batch may cost: what its generations have cost, what is in progress, and whether one more can be afforded.

What a generation costs is known when it is done, if at all, so each send is counted at the price that was named for
one, or at the highest cost that was seen, until its own is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from runcomfy.batch.account import Account
from runcomfy.errors import BudgetReached, ConfigurationError

__all__ = ["Budget"]

_TOLERANCE_USD = 1e-6  # the rounding error of adding up 100,000 costs, one by one


class Budget:
    """Counts what each generation of a manifest has cost or may have cost, in one process; see `SharedBudget`.

    Args:
        limit_usd: What all may cost together; `None` for no limit.
        usd_per_video: What one is taken to cost until the service says.

    Raises:
        ConfigurationError: there is a limit and no price.
    """

    def __init__(self, limit_usd: float | None = None, usd_per_video: float | None = None) -> None:
        if limit_usd is not None and usd_per_video is None:
            raise ConfigurationError(
                "A budget needs to know what one video costs, since RunComfy says so only afterwards: give "
                "usd_per_video, rather too high than too low."
            )
        self.limit_usd = limit_usd
        self.accounts: dict[str, Account] = {}
        """By generation key; changed by `record` and `replace` only."""
        self._known_usd, self._unpriced, self._rate_limited = 0.0, 0, 0  # sums over all accounts, up to 100,000
        self.dearest_usd = 0.0
        """The most that one request has cost."""
        self._named_usd = usd_per_video or 0.0
        self._begun: set[str] = set()
        self._unreserved: set[str] = set()

    @property
    def price_usd(self) -> float:
        """What one is taken to cost until its own cost is known: the named price, or the dearest one seen."""
        return max(self._named_usd, self.dearest_usd)

    @property
    def spent_usd(self) -> float:
        """What all have cost, as far as is known; each of unknown cost at the price of one."""
        return self._known_usd + self._unpriced * self.price_usd

    @property
    def committed_usd(self) -> float:
        """What all may have cost at most, if none costs more than the price of one."""
        return self.spent_usd + self._rate_limited * self.price_usd

    @property
    def is_idle(self) -> bool:
        """Whether this process has no generation in progress whose end could leave more budget than there is now."""
        return not self._begun

    def begin(self, key: str) -> None:
        """Count a generation that this process is about to begin, and that may then be paid for.

        Raises:
            BudgetReached: it would cost more than is left; it was not counted.
        """
        self._check(self.committed_usd + len(self._unreserved) * self.price_usd)
        self._begun.add(key)
        self._unreserved.add(key)

    def end(self, key: str) -> None:
        """Record that a generation which was begun has ended, well or not."""
        self._begun.discard(key)
        self._unreserved.discard(key)

    def reserve(self, key: str, account: Account) -> None:
        """Count a send that is about to be made.

        Args:
            key: The generation.
            account: What it may cost with that send.

        Raises:
            BudgetReached: it would cost more than is left; it was not counted.
        """
        others = self.committed_usd - self.accounts.get(key, Account()).committed_usd(self.price_usd)
        self._check(others + account.committed_usd(self.price_usd) - self.price_usd)
        self._unreserved.discard(key)
        self.record(key, account)

    def record(self, key: str, account: Account) -> None:
        """Record what a generation has cost or may have cost, unless a later attempt is known already."""
        self.dearest_usd = max(self.dearest_usd, account.dearest_usd)
        before = self.accounts.get(key, Account())
        if account.attempt >= before.attempt:
            self.accounts[key] = account
            self._known_usd += account.known_usd - before.known_usd
            self._unpriced += account.unpriced - before.unpriced
            self._rate_limited += account.rate_limited - before.rate_limited

    def replace(self, accounts: Mapping[str, Account], dearest_usd: float) -> None:
        """Replace what is counted by what all processes together have counted."""
        self.accounts = dict(accounts)
        self.dearest_usd = max(self.dearest_usd, dearest_usd)
        self._known_usd = math.fsum(account.known_usd for account in accounts.values())
        self._unpriced = sum(account.unpriced for account in accounts.values())
        self._rate_limited = sum(account.rate_limited for account in accounts.values())

    def _check(self, committed_usd: float) -> None:
        if self.limit_usd is None or committed_usd + self.price_usd <= self.limit_usd + _TOLERANCE_USD:
            return
        doubtful = self._rate_limited * self.price_usd
        among = f", {doubtful:.2f} of them for sends answered with 429, which may be billed" if doubtful else ""
        raise BudgetReached(
            f"The budget of {self.limit_usd:.2f} USD is reached: {committed_usd:.2f} USD are spent or under way"
            f"{among}, and one more may cost {self.price_usd:.2f} USD, so no more is sent. The rest needs a larger "
            "budget_usd."
        )
