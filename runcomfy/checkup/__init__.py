"""Look at a set-up as it is used: service, bucket, clock; say what is wrong and what mends it. Nothing is paid for."""

from __future__ import annotations

from runcomfy.checkup.bucket import Bucket, bucket_checks
from runcomfy.checkup.clock import Clock, clock_check
from runcomfy.checkup.findings import Finding, Mark, Verdict, broken, not_checked, ok, warning
from runcomfy.checkup.running import Check, run_checks
from runcomfy.checkup.service import Account, service_checks

__all__ = [
    "Account",
    "Bucket",
    "Check",
    "Clock",
    "Finding",
    "Mark",
    "Verdict",
    "broken",
    "bucket_checks",
    "clock_check",
    "not_checked",
    "ok",
    "run_checks",
    "service_checks",
    "warning",
]
