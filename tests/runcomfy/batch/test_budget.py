"""A budget holds whatever is under way, whatever things cost, and however many runs spend it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.batch.account import Account, account_of, cost_so_far
from runcomfy.batch.budget import Budget
from runcomfy.errors import BudgetReached, ConfigurationError, RateLimited
from runcomfy.journal import Entry, EntryState, GenerationSpec
from runcomfy.models import TextToVideo

_PRICES = st.floats(0.01, 5)
_S = EntryState


def entry_after(*steps: tuple[EntryState, dict[str, Any]]) -> Entry:
    spec = GenerationSpec(TextToVideo(prompt="rain"), "https://model-api.runcomfy.net", (), "", run="a")
    entry = spec.intent("w")
    for state, changes in steps:
        entry = entry.moved(state, worker="w", **changes)
    return entry


def test_a_limit_without_a_price_is_refused() -> None:
    """What one costs is known only afterwards, so the caller has to name a price."""
    with pytest.raises(ConfigurationError, match="usd_per_video"):
        Budget(10.0)


def test_without_a_limit_everything_is_affordable() -> None:
    """Spending is still counted."""
    budget = Budget()
    for number in range(1000):
        budget.begin(str(number))
        budget.reserve(str(number), Account(attempt=1, unpriced=1))
        budget.record(str(number), Account(attempt=1, known_usd=0.5, dearest_usd=0.5))
        budget.end(str(number))

    assert budget.spent_usd == 500
    assert budget.is_idle


@given(
    limit=st.floats(0, 50),
    price=_PRICES,
    spent=st.floats(0, 20),
    steps=st.lists(st.tuples(st.sampled_from(["send", "cost", "refused", "429"]), st.integers(0, 9), st.floats(0, 1))),
)
def test_the_limit_holds_if_nothing_costs_more_than_its_price(
    limit: float, price: float, spent: float, steps: list[tuple[str, int, float]]
) -> None:
    """In any order of sends and their ends, whatever each cost; a generation may be paid for more than once."""
    budget = Budget(limit, price)
    budget.record("before", Account(1, known_usd=spent))
    paid, sends, before = spent, dict[str, Account](), budget.committed_usd
    for step, number, share in steps:
        name = str(number)
        known = sends.get(name, Account())
        if step == "send" and not known.unpriced:
            account = known._replace(attempt=known.attempt + 1, unpriced=1)
            try:
                budget.reserve(name, account)
            except BudgetReached:
                assert budget.committed_usd + price > limit
                continue
            sends[name] = account
        elif step != "send" and known.unpriced:
            cost = share * price if step != "refused" else 0.0  # an answer of 429 may be billed
            paid += cost
            reported = cost if step == "cost" else 0.0
            account = known._replace(
                unpriced=0, known_usd=known.known_usd + reported, rate_limited=known.rate_limited + (step == "429")
            )
            sends[name] = account
            budget.record(name, account)

        assert paid <= budget.committed_usd + 1e-6
        assert budget.committed_usd <= max(limit, before) + 1e-6


def test_a_higher_cost_raises_the_price_of_the_rest() -> None:
    """After one that cost more than the given price, the rest counts at that cost."""
    budget = Budget(10.0, 1.0)
    for name in "ab":
        budget.reserve(name, Account(1, unpriced=1))
    budget.record("a", Account(1, known_usd=4.0, dearest_usd=4.0))

    assert budget.committed_usd == 8.0
    with pytest.raises(BudgetReached, match="may cost 4"):
        budget.reserve("c", Account(1, unpriced=1))


def test_nothing_is_counted_twice() -> None:
    """What was begun and is reserved counts once, and so does what is reserved again."""
    budget = Budget(1.0, 0.5)
    budget.begin("a")
    budget.reserve("a", Account(1, unpriced=1))
    budget.reserve("a", Account(1, unpriced=1))

    assert budget.committed_usd == 0.5
    budget.begin("b")
    with pytest.raises(BudgetReached):
        budget.begin("c")
    budget.end("b")
    budget.begin("c")


def test_an_older_account_does_not_replace_a_later_one() -> None:
    """A run that records its failed attempt late does not free what another run has reserved for the next one."""
    budget = Budget(1.0, 0.5)
    budget.reserve("a", Account(2, known_usd=0.5, unpriced=1))
    budget.record("a", Account(1, known_usd=0.5))

    assert budget.committed_usd == 1.0


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (None, 0.0),
        (entry_after(), 2.0),
        (entry_after((EntryState.REFUSED, {})), 0.0),
        (entry_after((EntryState.UNCERTAIN, {})), 2.0),
        (entry_after((EntryState.SUBMITTED, {"request_id": "r"})), 2.0),
        (entry_after((EntryState.SUBMITTED, {"request_id": "r"}), (EntryState.FAILED, {"cost_usd": 0.5})), 0.5),
        (entry_after((_S.UNCERTAIN, {}), (_S.RELEASED, {})), 0.0),
        (entry_after((_S.UNCERTAIN, {"request_id": "r"}), (_S.SUBMITTED, {"request_id": "r"})), 2.0),
        (entry_after((_S.UNCERTAIN, {}), (_S.INTENT, {"attempt": 2}), (_S.ARCHIVED, {"request_id": "r"})), 4.0),
        (
            entry_after(
                (EntryState.SUBMITTED, {"request_id": "r"}),
                (EntryState.FAILED, {}),
                (EntryState.INTENT, {"request_id": None}),
                (EntryState.SUBMITTED, {"request_id": "s"}),
                (EntryState.ARCHIVED, {"cost_usd": 0.5}),
            ),
            2.5,
        ),
    ],
    ids=[
        "unknown",
        "intent",
        "refused",
        "uncertain",
        "submitted",
        "failed",
        "released",
        "adopted",
        "paid again while uncertain",
        "archived at the second attempt",
    ],
)
def test_the_journal_knows_what_was_spent(entry: Entry | None, expected: float) -> None:
    """Every request counts, at its cost or at the price; and so does a submission that may have been one."""
    assert cost_so_far(entry, 2.0) == expected


def test_each_answer_of_429_stays_reserved() -> None:
    """It is a refusal, and should cost nothing; but it may be billed, so the money for it stays reserved."""
    limited = RateLimited("Too many.")
    entry = entry_after((_S.INTENT, {"error": limited}), (_S.REFUSED, {"error": limited}))

    assert account_of(entry).cost_usd(2.0) == 0.0
    assert account_of(entry).committed_usd(2.0) == 4.0
