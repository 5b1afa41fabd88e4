"""`verify`: check a bucket again, and end with an exit code of its own if something is not as it was archived."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from runcomfy.cli import environment
from runcomfy.cli.options import BucketRules, Json
from runcomfy.cli.output import exit_code, print_facts
from runcomfy.errors import VerificationFailed

if TYPE_CHECKING:
    from runcomfy.verify import Verification

__all__ = ["verify"]

_NO_RULES = BucketRules()
_MOST_LINES = 200


def verify(
    bucket: Annotated[str, Parameter(help="What is checked: s3://bucket/prefix, the whole media store.")],
    /,
    *,
    quick: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Do not read the files: compare sizes, metadata, provenance, journal, and the marks at their ends.",
        ),
    ] = False,
    journal: Annotated[
        str, Parameter(env_var="RUNCOMFY_JOURNAL", help="Where the journal is kept, as for the other commands.")
    ] = "bucket",
    rules: Annotated[BucketRules, Parameter(name="*")] = _NO_RULES,
    json: Json = False,
) -> None:
    """Check every archived file against its provenance, and both against the journal (exit code 15 if one differs).

    Nothing is written. Every file is read, unless --quick says otherwise; memory stays the same however many there are.
    """
    from rich.console import Console

    from runcomfy.verify import verify as verify_store

    kept = None if journal.strip() == "none" else environment.journal(bucket, journal, rules.settings).store
    store = environment.store(bucket, rules.settings)
    console = Console(file=sys.stderr)

    def progress(so_far: Verification) -> None:
        if console.is_terminal and not json:
            console.print(
                f"{so_far.files:,} files, {so_far.entries:,} entries, {sum(so_far.counts.values()):,} findings"
            )

    found = verify_store(store, kept, quick=quick, progress=progress)
    _print(found, as_json=json)
    if not found.is_sound:
        raise SystemExit(exit_code(VerificationFailed("Something is not as it was archived.")))


def _print(found: Verification, *, as_json: bool) -> None:
    counts = {str(problem): count for problem, count in sorted(found.counts.items())}
    facts = {
        "bucket": found.where,
        "sound": found.is_sound,
        "quick": found.quick,
        "check": found.check,
        "files": found.files,
        "read_bytes": found.read_bytes,
        "signatures": found.signatures,
        "unchecked_signatures": found.unchecked_signatures,
        "entries": found.entries,
        "entries_elsewhere": found.elsewhere,
        "others": found.others,
        "counts": counts,
    }
    if as_json:
        print_facts("", facts | {"findings": [asdict(each) for each in found.findings]}, as_json=True)
        return
    shown = {
        "bucket": found.where,
        "files": f"{found.files:,}, " + ("not read" if found.quick else f"{found.read_bytes:,} bytes read"),
        "check": "sizes, metadata and marks" if found.quick else "SHA-256 of all bytes",
        "signatures": f"{found.signatures:,} checked" if found.signatures else None,
        "not checked": f"{found.unchecked_signatures:,} signatures: read the files, with the extra c2pa"
        if found.unchecked_signatures
        else None,
        "journal": f"{found.entries:,} entries"
        + (f", {found.elsewhere:,} of them elsewhere" if found.elsewhere else ""),
        "not ours": f"{found.others:,} objects" if found.others else None,
        "found": ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "nothing that is wrong",
    }
    print_facts("Verified", shown, as_json=False)
    for finding in found.findings[:_MOST_LINES]:
        print(f"  {finding.problem:<22} {finding.uri}\n  {'':<22} {finding.found}")
    if (more := sum(found.counts.values()) - _MOST_LINES) > 0:
        print(f"  … and {more:,} more: --json has them all")
