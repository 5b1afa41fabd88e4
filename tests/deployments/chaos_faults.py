"""Faults: what the chaos script kills, stops and cancels, and which runs that hit."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from runcomfy.sandbox import Sandbox
from tests.deployments.chaos_api import Api
from tests.deployments.chaos_orders import Orders
from tests.deployments.chaos_processes import Sampler, descendants, kill, kill_tree, processes_of
from tests.deployments.stack import Stack

__all__ = ["KINDS", "Fault", "Faults"]

KINDS = (
    "run killed", "worker killed", "machine lost", "server killed", "services killed", "worker redeployed",
    "run cancelled", "killed while pending", "killed in the paid call",
)  # fmt: skip
_LATE_ANSWER_SECONDS = 15.0
_NEXT_PAID_CALL_SECONDS = 120.0  # where all slots are taken, a running one has to end first
_T = TypeVar("_T")


@dataclass
class Fault:
    """One fault: what was done, when, and which runs had a process that it ended."""

    kind: str
    at: datetime
    struck: list[str] = field(default_factory=list)
    detail: str = ""
    missed: bool = False
    """Whether there was nothing that it could strike."""


@dataclass
class Faults:
    """Causes one fault after the other.

    Args:
        stack: The processes to kill.
        api: Its server.
        orders: The orders whose runs are cancelled.
        sandbox: The service, whose paid call answers late.
        sampler: Knows which runs have a living process.
        draws: The random choices.
        log: Records what was done.
        seconds: How long to wait at most for something that a fault can hit.
        while_pending: Whether workers are also killed while runs are starting; a run that dies then is
            noticed after five minutes, one that dies Running after half of that.
    """

    stack: Stack
    api: Api
    orders: Orders
    sandbox: Sandbox
    sampler: Sampler
    draws: random.Random
    log: Callable[..., None]
    seconds: float = 30.0
    while_pending: bool = True
    done: list[Fault] = field(default_factory=list)

    def deck(self, count: int, among: Sequence[str] = KINDS) -> list[str]:
        """Return this many kinds: each of them before any comes again."""
        kinds = [kind for kind in among if kind != "services killed" or "services" in self.stack.processes]
        found: list[str] = []
        while len(found) < count:
            found += self.draws.sample(kinds, len(kinds))
        return found[:count]

    def strike(self, kind: str) -> Fault:
        """Cause one fault, and start again what it ended."""
        fault = Fault(kind, datetime.now(UTC))
        acts: dict[str, Callable[[Fault], None]] = {
            "run killed": self._run_killed, "run cancelled": self._run_cancelled,
            "killed while pending": self._pending_killed, "killed in the paid call": self._paid_call_killed,
            "worker killed": self._worker_killed, "machine lost": self._machine_lost,
            "worker redeployed": self._redeployed,
            "server killed": lambda fault: self._part_killed(fault, "server"),
            "services killed": lambda fault: self._part_killed(fault, "services"),
        }  # fmt: skip
        acts[kind](fault)
        self.done.append(fault)
        self.log("fault", **{"fault": kind, "struck": fault.struck, "detail": fault.detail, "missed": fault.missed})
        return fault

    def _run_killed(self, fault: Fault) -> None:
        living = self._until(self.sampler.look)
        self._kill_runs(fault, [self.draws.choice(sorted(living))] if living else [])

    def _run_cancelled(self, fault: Fault) -> None:
        def cancellable() -> list[str]:
            self.orders.find_runs(self.api.runs())
            open_ones = {run["id"] for run in self.api.runs("SCHEDULED", "PENDING", "RUNNING")}
            return [order.run_id for order in self.orders.placed() if order.run_id in open_ones and order.run_id]

        waiting = self._until(cancellable)
        fault.at, fault.missed = datetime.now(UTC), True
        if waiting:
            run_id = self.draws.choice(waiting)
            if self.api.cancel(run_id):
                next(order for order in self.orders.all if order.run_id == run_id).cancelled = True
                fault.detail, fault.missed = run_id, False

    def _pending_killed(self, fault: Fault) -> None:
        """Kill a run whose process is starting; half of the time with its machine."""

        def starting() -> list[str]:
            pending = {run["id"] for run in self.api.runs("PENDING")}
            return sorted(pending & self.sampler.look().keys())

        found = self._until(starting, 0.2)
        if found and self.draws.random() < 0.5:
            self._kill_runs(fault, found[:1])
            return
        pids = self.sampler.look().get(found[0], []) if found else []
        on = [name for name in self.stack.workers if set(pids) & set(descendants(self._pid(name)))]
        if not on:  # none, or one whose worker is gone already
            self._kill_runs(fault, found[:1])
        for name in on[:1]:
            fault.at, fault.detail, fault.struck = datetime.now(UTC), name, self._runs_on(name)
            kill_tree(self._pid(name))
            self._again(name)

    def _paid_call_killed(self, fault: Fault) -> None:
        """Kill a run whose submission the service has accepted but not yet answered."""
        known = {request.id for request in self.sandbox.books().requests}
        self.sandbox.inject("slow", endpoint="submit", times=1, seconds=_LATE_ANSWER_SECONDS)
        new = self._until(
            lambda: [one for one in self.sandbox.books().requests if one.id not in known],
            0.1,
            _NEXT_PAID_CALL_SECONDS,
        )
        self.sandbox.clear_faults()
        self.orders.find_runs(self.api.runs())
        mark = str(new[0].inputs["prompt"]).split(":")[0] if new else ""
        asked = [order for order in self.orders.all if any(prompt.split(":")[0] == mark for prompt in order.prompts)]
        own = {run_id for run_id in (order.run_id for order in asked) if run_id}
        shards = {run["id"] for run in self.api.runs("RUNNING") if mark and mark in str(run["parameters"])}
        self._kill_runs(fault, sorted((own | shards) & self.sampler.look().keys()))

    def _worker_killed(self, fault: Fault) -> None:
        """Kill only the worker's own process; what it started keeps running."""
        name = self._busy_worker(fault)
        kill(self._pid(name))
        self._again(name)

    def _machine_lost(self, fault: Fault) -> None:
        name = self._busy_worker(fault)
        kill_tree(self._pid(name))
        self._again(name)

    def _redeployed(self, fault: Fault) -> None:
        """End a worker as a container is ended: SIGTERM, and after the grace period SIGKILL for all that is left."""
        name = self._busy_worker(fault)
        below = descendants(self._pid(name))
        process = self.stack.processes[name]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self.stack.grace_seconds(name))
        except subprocess.TimeoutExpired:
            fault.detail += " (did not end by SIGTERM)"
        for pid in (*below, *kill_tree(process.pid)):
            if pid in {one.pid for one in processes_of(self.stack.api_url)}:
                kill(pid)
        self._again(name)

    def _part_killed(self, fault: Fault, name: str) -> None:
        kill_tree(self._pid(name))
        self._again(name)

    def _busy_worker(self, fault: Fault) -> str:
        """Return a worker that has runs, or any if none gets one in time."""

        def busy() -> list[str]:
            if not self.while_pending and self.api.runs("PENDING"):
                return []
            return [name for name in self.stack.workers if self._runs_on(name)]

        name = self.draws.choice(self._until(busy) or self.stack.workers)
        fault.at, fault.detail, fault.struck = datetime.now(UTC), name, self._runs_on(name)
        return name

    def _kill_runs(self, fault: Fault, run_ids: Sequence[str]) -> None:
        fault.at, fault.missed = datetime.now(UTC), not run_ids
        living = self.sampler.look()
        for run_id in run_ids:
            for pid in living.get(run_id, []):
                fault.struck.append(run_id)
                kill(pid)
        fault.struck = sorted(set(fault.struck))

    def _again(self, name: str) -> None:
        """Start a process again after some seconds, as `restart: unless-stopped` does."""
        self.stack.processes[name].wait()
        time.sleep(self.draws.uniform(1, 6))
        self.stack.start(name)

    def _runs_on(self, name: str) -> list[str]:
        below = set(descendants(self._pid(name)))
        living = self.sampler.look()
        return sorted(run_id for run_id, pids in living.items() if below & set(pids))

    def _pid(self, name: str) -> int:
        return self.stack.processes[name].pid

    def _until(self, look: Callable[[], _T], every: float = 1.0, seconds: float | None = None) -> _T:
        """Poll until something is found and return it; nothing at the time-out."""
        deadline = time.monotonic() + (seconds or self.seconds)
        while not (found := look()) and time.monotonic() < deadline:
            time.sleep(every)
        return found
