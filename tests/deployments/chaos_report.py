"""What the chaos script prints: how the orders ended, what the faults hit, and how long it took to recover."""

from __future__ import annotations

import io
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.deployments.chaos_api import FINAL, Api, moment
from tests.deployments.chaos_faults import Fault
from tests.deployments.chaos_orders import Order
from tests.deployments.chaos_processes import Sampler
from tests.deployments.chaos_verdict import Verdict

__all__ = ["Report", "reported"]

_BURST_SECONDS = 20
_OUTLIVES_SECONDS = 45.0
_BY_ITSELF = (
    "infrastructure exited",
    "process exited",
    "interrupted",
    "aborted",
    "Execution was",
    "encountered an exception",
)
"""What the worker and the run itself say of a crash."""
States = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Report:
    """What is wrong, and the report for a person."""

    wrong: list[str]
    text: str


def reported(
    api: Api, verdict: Verdict, orders: Sequence[Order], faults: Sequence[Fault], sampler: Sampler,
    title: str, log: Callable[..., None],
) -> Report:  # fmt: skip
    """Put together what is known, and check which healthy runs were marked as crashed.

    Args:
        api: Prefect's server.
        verdict: How it all ended.
        orders: The orders.
        faults: The faults.
        sampler: Knows which runs were alive when.
        title: The heading.
        log: Records every run.
    """
    states: dict[str, Sequence[Mapping[str, Any]]] = {}
    for run in verdict.runs:
        if run["run_count"] or run["state_type"] in FINAL:
            states[run["id"]] = api.states(run["id"])
            name = verdict.deployments.get(run["deployment_id"], "?")
            steps = [[one["timestamp"], one["name"], one["message"]] for one in states[run["id"]]]
            log("run", run_id=run["id"], deployment=name, states=steps)
    crashes = [(run_id, one) for run_id, steps in states.items() for one in steps if one["type"] == "CRASHED"]
    wrong = [*verdict.wrong, *_healthy(crashes, sampler)]
    reconciles = Counter(run["state_name"] for run in verdict.named("reconcile") if run["state_type"] in FINAL)
    started = Counter(
        str((run["created_by"] or {}).get("type")) for run in verdict.named("reconcile") if run["run_count"]
    )
    forced = Counter(str(one["message"])[:110] for _, one in crashes)
    out = Console(file=io.StringIO(), width=150)
    out.print(_ends(verdict, orders), _recoveries(faults, states))
    out.print(f"{title}; {verdict.uncertain} uncertain submissions (they need a person)")
    bursts = _bursts([moment(one["timestamp"]) for _, one in crashes])
    out.print(f"{len(crashes)} crashes in {bursts} bursts; reconcile: {dict(reconciles)}, ran for: {dict(started)}")
    for message, count in forced.most_common():
        out.print(f"  {count:>3} times Crashed: {message}", markup=False)
    for line in wrong:
        out.print(f"WRONG  {line}", markup=False)
    out.print("nothing is wrong" if not wrong else f"{len(wrong)} things are wrong")
    return Report(wrong, out.file.getvalue())  # type: ignore[attr-defined]


def _healthy(crashes: Sequence[tuple[str, Mapping[str, Any]]], sampler: Sampler) -> list[str]:
    """Return which runs were marked as crashed while their process was alive."""
    found = []
    for run_id, state in crashes:
        lived = sampler.lived_on(run_id, moment(state["timestamp"]))
        by_itself = any(words in str(state["message"]) for words in _BY_ITSELF)
        if lived > (_OUTLIVES_SECONDS if by_itself else 3.0):
            found.append(
                f"a healthy run was marked as crashed, {lived:.0f} s before its end: {run_id}: {state['message']}"
            )
    return found


def _bursts(times: Sequence[datetime]) -> int:
    ordered = sorted(times)
    gaps = pairwise(ordered)
    return bool(ordered) + sum((later - earlier).total_seconds() > _BURST_SECONDS for earlier, later in gaps)


def _ends(verdict: Verdict, orders: Sequence[Order]) -> Table:
    counts = verdict.table(orders)
    ends = sorted({end for _, end in counts})
    table = Table("orders", *ends, "all", title="How the orders ended")
    for kind in sorted({kind for kind, _ in counts}):
        row = [counts[kind, end] for end in ends]
        table.add_row(kind, *map(str, row), str(sum(row)))
    totals = [sum(counts[kind, end] for kind, named in counts if named == end) for end in ends]
    table.add_row("all", *map(str, totals), str(sum(totals)), style="bold")
    return table


def _recoveries(faults: Sequence[Fault], states: States) -> Table:
    """Say how long it took from a fault to the next attempt of the runs that it hit, and to their end."""
    table = Table("fault", "times", "missed", "runs struck", "to next attempt (s)", "to the end (s)", title="Faults")
    again: dict[str, list[float]] = defaultdict(list)
    ended: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        for run_id in fault.struck:
            later = [one for one in states.get(run_id, ()) if moment(one["timestamp"]) > fault.at]
            since = [(one, (moment(one["timestamp"]) - fault.at).total_seconds()) for one in later]
            again[fault.kind] += [seconds for one, seconds in since if one["type"] == "RUNNING"][:1]
            ended[fault.kind] += [since[-1][1]] if since and since[-1][0]["type"] in FINAL else []
    for kind in dict.fromkeys(fault.kind for fault in faults):
        those = [fault for fault in faults if fault.kind == kind]
        struck = sum(len(fault.struck) for fault in those)
        missed = sum(fault.missed for fault in those)
        table.add_row(kind, str(len(those)), str(missed), str(struck), _middle(again[kind]), _middle(ended[kind]))
    return table


def _middle(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    return f"median {statistics.median(seconds):.0f}, at most {max(seconds):.0f} ({len(seconds)})"
