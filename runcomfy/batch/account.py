"""What a generation has cost, and may have cost, by its entry in the journal: each call that may be billed counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runcomfy.journal.entry import Entry, EntryState, Event

__all__ = ["Account", "account_of", "cost_so_far"]

_UNANSWERED = (EntryState.INTENT, EntryState.UNCERTAIN)
_RATE_LIMITED = "RateLimited"


class Account(NamedTuple):
    """The sends of one generation that may be billed. Three short numbers and a sum: it is kept by the thousand."""

    attempt: int = 0
    """The latest attempt that is counted; an account of a later one is newer."""
    known_usd: float = 0.0
    """What the service reported, US dollars, for all requests whose cost it reported."""
    unpriced: int = 0
    """Requests of unknown cost, and submissions that are in progress or uncertain."""
    rate_limited: int = 0
    """Sends that were answered with 429. That is a refusal, but it may be false: the money for them stays reserved."""
    dearest_usd: float = 0.0
    """The most that one request has cost, US dollars."""

    def cost_usd(self, price_usd: float) -> float:
        """Return what it has cost, at this price for what is unknown; an answer of 429 counts as a refusal."""
        return self.known_usd + self.unpriced * price_usd

    def committed_usd(self, price_usd: float) -> float:
        """Return what it may have cost at most, if no request costs more than this price."""
        return self.cost_usd(price_usd) + self.rate_limited * price_usd


def account_of(entry: Entry | None) -> Account:
    """Return what is known of a generation's cost.

    An attempt costs less than the price only after a definite refusal, a cost that the service reported, or a release
    by a person. One that is uncertain counts, also after another run chose to pay again.
    """
    if entry is None:
        return Account()
    costs = dict(entry.earlier_costs_usd)
    if entry.request_id is not None and entry.cost_usd is not None:
        costs[entry.request_id] = entry.cost_usd
    requests = entry.request_ids
    known = [costs[name] for name in requests if name in costs]
    attempts: dict[int, list[Event]] = {}
    for event in entry.history:
        attempts.setdefault(event.attempt, []).append(event)
    unanswered = sum(_is_unanswered(events) for number, events in attempts.items() if number not in (0, entry.attempt))
    # The present attempt may have been begun by a version whose events named no attempt.
    unanswered += entry.state in _UNANSWERED and entry.request_id is None
    return Account(
        attempt=entry.attempt,
        known_usd=sum(known),
        unpriced=len(requests) - len(known) + unanswered,
        rate_limited=sum(
            event.attempt > 0 and event.error_type == _RATE_LIMITED and event.request_id is None
            for event in entry.history
        ),
        dearest_usd=max(known, default=0.0),
    )


def _is_unanswered(events: Iterable[Event]) -> bool:
    """Whether an attempt that another one followed may have been accepted as a request that is unknown."""
    last = None
    for event in events:
        if event.request_id:
            return False
        last = event.state
    return last in _UNANSWERED


def cost_so_far(entry: Entry | None, price_usd: float) -> float:
    """Return what a generation has cost until now, US dollars: each request at its cost, or at this price.

    A submission whose answer is unknown counts too, and so does one in progress.
    """
    return account_of(entry).cost_usd(price_usd)
