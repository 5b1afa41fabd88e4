"""Look at a set-up as it is used: service, bucket, clock; say what is wrong and what mends it. Nothing is paid for.

What checks the service and the bucket is in `service` and `bucket`, and loads their clients.
"""

from __future__ import annotations

from runcomfy.doctor.clock import Clock, clock_check
from runcomfy.doctor.findings import Finding, Mark, Verdict, broken, not_checked, ok, warning
from runcomfy.doctor.running import Check, run_checks

__all__ = [
    "Check",
    "Clock",
    "Finding",
    "Mark",
    "Verdict",
    "broken",
    "clock_check",
    "not_checked",
    "ok",
    "run_checks",
    "warning",
]
