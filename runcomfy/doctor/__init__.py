"""Look at a set-up as it is used: service, bucket, clock; say what is wrong and what mends it. Nothing is paid for.

What checks the service and the bucket is in `service` and `bucket`, and loads their clients.
"""

from __future__ import annotations

from runcomfy.doctor.clock import ServerClock, clock_check
from runcomfy.doctor.findings import CheckResult, Diagnosis, Mark, broken, not_checked, ok, warning
from runcomfy.doctor.running import Check, run_checks

__all__ = [
    "Check",
    "CheckResult",
    "Diagnosis",
    "Mark",
    "ServerClock",
    "broken",
    "clock_check",
    "not_checked",
    "ok",
    "run_checks",
    "warning",
]
