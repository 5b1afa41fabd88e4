"""A local RunComfy: the Model API over real HTTP, with a queue, real videos, faults on demand, and a ledger.

It needs the extra `sandbox` (`pip install "prefect-runcomfy[sandbox]"`).

`running` starts it with its `settings`, `server` has the routes, `api` the calls over the `models`; `job_queue` holds
the requests and `ledger` counts them. `faults` lists what can go wrong, `fault_registry` says which fault is due, and
`answers`, `files`, `remaking` and `defects` carry it out. `renderer` makes the outputs by `render` and `output_file`;
`objectstore` is a real S3 server beside it.
"""

from __future__ import annotations

from runcomfy.sandbox.faults import FAULTS, Fault
from runcomfy.sandbox.ledger import RequestEntry, RequestLedger
from runcomfy.sandbox.running import Sandbox, serving
from runcomfy.sandbox.settings import SandboxSettings

__all__ = ["FAULTS", "Fault", "RequestEntry", "RequestLedger", "Sandbox", "SandboxSettings", "serving"]
