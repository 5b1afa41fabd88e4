"""Which plots a report has, each with what it shows in a sentence and the same as a table. Needs the extra `report`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from runcomfy.catalogue.values import Row
from runcomfy.report import drawing
from runcomfy.report.figures import OUTCOMES, Cause, Figures, Period, Quantiles, over_time
from runcomfy.report.page import BudgetFigures, Plot

__all__ = ["failures", "plots_of"]


def plots_of(rows: Sequence[Row], found: Figures, budget: BudgetFigures | None) -> list[Plot]:
    """Return the plots of time, cost and duration, as far as there is something to draw."""
    periods = over_time(rows)
    drawn = [_outcomes(periods, found), _cost(periods, found, budget)] if periods else []
    for title, taken in (("Time in the queue", found.queued), ("Time of running", found.running)):
        if taken is not None:
            drawn.append(_duration(title, taken))
    return drawn


def failures(causes: Sequence[Cause]) -> Plot | None:
    """Return the plot of why generations have no video; `None` if all have. The page has its table already."""
    if not causes:
        return None
    count = sum(len(cause.rows) for cause in causes)
    first = causes[0]
    about = f"{count:,} generations have no video. The most frequent cause: {first.name}, {len(first.rows):,} times."
    return Plot("Failures by cause", about, drawing.failures_by_cause(causes, about), (), ())


def _outcomes(periods: Sequence[Period], found: Figures) -> Plot:
    counted = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in found.outcomes.items())
    about = f"What became of the generations that were begun from {_interval(periods)}: {counted}."
    named = [outcome for outcome in OUTCOMES if outcome in found.outcomes]
    rows = [(_from(period), *(period.outcomes.get(name, 0) for name in named)) for period in periods if period.outcomes]
    head = ("from, UTC", *(name.replace("_", " ") for name in named))
    return Plot("Outcome over time", about, drawing.outcomes_over_time(periods, about), head, tuple(rows))


def _cost(periods: Sequence[Period], found: Figures, budget: BudgetFigures | None) -> Plot:
    limit = budget.limit_usd if budget else None
    against = f", of a budget of {limit:,.2f}" if limit is not None else ""
    about = f"What they cost together from {_interval(periods)}: {found.cost_usd:,.2f} US dollars{against}."
    paid, rows = Decimal(0), []
    for period in periods:
        paid += period.cost_usd
        if period.outcomes:
            rows.append((_from(period), f"{period.cost_usd:,.2f}", f"{paid:,.2f}"))
    head = ("from, UTC", "USD", "USD until then")
    return Plot("Cost over time", about, drawing.cost_over_time(periods, limit, about), head, tuple(rows))


def _duration(title: str, taken: Quantiles) -> Plot:
    about = (
        f"{title} of {len(taken.values):,} generations: half of them within {taken.p50:,.1f} seconds, 95 % within "
        f"{taken.p95:,.1f}, all within {taken.values[-1]:,.1f}."
    )
    rows = [(f"{start:,g}", f"{end:,g}", count) for start, end, count in drawing.steps_of(taken) if count]
    return Plot(title, about, drawing.how_long(taken, about), ("from, s", "to, s", "generations"), tuple(rows))


def _interval(periods: Sequence[Period]) -> str:
    return f"{_from(periods[0])} to {periods[-1].end:%Y-%m-%d %H:%M} UTC"


def _from(period: Period) -> str:
    return f"{period.start:%Y-%m-%d %H:%M}"
