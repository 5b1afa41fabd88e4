"""`doctor`: look at a set-up as it is used, say what is wrong with it and what mends it, and pay for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from runcomfy.cli.options import Json
from runcomfy.cli.output import exit_code
from runcomfy.errors import ConfigurationError
from runcomfy.policy import Deadlines

if TYPE_CHECKING:
    from runcomfy.checkup import Finding

__all__ = ["conclude", "doctor"]


def doctor(
    *,
    bucket: Annotated[
        str | None,
        Parameter(env_var="RUNCOMFY_BUCKET", help="Where videos are archived: s3://bucket/prefix, or a bucket."),
    ] = None,
    journal: Annotated[
        str, Parameter(env_var="RUNCOMFY_JOURNAL", help="Where the journal is kept, as for the other commands.")
    ] = "bucket",
    credentials_block: Annotated[
        str | None, Parameter(help="Check the account of this RunComfyCredentials block, and not the environment's.")
    ] = None,
    store_block: Annotated[
        str | None, Parameter(help="Check the bucket of this MediaStore block, and not --bucket.")
    ] = None,
    pool: Annotated[
        str | None,
        Parameter(
            env_var="RUNCOMFY_WORK_POOL", help="The work pool that has to be there; without it, the deployments'."
        ),
    ] = None,
    deadlines: Annotated[Deadlines, Parameter(name="*")] = Deadlines(),
    json: Json = False,
) -> None:
    """Check token, balance, bucket, signing, clock and Prefect, and say what to mend (exit code 3 if something is)."""
    from flows.doctor_output import checking
    from flows.doctor_prefect import BLOCK_CHECKS, prefect_checks
    from flows.doctor_server import has_server
    from flows.doctor_sources import Sources
    from runcomfy.checkup import Clock, bucket_checks, clock_check, run_checks, service_checks

    if (credentials_block or store_block) and not has_server():
        raise ConfigurationError("Blocks are kept by a Prefect server: set PREFECT_API_URL, or name no block.")
    sources, clock = Sources(bucket, journal, credentials_block, store_block), Clock()
    lifetime = deadlines.signed_for
    checks = [
        *service_checks(sources.account, clock, needs=BLOCK_CHECKS[:1] if credentials_block else ()),
        *bucket_checks(
            sources.bucket,
            clock,
            lifetime=lifetime,
            is_sandbox=lambda: sources.is_sandbox,
            needs=BLOCK_CHECKS[1:] if store_block else (),
        ),
        clock_check(clock, after=("service", "bucket")),
        *prefect_checks(credentials_block, store_block, pool),
    ]
    with checking(quiet=json):
        findings = asyncio.run(run_checks(checks))
    conclude(findings, as_json=json)


def conclude(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print what was found, and end with exit code 3 if something is broken.

    Raises:
        SystemExit: something is broken.
    """
    from flows.doctor_output import print_findings
    from runcomfy.checkup import Mark

    print_findings(findings, as_json=as_json)
    if any(finding.mark is Mark.BROKEN for finding in findings):
        raise SystemExit(exit_code(ConfigurationError("Something is broken.")))
