"""Put the report's page together: one HTML file with its style, its images and its plots in it.

Whatever anyone has written (a prompt, a reason, a name) is escaped by the template engine. The page's
Content-Security-Policy allows its own style and script by their hashes, images out of the page itself, and media from
where the links lead; nothing else is loaded, whatever gets into it. Needs the extra `report`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from runcomfy.catalogue.values import Row
from runcomfy.report.figures import Cause, Figures
from runcomfy.report.links import MediaLinks
from runcomfy.report.waiting import Waiting

__all__ = ["BudgetFigures", "Page", "Plot", "render"]


@dataclass(frozen=True)
class Plot:
    """A drawing, what it shows in a sentence, and the same as a table."""

    title: str
    about: str
    svg: Markup
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class BudgetFigures:
    """What may be spent and what was, in US dollars; `sure` is whether nothing of it is a guess."""

    limit_usd: float
    spent_usd: float
    sure: bool


@dataclass(frozen=True)
class Page:
    """Everything that the page shows."""

    title: str
    filters: Mapping[str, str]
    place: str
    made_at: datetime
    figures: Figures
    budget: BudgetFigures | None
    gallery: Sequence[Row]
    posters: Mapping[str, str]
    sheets: Mapping[str, str]
    """The contact sheets, by their addresses."""
    gone: Collection[str]
    """The addresses of files that were set aside and are gone: nothing links to them."""
    waiting: Sequence[Waiting]
    journal_list: Sequence[str]
    """The command that lists what is open in the journal, if one can."""
    review_list: str
    """The command that lists what was set aside."""
    plots: Sequence[Plot]
    failures: Plot | None
    causes: Sequence[Cause]
    rows: Sequence[Row]
    links: MediaLinks
    flow_run: Callable[[Row], str | None]
    """The address of the flow run's page, if it is known."""
    first_waiting: int = 4
    most_waiting: int = 50
    most_runs: int = 5


def render(page: Page) -> bytes:
    """Return the page as UTF-8."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("runcomfy.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    filters: dict[str, Callable[..., str]] = {
        "words": lambda text: str(text).replace("_", " "), "took": _took, "usd": _usd, "moment": _moment,
        "model": lambda model_id: str(model_id).rpartition("/")[2], "size": _size, "percent": _percent, "coded": _coded,
    }  # fmt: skip
    environment.filters |= filters
    folder = files("runcomfy.report") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        f"media-src {page.links.source}; base-uri 'none'; form-action 'none'"
    )
    text = environment.get_template("report.html").render(
        page=page, policy=policy, style=Markup(style), script=Markup(script)  # noqa: S704 - our own files
    )  # fmt: skip
    return text.encode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _took(seconds: float | None) -> str:
    """Return a duration as a person says it."""
    if seconds is None:
        return "not known"
    if seconds < 99.95:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02}\N{NO-BREAK SPACE}min" if hours else f"{minutes} min {rest:02}\N{NO-BREAK SPACE}s"


def _usd(amount: Any) -> str:
    """Return dollars to the cent, and small or odd amounts to what they have."""
    if amount is None:
        return "not known"
    cents = f"{amount:,.2f}"
    return f"{cents if float(cents.replace(',', '')) == float(amount) else f'{amount:,.4f}'} USD"


def _percent(part: float | None) -> str:
    """Return a part as a percentage that says 100 only where it is all, and 0 only where it is nothing."""
    if part is None:
        return "none yet"
    whole = min(max(part * 100, 0.1), 99.9) if 0 < part < 1 else part * 100
    return f"{whole:.1f} %".replace(".0 ", " ")


def _coded(sentence: str) -> Markup:
    """Show as code what is between backquotes."""
    parts = sentence.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,} bytes"


def _moment(moment: datetime, form: str = "%d %b %Y %H:%M") -> Markup:
    there = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(there.isoformat(timespec="seconds"), there.strftime(form))
