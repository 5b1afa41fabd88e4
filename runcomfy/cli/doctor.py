"""`doctor`: check account, bucket and clock as they are used, and say what is wrong; nothing is paid for."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runcomfy.cli import environment
from runcomfy.cli.options import BucketRules, Json
from runcomfy.cli.output import exit_code, json_text
from runcomfy.doctor import CheckResult, Mark, ServerClock, clock_check, run_checks
from runcomfy.errors import ConfigurationError
from runcomfy.policy import Deadlines
from runcomfy.storage.bucket_settings import PLAIN, BucketSettings

if TYPE_CHECKING:
    from runcomfy.api.client import RunComfyClient
    from runcomfy.content_credentials import Signing
    from runcomfy.doctor import Check
    from runcomfy.doctor.bucket import BucketUnderTest
    from runcomfy.doctor.service import AccountUnderTest
    from runcomfy.journal import Journal

__all__ = ["BucketOption", "JournalOption", "Sources", "conclude", "doctor", "engine_checks", "find", "print_findings"]

BucketOption = Annotated[
    str | None,
    Parameter(env_var="RUNCOMFY_BUCKET", help="Where videos are archived: s3://bucket/prefix, or a bucket."),
]
JournalOption = Annotated[
    str, Parameter(env_var="RUNCOMFY_JOURNAL", help="Where the journal is kept, as for the other commands.")
]
_NO_RULES = BucketRules()
_SIGNS = {
    Mark.OK: ("✓", "green"),
    Mark.WARNING: ("!", "yellow"),
    Mark.BROKEN: ("✗", "bold red"),
    Mark.NOT_CHECKED: ("·", "dim"),
}


def doctor(
    *,
    bucket: BucketOption = None,
    journal: JournalOption = "bucket",
    deadlines: Annotated[Deadlines, Parameter(name="*")] = Deadlines(),
    rules: Annotated[BucketRules, Parameter(name="*")] = _NO_RULES,
    json: Json = False,
) -> None:
    """Check token, balance, bucket, signing, journal and clock, and say what to fix (exit code 3 if something is)."""
    sources = Sources(bucket, journal, rules.settings)
    conclude(find(engine_checks(sources, deadlines.signed_for), quiet=json), as_json=json)


class Sources:
    """The account and the bucket as environment and options say, read when they are asked for.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        journal: Where the journal is kept.
        settings: What the bucket's rules want with each request.
    """

    is_sandbox = False
    """Whether the account that was found is one of a service on this machine."""

    def __init__(self, bucket: str | None, journal: str, settings: BucketSettings = PLAIN) -> None:
        self._bucket, self._journal, self._settings = bucket, journal, settings

    async def account(self) -> AccountUnderTest:
        """Return the account.

        Raises:
            ConfigurationError: it is not set, or cannot be used.
        """
        environment.token()
        from runcomfy.api.client import is_local
        from runcomfy.doctor.service import AccountUnderTest

        self.is_sandbox = is_local(environment.base_url())
        return AccountUnderTest(environment.client, environment.host_policy(), "the environment")

    async def bucket(self) -> BucketUnderTest:
        """Return the bucket.

        Raises:
            ConfigurationError: none is named, or it cannot be used.
        """
        from runcomfy.doctor.bucket import BucketUnderTest
        from runcomfy.journal import check_choice

        if not self._bucket:
            raise ConfigurationError("No bucket is named. Give --bucket (or RUNCOMFY_BUCKET).")
        environment.bucket_and_prefix(self._bucket)
        open_store = partial(environment.store, self._bucket, self._settings)
        return BucketUnderTest(open_store, check_choice(self._journal), True, "the environment")

    async def signing(self) -> Signing | None:
        """Return what signs files; `None` if nothing does.

        Raises:
            ConfigurationError: its settings contradict each other.
        """
        from runcomfy.archive.signing import environment_signing

        return environment_signing()


def engine_checks(
    sources: Sources, lifetime: timedelta, *, account_needs: Sequence[str] = (), bucket_needs: Sequence[str] = ()
) -> list[Check]:
    """Return the checks of account, bucket and clock.

    Args:
        sources: Finds account and bucket.
        lifetime: How long an image's URL is signed for.
        account_needs: Names of the checks that those of the account depend on.
        bucket_needs: Names of the checks that those of the bucket depend on.
    """
    from runcomfy.doctor.bucket import bucket_checks
    from runcomfy.doctor.drift import drift_check
    from runcomfy.doctor.journal import journal_at
    from runcomfy.doctor.running import in_thread
    from runcomfy.doctor.service import service_checks
    from runcomfy.doctor.signature import signature_check

    async def client() -> RunComfyClient:
        return (await sources.account()).open_client()

    async def journal() -> Journal:
        found = await sources.bucket()
        store = await in_thread(found.open_store)
        return journal_at(store, found.journal, found.conditional_writes)

    clock = ServerClock()
    return [
        *service_checks(sources.account, clock, needs=tuple(account_needs)),
        *bucket_checks(
            sources.bucket,
            clock,
            lifetime=lifetime,
            is_sandbox=lambda: sources.is_sandbox,
            needs=tuple(bucket_needs),
        ),
        drift_check(client, journal, needs=("token", "list", "journal")),
        signature_check(sources.signing, needs=bucket_needs),
        clock_check(clock, after=("service", "bucket")),
    ]


def find(checks: Sequence[Check], *, quiet: bool) -> list[CheckResult]:
    """Run the checks; a terminal shows a spinner in the meantime."""
    console = Console(file=sys.stderr, quiet=quiet)
    with console.status("Checking …") if console.is_terminal else nullcontext():
        return asyncio.run(run_checks(checks))


def conclude(findings: Sequence[CheckResult], *, as_json: bool) -> None:
    """Print what was found, and end with exit code 3 if something is broken.

    Raises:
        SystemExit: something is broken.
    """
    if print_findings(findings, as_json=as_json):
        raise SystemExit(exit_code(ConfigurationError("Something is broken.")))


def print_findings(findings: Sequence[CheckResult], *, as_json: bool) -> bool:
    """Print every finding in its order and a summary, and return whether something is broken."""
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
        print(json_text(whole | {"findings": described}))
        return bool(counts[Mark.BROKEN])
    console = Console(highlight=False)
    if console.is_terminal:
        _print_table(console, findings)
    else:
        for finding in findings:
            verdict = finding.verdict
            print(f"{finding.mark:<11}  {finding.area}: {finding.name}: {verdict.found} {verdict.advice}".rstrip())
    console.print(_summary(counts), soft_wrap=True)
    return bool(counts[Mark.BROKEN])


def _print_table(console: Console, findings: Sequence[CheckResult]) -> None:
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


def _unchecked(findings: Sequence[CheckResult]) -> dict[str, list[str]]:
    """Return what was not checked by its reason: one line each, since only the reason is of use."""
    names: dict[str, list[str]] = {}
    for finding in findings:
        if finding.mark is Mark.NOT_CHECKED:
            names.setdefault(finding.verdict.found, []).append(finding.name)
    return names


def _summary(counts: Counter[Mark]) -> Text:
    counted = ", ".join(f"{counts[mark]} {mark}" for mark in Mark if counts[mark])
    if counts[Mark.BROKEN]:
        return Text(f"{counted}. Fix what is broken from the top, and check again.", style="bold red")
    if counts[Mark.WARNING]:
        return Text(f"It works: {counted}.", style="bold yellow")
    return Text(f"All is well: {counted}. Nothing was paid for.", style="bold green")
