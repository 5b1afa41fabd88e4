"""The page of a batch: how many videos, what they cost, what is missing and why, and what to do now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from blocks import MediaStore
from runcomfy.batch.results import REJECTED_ROWS, BatchReport
from runcomfy.errors import BudgetReached, OutputRejected
from runcomfy.media.poster import poster_key
from runcomfy.values import Outcome, OutcomeStatus
from tasks.pages.artifacts import address, poster_image
from tasks.pages.deciding import review_command
from tasks.pages.markdown import code, console, facts_table, store_options, table, text

__all__ = ["causes", "gallery", "linked", "next_steps", "quality", "spent"]

_MOST_POSTERS, _POSTERS_ABREAST = 6, 3
_POSTER_PIXELS = 160
_MOST_LABELS = 12


def spent(cost_usd: float, budget_usd: float | None) -> str:
    """Return what all rows have cost, compared with the budget if there is one."""
    of = "" if budget_usd is None else f" of {budget_usd:,.2f}"
    return f"**Spent:** {cost_usd:,.2f}{of} USD, by this run and all before it."


def quality(report: BatchReport, store: MediaStore) -> str:
    """Return how many files are good and what a good one costs, of all and by model and setting; Markdown.

    Args:
        report: The outcome of the batch.
        store: Where the files are, for the command that lists what was set aside.
    """
    if not report.quality.files:
        return ""
    rows = [
        (
            code(each.model),
            text(each.setting) or "as all",
            *(f"{count:,}" for count in each.verdicts.values()),
            f"{each.cost_usd:,.4f}",
            each.unpriced_because or f"{each.usd_per_good_file:,.4f}",
            f"{each.requests_without_cost:,}" if each.requests_without_cost else "",
        )
        for each in report.by_setting
    ]
    names = ("model", "setting", "good", "suspect", "damaged", "not judged", "USD", "USD a good file", "cost unknown")
    lines = [f"**Quality:** {text(report.quality.sentence)}.", table(names, rows, len(rows))]
    if report.set_aside:
        lines += [
            f"What was set aside waits for a person: the deployment {code('review')} shows it, and so does",
            console(review_command("list", None, store_options(store))),
        ]
    return "\n\n".join(lines)


def causes(outcomes: Iterable[Outcome]) -> str:
    """Return why rows have no video: each cause once, with its rows and the error of the first."""
    by_cause = defaultdict[tuple[str, str], list[Outcome]](list)
    for outcome in outcomes:
        if not outcome.status.is_good:
            by_cause[outcome.status, outcome.error_type or ""].append(outcome)
    lines = []
    for (status, kind), affected in sorted(by_cause.items(), key=lambda item: -len(item[1])):
        labels = ", ".join(text(outcome.label) for outcome in affected[:_MOST_LABELS])
        more = f" and {len(affected) - _MOST_LABELS:,} more" if len(affected) > _MOST_LABELS else ""
        named = f" ({code(kind)})" if kind else ""
        first = f" The first: {text(affected[0].error, longest=300)}" if affected[0].error else ""
        lines.append(f"- **{len(affected):,} {status.replace('_', ' ')}**{named}: {labels}{more}.{first}")
    return "\n".join(lines)


def next_steps(
    outcomes: Iterable[Outcome], store: MediaStore, *, stopped_by: str | None = None, because: str | None = None
) -> str:
    """Return what to do about rows without a video; if the batch was stopped, about the reason first."""
    missing = [outcome for outcome in outcomes if not outcome.status.is_good]
    if not missing:
        return ""
    again = "run the same manifest again, with the same settings and budget: it does only what is missing."
    if stopped_by == BudgetReached.__name__:
        lines = [
            f"**Its budget stopped it.** {text(because)}",
            "**What now?** Leave it at that, or set a larger budget: with the same one, nothing more is paid for.",
        ]
    elif stopped_by:
        lines = [f"**It was stopped.** {text(because)}", f"**What now?** When that is fixed, {again}"]
    elif all(outcome.error_type == OutputRejected.__name__ for outcome in missing):
        lines = []
    else:
        lines = [f"**What now?** Fix what is named above, and {again}"]
    if any(outcome.error_type == OutputRejected.__name__ for outcome in missing):
        lines.append(REJECTED_ROWS)
    if any(outcome.status is OutcomeStatus.UNCERTAIN for outcome in missing):
        lines += [
            "Those that are uncertain wait for a person:",
            *(console(command) for command in store_options(store).journal_list),
        ]
    return "\n\n".join(lines)


def linked(files: Mapping[str, str | None], store: MediaStore) -> str:
    """Return a table of links to files, by name."""
    rows = []
    for name, uri in files.items():
        if uri is not None:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            shown = text(key.rpartition("/")[2])
            rows.append(
                (
                    name,
                    f"[{shown}]({address(bucket, key, store.get_store())})" if uri.startswith("s3://") else code(uri),
                )
            )
    return facts_table(rows)


async def gallery(outcomes: Iterable[Outcome], store: MediaStore) -> str:
    """Return the posters of a few videos, with a link to each; nothing if there are none."""
    cells = []
    for outcome in [outcome for outcome in outcomes if outcome.uris][:_MOST_POSTERS]:
        bucket, _, key = outcome.uris[0].removeprefix("s3://").partition("/")
        poster = await poster_image(store.get_store(), poster_key(key), text(outcome.label), pixels=_POSTER_PIXELS)
        if poster:
            cells.append((poster, f"[{text(outcome.label)}]({address(bucket, key, store.get_store())})"))
    lines = []
    for start in range(0, len(cells), _POSTERS_ABREAST):
        # the older UI shows no image that is a link, so the link is below it
        lines += [f"| {' | '.join(cell)} |" for cell in zip(*cells[start : start + _POSTERS_ABREAST], strict=True)]
    return "\n".join((lines[0], "|---" * min(len(cells), _POSTERS_ABREAST) + "|", *lines[1:])) if lines else ""
