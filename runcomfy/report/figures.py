"""The numbers of a report: how many, how often well, for how much, in what time, and why not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from runcomfy.catalogue.values import Row
from runcomfy.generation.verdicts import Judged, VerdictCounts, counted, counted_by_setting, final_verdict
from runcomfy.models.settings import settings_of

__all__ = ["OUTCOMES", "Cause", "Figures", "Period", "Quantiles", "causes", "cost_of", "figures", "over_time", "spread"]

OUTCOMES = (
    "archived", "under_way", "detached", "uncertain", "expired", "cancelled", "failed", "refused", "released", "erased",
)  # fmt: skip
"""Every outcome, the good one first, in the order in which they are shown."""

_NOT_AT_AN_END = ("under_way", "detached")
_WITHOUT_A_CAUSE = ("archived", "under_way", "erased")
_MOST_PERIODS = 36
_STEPS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720, 1440, 7 * 1440, 28 * 1440))
_MONDAY = datetime(2001, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Quantiles:
    """How long something took: every value in order, half of them and nearly all. Seconds."""

    values: tuple[float, ...]
    p50: float
    p95: float


@dataclass(frozen=True)
class Figures:
    """The numbers of a selection."""

    generations: int
    outcomes: dict[str, int]
    """How many have each outcome, in the order of `OUTCOMES`."""
    success: float | None
    """Which part of those that have ended is archived; `None` if none has ended. What a person erased is in neither."""
    files: int
    size_bytes: int
    video_seconds: float
    cost_usd: Decimal
    """What the service said, earlier attempts included."""
    unpriced: int
    """Requests that may be billed, and whose cost the service has not said."""
    total: Quantiles | None
    """From the submission to the archive."""
    queued: Quantiles | None
    running: Quantiles | None
    quality: VerdictCounts
    """The verdicts on all files, and what a good one costs; what a person erased is not in it."""
    by_setting: tuple[VerdictCounts, ...]
    """The same by model and setting."""


@dataclass(frozen=True)
class Cause:
    """Why generations have no video: those that came to the same outcome with the same error."""

    outcome: str
    error_type: str | None
    error_code: str | None
    rows: tuple[Row, ...]
    """Those generations, the newest first."""

    @property
    def name(self) -> str:
        """What it is called: the error, if one was recorded, else the outcome."""
        return " ".join(filter(None, (self.error_type or self.outcome, self.error_code)))


@dataclass(frozen=True)
class Period:
    """A piece of time: what was begun in it, and what that cost in US dollars."""

    start: datetime
    end: datetime
    outcomes: dict[str, int]
    cost_usd: Decimal


def figures(rows: Sequence[Row]) -> Figures:
    """Return the numbers of these rows."""
    outcomes = Counter(row["outcome"] for row in rows)
    judged = [_judged(row) for row in rows if row["outcome"] != "erased"]
    ended = sum(count for outcome, count in outcomes.items() if outcome not in (*_NOT_AT_AN_END, "erased"))
    return Figures(
        generations=len(rows),
        outcomes={outcome: outcomes[outcome] for outcome in OUTCOMES if outcomes[outcome]},
        success=outcomes["archived"] / ended if ended else None,
        files=sum(row["output_count"] for row in rows),
        size_bytes=sum(row["output_bytes"] for row in rows),
        video_seconds=sum(file["duration_seconds"] or 0.0 for row in rows for file in row["outputs"]),
        cost_usd=sum(map(cost_of, rows), Decimal(0)),
        unpriced=sum(map(_unpriced, rows)),
        total=spread(
            (row["archived_at"] - row["submitted_at"]).total_seconds()
            for row in rows
            if row["archived_at"] and row["submitted_at"]
        ),
        queued=spread(row["queued_seconds"] for row in rows),
        running=spread(row["running_seconds"] for row in rows),
        quality=counted(judged),
        by_setting=tuple(counted_by_setting(judged)),
    )


def _judged(row: Row) -> Judged:
    return Judged(
        row["model_id"],
        settings_of(json.loads(row["settings_json"] or "{}")),
        _verdicts(row),
        float(cost_of(row)),
        _unpriced(row),
        waiting=(row["file_reviews"] or []).count("waiting"),
    )


def _verdicts(row: Row) -> list[str]:
    """Return the verdict on each file; in a row of an earlier version, all but the worst are unknown."""
    if (known := row["file_verdicts"]) is not None:
        reviews = row["file_reviews"] or [None] * len(known)
        return [final_verdict(verdict, review) for verdict, review in zip(known, reviews, strict=True)]
    count = row["output_count"]
    if row["verdict"] == "good":
        return ["good"] * count
    return [row["verdict"] or "not_judged", *["not_judged"] * (count - 1)] if count else []


def _unpriced(row: Row) -> int:
    return int(row["requests_without_cost"] - (row["earlier_requests_with_cost"] or 0))


def cost_of(row: Row) -> Decimal:
    """Return what the service said that a generation cost, in US dollars, its earlier attempts included."""
    return Decimal(row["cost_usd"] or 0) + Decimal(row["earlier_cost_usd"] or 0)


def spread(values: Iterable[float | None]) -> Quantiles | None:
    """Return how values are spread; `None` if there are none."""
    known = sorted(value for value in values if value is not None and value >= 0)
    return Quantiles(tuple(known), _quantile(known, 0.5), _quantile(known, 0.95)) if known else None


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Interpolate between neighbours, as `quantile_cont` of SQL does."""
    position = (len(ordered) - 1) * part
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def causes(rows: Iterable[Row]) -> list[Cause]:
    """Return why generations have no video, the most frequent cause first; what is in progress or erased has none."""
    found: dict[tuple[str, str | None, str | None], list[Row]] = {}
    for row in rows:
        if row["outcome"] not in _WITHOUT_A_CAUSE:
            found.setdefault((row["outcome"], row["error_type"], row["error_code"]), []).append(row)
    grouped = [Cause(*key, tuple(own)) for key, own in found.items()]
    return sorted(grouped, key=lambda cause: (-len(cause.rows), cause.name, cause.outcome))


def over_time(rows: Sequence[Row]) -> list[Period]:
    """Return the time from the first to the last row in equal pieces, the empty ones too; a few dozen at most."""
    if not rows:
        return []
    times = [row["created_at"] for row in rows]
    first, last = min(times), max(times)
    step = next((step for step in _STEPS if (last - first) / step <= _MOST_PERIODS - 1), _STEPS[-1])
    start = _MONDAY + (first - _MONDAY) // step * step
    periods: list[list[Row]] = [[] for _ in range((last - start) // step + 1)]
    for row, at in zip(rows, times, strict=True):
        periods[(at - start) // step].append(row)
    return [
        Period(
            start=start + number * step,
            end=start + (number + 1) * step,
            outcomes=dict(Counter(row["outcome"] for row in own)),
            cost_usd=sum(map(cost_of, own), Decimal(0)),
        )
        for number, own in enumerate(periods)
    ]
