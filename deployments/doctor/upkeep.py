"""The checks of what lets a deployment heal itself: heartbeats, automations, queue of `reconcile`, leases, slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import WorkPool, WorkQueue, WorkQueueStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation
from prefect.exceptions import ObjectNotFound

from deployments.automations import CRASHED, DEAD, PENDING, dead, reconcile_among, same
from runcomfy.doctor import Diagnosis, broken, not_checked, ok, warning
from tasks.runtime.heartbeats import FREQUENCY, default_frequency, frequencies, patience
from tasks.upkeep.held import slots_held

__all__ = ["UPKEEP_QUEUE", "Deployed", "UpkeepChecks", "how_to_start", "starts_by_itself"]

UPKEEP_QUEUE = "upkeep"
"""The work queue of `reconcile`, which has the highest priority in its pool."""

_SETUP = "`python -m deployments.setup --update`"
_AUTOMATE = "Run `python -m deployments.setup --automations --update`."
_DEPLOY = "`prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml`"
_DURABLE = "prefect.server.concurrency.lease_storage.filesystem"
_NOTHING = not_checked("because nothing is deployed")


@dataclass
class Deployed:
    """What earlier checks found of this project on the server."""

    deployments: list[DeploymentResponse] = field(default_factory=list)
    pools: list[WorkPool] = field(default_factory=list)

    def frequencies(self) -> dict[str, int]:
        """Return the seconds between two heartbeats, by deployment and work pool."""
        return frequencies(self.deployments, {pool.name: pool.base_job_template for pool in self.pools})


class UpkeepChecks:
    """The checks themselves.

    Args:
        deployed: What is deployed; the checks before these fill it in.
        limit: Returns the name of the account's concurrency limit, if it has one.
    """

    def __init__(self, deployed: Deployed, limit: Any) -> None:
        self._deployed, self._limit = deployed, limit

    async def heartbeats(self) -> Diagnosis:
        """Check how often runs send heartbeats."""
        if not self._deployed.deployments:
            return _NOTHING
        found = self._deployed.frequencies()
        slowest = max(found.values())
        if slowest <= FREQUENCY:
            return ok(f"every {FREQUENCY} s")
        slow = sorted(name for name, seconds in found.items() if seconds == slowest)
        why = " (Prefect's own)" if slowest == default_frequency() else ""
        return warning(
            f"Every {slowest} s{why}: {', '.join(slow)}. A dead run is noticed after {_seconds(patience(slowest))}.",
            f"Run {_SETUP}, then {_DEPLOY}; start `python -m deployments.serve` again.",
        )

    async def automations(self) -> Diagnosis:
        """Compare the automations with the wanted ones, above all their waiting times with the heartbeats."""
        if not self._deployed.deployments:
            return _NOTHING
        async with get_client() as client:
            found = {name: await client.read_automations_by_name(name) for name in (DEAD, PENDING, CRASHED)}
        slowest = max(self._deployed.frequencies().values())
        for each in found[DEAD]:
            within = each.trigger.within if each.trigger.type == "event" else None
            if each.enabled and within is not None and within < patience(slowest):
                return broken(
                    f"“{each.name}” waits for {_seconds(within)}, and heartbeats come every {slowest} s: it marks "
                    f"healthy runs as crashed. It takes {_seconds(patience(slowest))}.",
                    _AUTOMATE,
                )
            if each.enabled and (within is None or not same(each, dead(within))):
                return broken(f"“{each.name}” is of another version: it may mark runs as crashed that rest.", _AUTOMATE)
        missing = [name for name, existing in found.items() if not existing]
        if missing:
            return warning(f"Missing: {_quoted(missing)}. What dies stays as it is for up to ten minutes.", _AUTOMATE)
        off = [each.name for existing in found.values() for each in existing if not each.enabled]
        if off:
            return warning(f"Switched off: {_quoted(off)}.", "Switch them on at the page Automations.")
        reconcile = reconcile_among(self._deployed.deployments)
        if reconcile is None or str(reconcile.id) not in _started_by(found[CRASHED]):
            return broken(f"“{CRASHED}” starts a deployment that is gone, or another one.", f"{_DEPLOY}; {_AUTOMATE}")
        silence = max(_within(each) for each in found[DEAD])
        return ok(f"a dead run is marked after {silence:g} s, and a crash starts reconcile")

    async def upkeep(self) -> Diagnosis:
        """Make sure that `reconcile` starts, however many generations wait or are dead."""
        reconcile = reconcile_among(self._deployed.deployments)
        if reconcile is None:
            return _NOTHING if not self._deployed.deployments else not_checked("because reconcile is not deployed")
        pool = next((each for each in self._deployed.pools if each.name == reconcile.work_pool_name), None)
        if pool is None:
            return not_checked("because reconcile is served, without a work pool")
        async with get_client() as client:
            queues = await client.read_work_queues(work_pool_name=pool.name)
            active = await _active(client, pool)
        queue = next((each for each in queues if each.name == reconcile.work_queue_name), None)
        if queue is not None and queue.is_paused:
            return broken(
                f"The work queue {pool.name}/{queue.name} is paused: reconcile does not start.",
                f"Run `prefect work-queue resume {queue.name} --pool {pool.name}`.",
            )
        if not starts_by_itself(pool) and queue is not None and queue.status not in (None, WorkQueueStatus.READY):
            return broken(
                f"No worker polls the work queue {pool.name}/{queue.name}: reconcile waits.",
                f"Start one: {how_to_start(pool)}; without names, it polls every queue.",
            )
        if pool.concurrency_limit is not None and active >= pool.concurrency_limit:
            return broken(
                f"{active} runs fill the limit of {pool.name} ({pool.concurrency_limit}): reconcile waits.",
                f"Run `prefect work-pool clear-concurrency-limit {pool.name}`; a worker's --limit bounds what it runs.",
            )
        if queue is None or queue.name != UPKEEP_QUEUE or _is_behind(queue, queues):
            return warning(
                f"reconcile waits behind generations: it is not in a work queue {UPKEEP_QUEUE} of priority 1.",
                f"Run {_SETUP}, then {_DEPLOY}.",
            )
        if pool.concurrency_limit is not None:
            return warning(
                f"The work pool {pool.name} has a limit of {pool.concurrency_limit} runs, which counts dead ones: full "
                "of them, it holds up reconcile.",
                f"Run `prefect work-pool clear-concurrency-limit {pool.name}`; a worker's --limit bounds what it runs.",
            )
        polled = "" if starts_by_itself(pool) else ", and is polled"
        return ok(f"the work queue {pool.name}/{queue.name} goes first{polled}")

    async def leases(self) -> Diagnosis:
        """Ask the server where it keeps the leases of concurrency slots."""
        async with get_client() as client:
            try:
                settings = (await client.request("GET", "/admin/settings")).json()
                kept = str(settings["server"]["concurrency"]["lease_storage"])
            except (httpx.HTTPStatusError, KeyError, TypeError, ValueError):
                return not_checked("the server does not say where it keeps them")
        if kept.endswith(".memory"):
            return warning(
                "In the server's memory: a restart forgets who holds slots, and they stay taken.",
                f"Start the server with PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE={_DURABLE}.",
            )
        return ok(f"kept over a restart ({kept})")

    async def slots(self) -> Diagnosis:
        """Compare the slots that are taken with the live runs."""
        if not self._deployed.deployments:
            return _NOTHING
        try:
            name = await self._limit()
        except ObjectNotFound:
            name = ""
        async with get_client() as client:
            held = await slots_held(client, [name] if name else [])
        leaked = [each for each in held if each.leaked and not each.note]
        if leaked:
            text = ", ".join(f"{each.leaked} of {each.limit} of {each.name}" for each in leaked)
            return warning(f"Held by no run that is known: {text}.", "`reconcile` frees what nobody holds for sure.")
        return ok(f"{sum(each.active for each in held)} taken, by runs that are alive")


def starts_by_itself(pool: WorkPool) -> bool:
    """Whether Prefect Cloud starts the pool's runs, so that no worker is needed."""
    return pool.is_push_pool or pool.is_managed_pool


def how_to_start(pool: WorkPool) -> str:
    """Return the command that starts a worker: ours for a pool of processes, which shuts its runs down gracefully."""
    program = "python -m deployments.worker" if pool.type == "process" else "prefect worker start"
    return f"`{program} --pool {pool.name}`"


async def _active(client: PrefectClient, pool: WorkPool) -> int:
    """Return how many runs the pool's limit counts."""
    if pool.concurrency_limit is None:
        return 0
    answer = await client.request(
        "POST",
        "/flow_runs/count",
        json={
            "work_pools": {"name": {"any_": [pool.name]}},
            "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}},
        },
    )
    return int(answer.json())


def _is_behind(queue: WorkQueue, queues: Sequence[WorkQueue]) -> bool:
    return any(other.priority <= queue.priority for other in queues if other.id != queue.id)


def _started_by(automations: Sequence[Automation]) -> set[str]:
    return {str(getattr(action, "deployment_id", "")) for each in automations for action in each.actions}


def _within(automation: Automation) -> float:
    return float(automation.trigger.within.total_seconds()) if automation.trigger.type == "event" else 0.0


def _seconds(duration: Any) -> str:
    return f"{duration.total_seconds():g} s"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)
