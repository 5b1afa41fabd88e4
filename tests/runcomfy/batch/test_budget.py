"""A budget holds whatever is under way, whatever things cost, and however many workers divide it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.batch.budget import Budget, cost_so_far
from runcomfy.batch.plan import PlannedRow
from runcomfy.batch.shard import divide
from runcomfy.batch.standing import Standing
from runcomfy.errors import BudgetReached, ConfigurationError
from runcomfy.generation import generation_key
from runcomfy.journal import Entry, EntryState, GenerationSpec
from runcomfy.models import TextToVideo
from runcomfy.orders import read_order

_PRICES = st.floats(0.01, 5)


def entry_after(*steps: tuple[EntryState, dict[str, Any]]) -> Entry:
    spec = GenerationSpec(TextToVideo(prompt="rain"), "https://model-api.runcomfy.net", None, "", run="a")
    entry = spec.intent("w")
    for state, changes in steps:
        entry = entry.moved(state, worker="w", **changes)
    return entry


def test_a_limit_without_a_price_is_refused() -> None:
    """What one costs is known only afterwards, so that somebody has to say it."""
    with pytest.raises(ConfigurationError, match="usd_per_video"):
        Budget(10.0)


def test_without_a_limit_everything_goes() -> None:
    """Spending is counted all the same."""
    budget = Budget()
    for number in range(1000):
        budget.reserve(str(number))
        budget.settle(str(number), 0.5)

    assert budget.spent_usd == 500


@given(
    limit=st.floats(0, 50),
    price=_PRICES,
    spent=st.floats(0, 20),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.floats(0, 1))),
)
def test_what_costs_no_more_than_was_named_never_exceeds_the_limit(
    limit: float, price: float, spent: float, steps: list[tuple[bool, int, float]]
) -> None:
    """In any order of beginnings and endings, whatever each cost; a generation may be paid for more than once."""
    budget, each = Budget(limit, price, {"before": spent}), dict[str, float]()
    before, under_way = budget.committed_usd, set[str]()
    for begins, number, share in steps:
        name = str(number)
        if begins:
            try:
                budget.reserve(name)
                under_way.add(name)
            except BudgetReached:
                assert budget.committed_usd + price > limit
        elif name in under_way:
            under_way.remove(name)
            each[name] = each.get(name, 0.0) + share * price
            budget.settle(name, each[name], its_own_usd=share * price)

        assert budget.committed_usd <= max(limit, before) + 1e-6
        assert budget.spent_usd == pytest.approx(spent + sum(each.values()))


def test_a_dearer_one_makes_all_dearer() -> None:
    """After one that cost more than was named, the rest is counted at that."""
    budget = Budget(10.0, 1.0)
    budget.reserve("a")
    budget.reserve("b")
    budget.settle("a", 4.0, its_own_usd=4.0)

    assert budget.committed_usd == 8.0
    with pytest.raises(BudgetReached, match="may cost 4"):
        budget.reserve("c")


def test_nothing_is_counted_twice() -> None:
    """Reserving what is reserved, or settling what is settled, changes nothing."""
    budget = Budget(1.0, 0.5)
    budget.reserve("a")
    budget.reserve("a")
    budget.settle("a", 0.5)
    budget.settle("a", 0.5)

    assert budget.committed_usd == 0.5


def test_what_others_pay_meanwhile_counts() -> None:
    """Noted before the next is reserved."""
    budget = Budget(1.0, 0.5)
    budget.has_cost("a", 0.75)

    with pytest.raises(BudgetReached):
        budget.reserve("b")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (None, 0.0),
        (entry_after(), 2.0),
        (entry_after((EntryState.REFUSED, {})), 0.0),
        (entry_after((EntryState.UNCERTAIN, {})), 2.0),
        (entry_after((EntryState.SUBMITTED, {"request_id": "r"})), 2.0),
        (entry_after((EntryState.SUBMITTED, {"request_id": "r"}), (EntryState.FAILED, {"cost_usd": 0.5})), 0.5),
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
    ids=["unknown", "intent", "refused", "uncertain", "submitted", "failed", "archived at the second attempt"],
)
def test_the_journal_knows_what_was_spent(entry: Entry | None, expected: float) -> None:
    """Every request counts, at its cost or at the price; and so does a submission that may have been one."""
    assert cost_so_far(entry, 2.0) == expected


@given(count=st.integers(0, 40), size=st.integers(1, 12), cents=st.integers(0, 1500), paid=st.sets(st.integers(0, 39)))
def test_the_shares_of_all_parts_add_up_to_no_more_than_is_left(
    count: int, size: int, cents: int, paid: set[int]
) -> None:
    """Every row is in one part, in order; the first parts get what they need first."""
    rows = [_row(number) for number in range(count)]
    entries = {
        rows[number].generation_key: entry_after((EntryState.SUBMITTED, {"request_id": "r"}))
        for number in paid
        if number < count
    }
    standing, left, price = Standing(entries, {}), cents / 100, 0.25

    parts = divide(rows, size, standing, left_usd=left, usd_per_video=price)

    assert [row for part, _ in parts for row in part] == rows
    assert all(0 < len(part) <= size for part, _ in parts)
    shares = [(allowance.limit_usd or 0.0) - standing.spent_usd(part, price) for part, allowance in parts]
    wanted = [sum(not standing.paid_before(row) for row in part) * price for part, _ in parts]
    assert sum(shares) <= left + 1e-9
    assert all(share <= want + 1e-9 for share, want in zip(shares, wanted, strict=True))
    assert sum(shares) == pytest.approx(min(left, sum(wanted)))


def _row(number: int) -> PlannedRow:
    order = read_order({"prompt": f"scene {number}"})
    return PlannedRow(
        line=number + 2, order=order, staged=None, generation_key=generation_key(order.inputs(None)), source={}
    )
