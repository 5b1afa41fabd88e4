"""The outcome of a batch, as files beside the videos: a table of all rows, and a manifest of those to run again."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.batch.plan import PlannedRow
from runcomfy.errors import (
    AuthenticationError,
    BudgetReached,
    CommonCause,
    GenerationErased,
    InsufficientBalance,
    InvalidInput,
    OutputRejected,
)
from runcomfy.generation.verdicts import Judged, VerdictCounts, counted, counted_by_setting
from runcomfy.journal.entry import Entry
from runcomfy.manifest import Manifest, standalone_row, write_manifest
from runcomfy.manifest.delimited import defused
from runcomfy.models.settings import settings_of
from runcomfy.storage.keys import is_aside
from runcomfy.storage.store import Store
from runcomfy.values import Outcome

__all__ = [
    "REJECTED_ROWS",
    "BatchFiles",
    "BatchReport",
    "BatchStop",
    "outcomes_from_json",
    "outcomes_to_json",
    "report_of",
    "stop_of",
    "write_results",
]

REJECTED_ROWS = (
    "What a person has rejected is not paid for again: the error of such a row in results.csv names the command that "
    "allows another."
)
"""What to do about rows of which a person rejected a file."""
_STOPS = tuple(kind.__name__ for kind in (CommonCause, AuthenticationError, InsufficientBalance, BudgetReached))
_COLUMNS = ("line", "status", "uri", "cost_usd", "seconds", "request_id", "generation_key", "prompt", "image", "error",
            "verdict")  # fmt: skip


class BatchStop(NamedTuple):
    """Why rows of a batch were not begun."""

    error_type: str
    error_code: str | None
    reason: str


def stop_of(outcomes: Iterable[Outcome]) -> BatchStop | None:
    """Return what kept rows from being begun, the gravest cause if there are several; `None` if nothing did."""
    stopped = [outcome for outcome in outcomes if outcome.error_type in _STOPS and not outcome.status.is_good]
    if not stopped:
        return None
    first = min(stopped, key=lambda outcome: _STOPS.index(outcome.error_type or ""))
    return BatchStop(first.error_type or "", first.error_code, (first.error or "").rstrip("."))


class BatchFiles(BaseModel):
    """Where the files are, `s3://bucket/key`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    results: str
    """A CSV table of all rows."""
    to_run_again: str | None = None
    """A self-contained manifest of the rows without a video, with a column `error`; `None` if there are none. Rows of
    generations that were erased are not in it."""


def write_results(
    manifest: Manifest, rows: Sequence[PlannedRow], outcomes: Mapping[int, Outcome], store: Store, folder: str
) -> BatchFiles:
    """Write both files; those of an earlier attempt of the same run are replaced. Blocks.

    Args:
        manifest: Whose rows they are.
        rows: All of them.
        outcomes: What became of each, by line.
        store: Where to write.
        folder: Below the store's prefix.

    Raises:
        StorageError: the store did not take them.
    """
    key = store.key(f"{folder}/results.csv")
    store.put(key, _table(rows, outcomes), content_type="text/csv")
    again = [
        (
            standalone_row(
                row.source, row.order, row.staged[0].uri if row.staged else None, typed=manifest.format == "jsonl"
            ),
            outcomes[row.line].error or str(outcomes[row.line].status),
        )
        for row in rows
        if not outcomes[row.line].status.is_good and not _is_erased(outcomes[row.line])
    ]
    if not again:
        return BatchFiles(results=store.uri(key))
    document = write_manifest(again, manifest.columns, manifest.format, delimiter=manifest.delimiter)
    again_key = store.key(f"{folder}/to-run-again.{manifest.format}")
    store.put(again_key, document, content_type="application/octet-stream")
    return BatchFiles(results=store.uri(key), to_run_again=store.uri(again_key))


def _table(rows: Iterable[PlannedRow], outcomes: Mapping[int, Outcome]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        outcome = outcomes[row.line]
        shown = outcome.model_dump(include=set(_COLUMNS) - {"status"})
        named = {
            "line": row.line,
            "status": str(outcome.status),
            "uri": " ".join(outcome.uris),
            "verdict": " ".join(_verdicts(outcome)) or None,
            "prompt": row.order.prompt,
            "image": " ".join(file.source for file in row.staged) or None,
        } | ({"prompt": None, "image": None} if _is_erased(outcome) else {})
        cells = (shown | named).items()
        writer.writerow({name: defused(cell) if isinstance(cell, str) else cell for name, cell in cells})
    return text.getvalue().encode()


def _is_erased(outcome: Outcome) -> bool:
    """Whether a person erased the row's generation: then its words are not written into the bucket again."""
    return outcome.error_type == GenerationErased.__name__


class BatchReport(BaseModel):
    """The outcome of a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: str
    rows: int
    archived: int = Field(description="Rows that have their video, those from earlier runs included.")
    counts: dict[str, int] = Field(description="How many rows ended in which way.")
    cost_usd: float = Field(description="What all rows have cost until now, as the service reported where it did.")
    verdicts: dict[str, int] = Field(default={}, description="How many files were judged to be what.")
    usd_per_good_file: float | None = Field(
        default=None,
        description="What is known that the rows have cost, by the files that are good; `None` if none is, or if no "
        "cost is known.",
    )
    requests_without_cost: int = Field(default=0, description="Rows that may be billed, and whose cost is unknown.")
    set_aside: int = Field(default=0, description="Files below `quarantine/`, which wait for a person's decision.")
    rejected: int = Field(
        default=0, description="Rows of which a person rejected a file: none is paid for again before it is released."
    )
    by_setting: list[VerdictCounts] = Field(
        default=[], description="Verdicts and costs by model, and by the settings that differ among its rows."
    )
    files: BatchFiles
    stopped_by: str | None = Field(default=None, description="The class of the error that kept rows from being begun.")
    stopped_because: str | None = Field(default=None, description="What it says.")
    error_code: str | None = Field(default=None, description="Its code, where there is one.")

    @property
    def quality(self) -> VerdictCounts:
        """Return the verdicts on all files together, and what is known of their cost."""
        known = round(sum(each.cost_usd for each in self.by_setting), 6)
        return VerdictCounts(
            cost_usd=known, requests_without_cost=self.requests_without_cost, waiting=self.set_aside, **self.verdicts
        )

    @property
    def sentence(self) -> str:
        """Return it as one line."""
        others = ", ".join(
            f"{count:,} {status.replace('_', ' ')}"
            for status, count in sorted(self.counts.items())
            if status not in ("archived", "existing")
        )
        because = f". {self.stopped_because}" if self.stopped_because else ""
        return f"{self.archived:,} of {self.rows:,} rows have their video" + (f"; {others}" if others else "") + because


def report_of(
    manifest: Manifest,
    rows: Sequence[PlannedRow],
    outcomes: Mapping[int, Outcome],
    cost_usd: float,
    store: Store,
    folder: str,
    entries: Mapping[str, Entry] = MappingProxyType({}),
) -> BatchReport:
    """Write the table of results and the manifest of what to run again, and return the outcome of the batch. Blocks.

    Args:
        manifest: Whose rows they are.
        rows: All of them.
        outcomes: What became of each, by line.
        cost_usd: What all rows have cost until now.
        store: Where to write.
        folder: Below the store's prefix.
        entries: What the journal knew of the rows before this run, by key: what earlier attempts cost.

    Raises:
        StorageError: the store did not take them.
    """
    stop = stop_of(outcomes[row.line] for row in rows)
    judged = [
        _judged(row, outcomes[row.line], entries.get(row.generation_key), store)
        for row in rows
        if not _is_erased(outcomes[row.line])
    ]
    altogether = counted(judged)
    return BatchReport(
        manifest=manifest.uri,
        rows=len(rows),
        archived=sum(outcome.status.is_good for outcome in outcomes.values()),
        counts={str(status): count for status, count in Counter(each.status for each in outcomes.values()).items()},
        cost_usd=round(cost_usd, 6),
        verdicts=altogether.verdicts if altogether.files else {},
        usd_per_good_file=altogether.usd_per_good_file,
        requests_without_cost=altogether.requests_without_cost,
        set_aside=altogether.waiting,
        rejected=sum(outcomes[row.line].error_type == OutputRejected.__name__ for row in rows),
        by_setting=counted_by_setting(judged),
        files=write_results(manifest, rows, outcomes, store, folder),
        stopped_by=stop.error_type if stop else None,
        stopped_because=stop.reason if stop else None,
        error_code=stop.error_code if stop else None,
    )


def _judged(row: PlannedRow, outcome: Outcome, entry: Entry | None, store: Store) -> Judged:
    """Return what counts of a row; an erased one counts nowhere, since neither its file nor its verdict exists."""
    try:
        asked = row.order.inputs(row.staged).body()
    except InvalidInput:  # of a row that an earlier version planned; it was refused
        asked = row.order.settings
    costs: dict[str | None, float | None] = {}
    if entry is not None:
        costs.update(dict.fromkeys(entry.request_ids))
        costs.update(entry.earlier_costs_usd)
        costs.update({entry.request_id: entry.cost_usd} if entry.request_id else {})
    if outcome.status.may_be_paid and (outcome.request_id not in costs or outcome.cost_usd is not None):
        costs[outcome.request_id] = outcome.cost_usd
    known = [cost for cost in costs.values() if cost is not None]
    keys = [uri.removeprefix(f"s3://{store.bucket}/") for uri in outcome.uris]
    return Judged(
        row.order.model_id, settings_of(asked), _verdicts(outcome), sum(known), len(costs) - len(known),
        waiting=sum(is_aside(store.prefix, key) for key in keys),
    )  # fmt: skip


def _verdicts(outcome: Outcome) -> tuple[str, ...]:
    """Return the verdict on each file; one is missing where a worker of an earlier version made it."""
    return outcome.verdicts + ("not_judged",) * (len(outcome.uris) - len(outcome.verdicts))


def outcomes_to_json(outcomes: Mapping[int, Outcome]) -> bytes:
    """Return outcomes, by line, as JSON Lines."""
    return b"".join(
        _Ended(line=line, outcome=outcome).model_dump_json().encode() + b"\n" for line, outcome in outcomes.items()
    )


def outcomes_from_json(document: bytes) -> dict[int, Outcome]:
    """Read what `outcomes_to_json` wrote."""
    ended = (_Ended.model_validate_json(line) for line in document.splitlines())
    return {each.line: each.outcome for each in ended}


class _Ended(BaseModel):
    line: int
    outcome: Outcome
