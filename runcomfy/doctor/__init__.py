"""Check a set-up as it is used: service, bucket, clock; say what is wrong and how to fix it. Nothing is paid for.

`service` checks the account, `bucket` the store, with `journal`, `lifecycle` and `signing`, `signature` the signer of
files, and `clock` the time; they load their clients. `drift` compares pinned models with the catalogue. `running` runs
the checks at once, and `findings` is what they return.
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
