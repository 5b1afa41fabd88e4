"""What `doctor` prints: a table for a terminal, a line each for a pipe, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runcomfy.checkup import Finding, Mark

__all__ = ["checking", "print_findings"]

_SIGNS = {
    Mark.OK: ("✓", "green"),
    Mark.WARNING: ("!", "yellow"),
    Mark.BROKEN: ("✗", "bold red"),
    Mark.NOT_CHECKED: ("·", "dim"),
}


@contextmanager
def checking(*, quiet: bool) -> Iterator[None]:
    """Show that something goes on, where somebody looks."""
    console = Console(file=sys.stderr, quiet=quiet)
    with console.status("Checking …") if console.is_terminal else _nothing():
        yield


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print every finding in its order, and how it stands with the whole."""
    counts = Counter(finding.mark for finding in findings)
    if as_json:
        described = [
            {
                "area": finding.area,
                "name": finding.name,
                "mark": str(finding.mark),
                "found": finding.verdict.found,
                "advice": finding.verdict.advice or None,
            }
            for finding in findings
        ]
        whole = {"healthy": not counts[Mark.BROKEN], "counts": {str(mark): counts[mark] for mark in Mark}}
        print(json.dumps(whole | {"findings": described}, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if console.is_terminal:
        _print_table(console, findings)
    else:
        for finding in findings:
            verdict = finding.verdict
            print(f"{finding.mark:<11}  {finding.area}: {finding.name}: {verdict.found} {verdict.advice}".rstrip())
    console.print(_sum(counts), soft_wrap=True)


def _print_table(console: Console, findings: Sequence[Finding]) -> None:
    width = max(len(word) for word in ("not checked", *(finding.name for finding in findings)))
    for area, members in groupby(findings, key=lambda finding: finding.area):
        console.print(area, style="bold")
        table = Table.grid(padding=(0, 1))
        table.add_column(width=3, justify="right")
        table.add_column(width=width, no_wrap=True)
        table.add_column(overflow="fold")
        shown = list(members)
        for finding in shown:
            if finding.mark is not Mark.NOT_CHECKED:
                sign, style = _SIGNS[finding.mark]
                name = Text(finding.name, style="" if finding.mark is Mark.OK else style)
                table.add_row(Text(sign, style=style), name, Text(finding.verdict.found))
                if finding.verdict.advice:
                    table.add_row("", Text("→", style="cyan", justify="right"), Text(finding.verdict.advice, "cyan"))
        for reason, names in _unchecked(shown).items():
            sign, style = _SIGNS[Mark.NOT_CHECKED]
            table.add_row(Text(sign, style), Text("not checked", style), Text(f"{', '.join(names)}: {reason}", style))
        console.print(table)
    console.print()


def _unchecked(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Return what was not checked by its reason: one line each, since only the reason is of use."""
    names: dict[str, list[str]] = {}
    for finding in findings:
        if finding.mark is Mark.NOT_CHECKED:
            names.setdefault(finding.verdict.found, []).append(finding.name)
    return names


def _sum(counts: Counter[Mark]) -> Text:
    told = ", ".join(f"{counts[mark]} {mark}" for mark in Mark if counts[mark])
    if counts[Mark.BROKEN]:
        return Text(f"{told}. Mend what is broken from the top, and look again.", style="bold red")
    if counts[Mark.WARNING]:
        return Text(f"It works: {told}.", style="bold yellow")
    return Text(f"All is well: {told}. Nothing was paid for.", style="bold green")
