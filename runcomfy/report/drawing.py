"""The plots of a report, as SVG within the page: no script, text that is text, and colours of the page's own.

Vega-Lite draws them, through Altair, and vl-convert turns them into SVG without a browser and without a network. Every
colour is a CSS variable of the page, so one drawing serves light, dark and paper. Needs the extra `report`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup, escape

from runcomfy.report.figures import OUTCOMES, Cause, Period, Quantiles

__all__ = ["cost_over_time", "failures_by_cause", "how_long", "outcomes_over_time", "steps_of"]

_WIDTH, _HEIGHT = 340, 170
_VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
_INK, _LINE, _FAINT, _BAR, _ALARM = "var(--ink)", "var(--line)", "var(--faint)", "var(--bar)", "var(--alarm)"
_PAPER = "var(--card)"
_WHOLE = alt.Axis(tickMinStep=1, format=",d")
_MOST_BARS, _LONGEST_NAME = 12, 34
_STEPS = (1, 2, 5)
_WANTED_BARS = 20
_ROLES = re.compile(r' (?:role="graphics-[a-z]+"|aria-roledescription="[^"]*")')


def outcomes_over_time(periods: Sequence[Period], about: str) -> Markup:
    """Draw what was begun when, and how it ended: stacked bars.

    Args:
        periods: Pieces of time.
        about: What it shows, in a sentence, for those who do not see it.
    """
    data = []
    for period in periods:
        below = 0
        for outcome in OUTCOMES:
            if count := period.outcomes.get(outcome):
                own = {"outcome": _words(outcome), "below": below, "above": below + count}
                data.append({"start": _iso(period.start), "end": _iso(period.end), **own})
                below += count
    named = [outcome for outcome in OUTCOMES if any(outcome in period.outcomes for period in periods)]
    colours = alt.Scale(domain=[_words(name) for name in named], range=[f"var(--{name})" for name in named])
    bars = _chart(data).mark_rect(stroke=_PAPER, strokeWidth=0.75)
    return _svg(
        bars.encode(
            x=_time("start", periods),
            x2="end:T",
            y=alt.Y("above:Q", title="generations", axis=_WHOLE),
            y2="below:Q",
            color=alt.Color("outcome:N", title=None, scale=colours, legend=alt.Legend(orient="bottom", columns=3)),
        ),
        about,
    )


def cost_over_time(periods: Sequence[Period], budget_usd: float | None, about: str) -> Markup:
    """Draw what was paid until when, as far as the service has said, and the budget as a line above it."""
    paid, data = Decimal(0), [{"at": _iso(periods[0].start), "usd": 0.0}] if periods else []
    for period in periods:
        paid += period.cost_usd
        data.append({"at": _iso(period.end), "usd": float(paid)})
    top = max(float(paid), budget_usd or 0.0) or 1.0
    drawn = _chart(data).encode(
        x=_time("at", periods),
        y=alt.Y("usd:Q", title="US dollars", scale=alt.Scale(domain=[0, top * 1.08], nice=True)),
    )
    layers: list[Any] = [
        drawn.mark_area(color=_BAR, opacity=0.25, interpolate="linear"),
        drawn.mark_line(color=_BAR, strokeWidth=2.5),
    ]
    if budget_usd is not None and periods:
        line = _chart([{"usd": budget_usd, "at": _iso(periods[0].start), "text": f"budget {budget_usd:,.2f} USD"}])
        layers += [
            line.mark_rule(color=_ALARM, strokeDash=[6, 4], strokeWidth=1.5).encode(y="usd:Q"),
            line.mark_text(align="left", baseline="bottom", dx=4, dy=-3, color=_INK).encode(
                x="at:T", y="usd:Q", text="text:N"
            ),
        ]
    return _svg(alt.layer(*layers), about)


def how_long(taken: Quantiles, about: str) -> Markup:
    """Draw how many took how long, with the median and the 95th percentile as lines."""
    data = [{"start": start, "end": end, "count": count} for start, end, count in steps_of(taken)]
    first, last, most = data[0]["start"], data[-1]["end"], max(row["count"] for row in data)
    height = alt.Scale(domain=[0, most * 1.3], nice=False)  # room for the texts
    bars = _chart([row | {"zero": 0} for row in data]).mark_rect(color=_BAR, stroke=_PAPER, strokeWidth=0.75)
    bars = bars.encode(
        x=alt.X("start:Q", title="seconds", scale=alt.Scale(domain=[first, last], nice=False)),
        x2="end:Q",
        y=alt.Y("count:Q", title="generations", axis=_WHOLE, scale=height),
        y2="zero:Q",
    )
    marks = _chart(
        [
            {"at": taken.p50, "top": most * 1.27, "text": f"half within {taken.p50:,.1f} s"},
            {"at": taken.p95, "top": most * 1.13, "text": f"95 % within {taken.p95:,.1f} s"},
        ]
    )
    words = marks.encode(x="at:Q", y="top:Q", text="text:N")
    left = words.transform_filter(f"datum.at < {(first + last) / 2}")
    right = words.transform_filter(f"datum.at >= {(first + last) / 2}")
    texts = [
        left.mark_text(align="left", dx=4, stroke=_PAPER, strokeWidth=5),  # keeps the lines away from the text
        right.mark_text(align="right", dx=-4, stroke=_PAPER, strokeWidth=5),
        left.mark_text(align="left", dx=4, color=_INK),
        right.mark_text(align="right", dx=-4, color=_INK),
    ]
    rules = marks.mark_rule(color=_INK, strokeDash=[6, 4], strokeWidth=1.5).encode(x="at:Q")
    return _svg(alt.layer(bars, rules, *texts), about)


def failures_by_cause(causes: Sequence[Cause], about: str) -> Markup:
    """Draw how many have no video for which cause, the most frequent first."""
    data = [
        {"cause": _shortened(cause.name), "outcome": _words(cause.outcome), "count": len(cause.rows), "order": number,
         "colour": f"var(--{cause.outcome})"}
        for number, cause in enumerate(causes[:_MOST_BARS])
    ]  # fmt: skip
    position = alt.Y("order:O", title=None, axis=None)
    count = alt.X("count:Q", title="generations", axis=_WHOLE)
    bars = _chart(data, height=alt.Step(36)).encode(y=position)
    drawn = alt.layer(
        bars.mark_bar(height=12, yOffset=7).encode(x=count, color=alt.Color("colour:N", scale=None)),
        bars.mark_text(align="left", dy=-9, dx=2, color=_INK).encode(x=alt.value(0), text="label:N"),
    ).transform_calculate(label="datum.cause + ': ' + datum.count + ' ' + datum.outcome")
    return _svg(drawn, about)


def steps_of(taken: Quantiles) -> list[tuple[float, float, int]]:
    """Return how many took how long, in steps of one width that is a round number of seconds."""
    lowest, highest = taken.values[0], taken.values[-1]
    rough = max((highest - lowest) / _WANTED_BARS, 0.001)
    power = 10 ** math.floor(math.log10(rough))
    width = next((step * power for step in _STEPS if step * power >= rough), 10 * power)
    first = math.floor(lowest / width)
    counts = [0] * (math.floor(highest / width) - first + 1)
    for value in taken.values:
        counts[math.floor(value / width) - first] += 1
    return [((first + n) * width, (first + n + 1) * width, count) for n, count in enumerate(counts)]


def _chart(data: Sequence[Mapping[str, Any]], height: Any = _HEIGHT) -> alt.Chart:
    return alt.Chart(alt.InlineData(list(data)), width=_WIDTH, height=height)


def _time(field: str, periods: Sequence[Period]) -> alt.X:
    """Return the axis of time in UTC: hours of a day or two, days of more."""
    long = bool(periods) and periods[-1].end - periods[0].start > timedelta(days=2)
    axis = alt.Axis(format="%d %b" if long else "%H:%M", labelOverlap=True, labelFlush=False, tickCount=5)
    return alt.X(f"{field}:T", title="day, UTC" if long else "time, UTC", scale=alt.Scale(type="utc"), axis=axis)


def _svg(chart: Any, about: str) -> Markup:
    styled = (
        chart.configure(background="transparent", font="system-ui, sans-serif", aria=False, padding=4)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_INK, titleColor=_INK, labelFontSize=13, titleFontSize=13, titleFontWeight="normal",
            gridColor=_LINE, tickColor=_FAINT, domainColor=_FAINT,
        )
        .configure_axisX(grid=False)
        .configure_axisY(titlePadding=10)
        .configure_legend(labelColor=_INK, labelFontSize=13, symbolType="square", columnPadding=12)
        .configure_text(fontSize=13)
    )  # fmt: skip
    drawn = _ROLES.sub("", vl_convert.vegalite_to_svg(styled.to_dict(), vl_version=_VERSION))
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', drawn)
    if size is None:
        raise ValueError("the plot has no size")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[1]} {size[2]}" width="{size[1]}" '
        f'height="{size[2]}" role="img" aria-label="{escape(about)}">'
    )
    return Markup(head + drawn.partition(">")[2])  # noqa: S704 - Vega escapes the texts that it writes


def _iso(moment: datetime) -> str:
    return moment.isoformat()


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
