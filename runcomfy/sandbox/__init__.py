"""A local RunComfy: the Model API over real HTTP, with a queue, real videos, faults on demand, and books.

It needs the extra `sandbox` (`pip install 'prefect-runcomfy[sandbox]'`).
"""

from __future__ import annotations

from runcomfy.sandbox.faults import FAULTS, Fault
from runcomfy.sandbox.ledger import RequestEntry, RequestLedger
from runcomfy.sandbox.running import Sandbox, serving
from runcomfy.sandbox.settings import SandboxSettings

__all__ = ["FAULTS", "Fault", "RequestEntry", "RequestLedger", "Sandbox", "SandboxSettings", "serving"]
