"""The progress of a batch: what it says is true, and its estimate is a range that narrows to nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.batch.estimate import Tally
from runcomfy.values import Outcome, OutcomeStatus


def ended(count: int, seconds: float = 60.0, status: OutcomeStatus = OutcomeStatus.ARCHIVED) -> dict[int, Outcome]:
    return {number: Outcome(label=str(number), status=status, seconds=seconds) for number in range(count)}


def test_nothing_is_estimated_from_nothing() -> None:
    """Before a few have ended, and for those that were there before, there is no time to learn from."""
    assert Tally(100, 10, ended(2)).left_seconds(130) is None
    assert Tally(100, 10, ended(50, status=OutcomeStatus.EXISTING)).left_seconds(1) is None


@pytest.mark.parametrize(("done", "elapsed"), [(100, 600.0), (500, 3000.0), (900, 5400.0)])
def test_a_steady_batch_is_estimated_about_right(done: int, elapsed: float) -> None:
    """A thousand of a minute each, ten at once: six seconds for each that is left."""
    left = Tally(1000, 10, ended(done)).left_seconds(elapsed)

    assert left is not None
    assert left[0] <= (1000 - done) * 6.0 <= left[1] <= (1000 - done) * 6.0 * 1.3


@given(
    total=st.integers(1, 5000),
    share=st.floats(0, 1),
    at_once=st.integers(1, 1000),
    seconds=st.floats(0.1, 3600),
    elapsed=st.floats(0.1, 10**6),
)
def test_the_range_is_a_range(total: int, share: float, at_once: int, seconds: float, elapsed: float) -> None:
    """Whatever has ended, the shortest is no longer than the longest, and at the end there is nothing left."""
    left = Tally(total, at_once, ended(int(total * share), seconds)).left_seconds(elapsed)
    over = Tally(total, at_once, ended(total, seconds)).left_seconds(elapsed)

    assert left is None or 0 <= left[0] <= left[1]
    assert over in (None, (0.0, 0.0))


def test_the_sentence_says_how_many_and_how_long() -> None:
    """Good ones, bad ones, and the time as a range."""
    outcomes = ended(500) | {1000: Outcome(label="x", status=OutcomeStatus.NOT_STARTED)}

    assert Tally(1001, 10, outcomes).sentence(3000) == (
        "501 of 1,001, 500 archived, 1 not started, 50 minutes to 1 hour and 2 minutes left"
    )
