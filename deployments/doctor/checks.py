"""The checks of the Prefect server: what deployments of this project need there, and what hinders them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from humanize import naturaldelta
from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import DeploymentStatus, WorkerStatus, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from blocks import MediaStore, RunComfyCredentials
from deployments.doctor.parameters import clear_secrets, lost_blocks
from deployments.doctor.server import has_server, server_answers
from deployments.doctor.upkeep import Deployed, UpkeepChecks, how_to_start, starts_by_itself
from runcomfy.doctor import Check, Diagnosis, broken, not_checked, ok, warning
from tasks.runtime.naming import function_name
from tasks.upkeep.marks import RECONCILE

__all__ = ["BLOCK_CHECKS", "prefect_checks"]

BLOCK_CHECKS = ("credentials block", "store block")
"""The names of the checks of the two blocks."""

_AREA = "Prefect"
_TAG = "runcomfy"
_SETUP = "Run `python -m deployments.setup`."
_DEPLOY = "Deploy: `prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml`."
_ACCOUNT, _STORE = "runcomfy", "videos"
_PAGE = 200


def prefect_checks(credentials_block: str | None, store_block: str | None, pool: str | None) -> list[Check]:
    """Return the checks of the Prefect server that this process is configured to use.

    Args:
        credentials_block: The name of the block that must exist; `None`: the name that setup gives, whose absence is a
            warning only.
        store_block: The same for the store.
        pool: The work pool that must exist; `None`: those of the deployments.
    """
    if not has_server():

        async def no_server() -> Diagnosis:
            return not_checked("PREFECT_API_URL is not set; runs use a temporary one")

        return [Check(_AREA, "server", no_server)]
    deployed = Deployed()
    checks = _PrefectChecks(pool, credentials_block or _ACCOUNT, deployed)
    upkeep = UpkeepChecks(deployed, checks.limit_name)

    def block(kind: type[RunComfyCredentials] | type[MediaStore], name: str | None, usual: str) -> Any:
        return lambda: _block(kind, name or usual, needed=name is not None)

    server, found = ("server",), ("deployments",)
    return [
        Check(_AREA, "server", server_answers),
        Check(_AREA, "block types", checks.block_types, needs=server),
        Check(_AREA, BLOCK_CHECKS[0], block(RunComfyCredentials, credentials_block, _ACCOUNT), needs=("block types",)),
        Check(_AREA, BLOCK_CHECKS[1], block(MediaStore, store_block, _STORE), needs=("block types",)),
        Check(_AREA, "deployments", checks.deployments, needs=server),
        Check(_AREA, "parameters", checks.parameters, needs=found),
        Check(_AREA, "schedules", checks.schedules, needs=found),
        Check(_AREA, "work pool", checks.work_pool, needs=server, after=found),
        Check(_AREA, "worker", checks.worker, needs=("work pool",)),
        Check(_AREA, "limit", checks.limit, needs=BLOCK_CHECKS[:1]),
        Check(_AREA, "late runs", checks.late_runs, needs=found),
        Check(_AREA, "heartbeats", upkeep.heartbeats, needs=found, after=("work pool",)),
        Check(_AREA, "automations", upkeep.automations, needs=found, after=("work pool",)),
        Check(_AREA, "upkeep", upkeep.upkeep, needs=("deployments", "worker")),
        Check(_AREA, "leases", upkeep.leases, needs=server),
        Check(_AREA, "slots", upkeep.slots, needs=found),
    ]


class _PrefectChecks:
    def __init__(self, pool: str | None, account: str, deployed: Deployed) -> None:
        self._pool, self._account = pool, account
        self._deployed = deployed

    @property
    def _deployments(self) -> list[DeploymentResponse]:
        return self._deployed.deployments

    @property
    def _pools(self) -> list[WorkPool]:
        return self._deployed.pools

    async def block_types(self) -> Diagnosis:
        """Make sure that both block types are registered."""
        missing = []
        async with get_client() as client:
            for kind in (RunComfyCredentials, MediaStore):
                try:
                    await client.read_block_type_by_slug(kind.get_block_type_slug())
                except ObjectNotFound:
                    missing.append(kind.get_block_type_slug())
        if missing:
            return broken(f"Not registered: {', '.join(missing)}.", f"{_SETUP} Or: `prefect block register -m blocks`.")
        return ok("registered")

    async def deployments(self) -> Diagnosis:
        """Find this project's, by their tag."""
        async with get_client() as client:
            tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[_TAG]))
            self._deployed.deployments = await client.read_deployments(deployment_filter=tagged, limit=_PAGE)
        if not self._deployments:
            return warning(f"None with the tag {_TAG}: runs are started from here only.", _DEPLOY)
        return ok(f"{len(self._deployments)}: {', '.join(sorted(_label(each) for each in self._deployments))}")

    async def parameters(self) -> Diagnosis:
        """Make sure that blocks are referred to, and that no secret is in clear text."""
        if not self._deployments:
            return _NOTHING_DEPLOYED
        clear = sorted(
            f"{_label(each)}: {place}"
            for each in self._deployments
            for place in (*clear_secrets(each.parameters), *clear_secrets(each.job_variables or {}))
        )
        if clear:
            return broken(
                f"A secret stands in clear text, for all to read: {'; '.join(clear)}.",
                "Refer to a block instead, deploy again, and change the secret: it is known.",
            )
        lost = [
            f"{_label(each)}: {place}" for each in self._deployments async for place in lost_blocks(each.parameters)
        ]
        if lost:
            return broken(
                f"A block that is referred to is gone: {'; '.join(sorted(lost))}.", f"{_SETUP} Then: {_DEPLOY}"
            )
        return ok("blocks by reference, no secrets")

    async def schedules(self) -> Diagnosis:
        """List the deployments that have schedules."""
        if not self._deployments:
            return _NOTHING_DEPLOYED
        active: list[str] = []
        resting: list[str] = []
        for each in self._deployments:
            if each.schedules:
                on = not each.paused and any(schedule.active for schedule in each.schedules)
                (active if on else resting).append(_label(each))
        lines = "; ".join(
            f"{word}: {', '.join(sorted(names))}" for word, names in (("active", active), ("paused", resting)) if names
        )
        if any(_label(each) == RECONCILE for each in self._deployments) and RECONCILE not in active:
            return warning(
                f"reconcile does not run by itself{f' ({lines})' if lines else ''}: late videos wait for a person.",
                "Give it a schedule, every ten minutes say, or resume the one it has.",
            )
        return ok(lines or "none")

    async def work_pool(self) -> Diagnosis:
        """Check the pool that was named, or those of the deployments."""
        names = [self._pool] if self._pool else sorted({each.work_pool_name or "" for each in self._deployments} - {""})
        homeless = [
            _label(each)
            for each in self._deployments
            if each.work_pool_name is None and each.status is not DeploymentStatus.READY
        ]
        if not names and homeless:
            return broken(
                f"Nobody runs {', '.join(sorted(homeless))}: no work pool, and nothing serves them.",
                f"{_SETUP} Then: {_DEPLOY} Or: `python -m deployments.serve`.",
            )
        if not names:
            return not_checked("because nothing is deployed to one")
        async with get_client() as client:
            for name in names:
                try:
                    self._pools.append(await client.read_work_pool(name))
                except ObjectNotFound:
                    return broken(f"There is no work pool {name}.", _SETUP)
        for pool in self._pools:
            if pool.is_paused or pool.concurrency_limit == 0:
                why = "paused" if pool.is_paused else "limited to 0 runs"
                return broken(f"{pool.name} is {why}: nothing starts.", f"Run `prefect work-pool resume {pool.name}`.")
        return ok(", ".join(f"{_called(pool)}, {_at_once(pool.concurrency_limit)}" for pool in self._pools))

    async def worker(self) -> Diagnosis:
        """Make sure that each pool that needs a worker has one online."""
        lines = []
        async with get_client() as client:
            for pool in self._pools:
                if starts_by_itself(pool):
                    lines.append(f"{pool.name} needs none: Prefect starts its runs")
                    continue
                workers = await client.read_workers_for_work_pool(pool.name)
                online = [worker.name for worker in workers if worker.status == WorkerStatus.ONLINE]
                if not online:
                    return broken(
                        f"No worker is online for {pool.name}: runs wait for one.",
                        f"Start one: {how_to_start(pool)}.",
                    )
                lines.append(f"{len(online)} online: {', '.join(sorted(online))}")
        return ok("; ".join(lines))

    async def limit(self) -> Diagnosis:
        """Check the global concurrency limit that the account names; without it, no generation begins."""
        slug = RunComfyCredentials.get_block_type_slug()
        try:
            name = await self.limit_name()
        except ObjectNotFound:
            return not_checked("because there is no block that could name one")
        if not name:
            return ok(f"none: {slug}/{self._account} names none")
        async with get_client() as client:
            try:
                limit = await client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                return broken(
                    f"There is no limit {name}, which {slug}/{self._account} names: nothing starts.",
                    f"Run `prefect gcl create {name} --limit 5`, or leave it empty in the block.",
                )
        if not limit.active:
            return warning(f"{name} is not active: nothing is bounded.", f"Run `prefect gcl enable {name}`.")
        if limit.limit == 0:
            return broken(f"{name} is 0: nothing starts.", f"Run `prefect gcl update {name} --limit 5`.")
        return ok(f"{name}: {limit.active_slots} of {limit.limit} in use")

    async def limit_name(self) -> str:
        """Return the name of the account's concurrency limit; empty if it has none.

        Raises:
            ObjectNotFound: there is no block of the account.
        """
        slug = RunComfyCredentials.get_block_type_slug()
        async with get_client() as client:
            block = await client.read_block_document_by_name(self._account, slug, include_secrets=False)
        return str(block.data.get("concurrency_limit") or "")

    async def late_runs(self) -> Diagnosis:
        """Count the runs that should have begun."""
        if not self._deployments:
            return _NOTHING_DEPLOYED
        async with get_client() as client:
            late = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    deployment_id=FlowRunFilterDeploymentId(any_=[each.id for each in self._deployments]),
                    state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Late"])),
                ),
                limit=_PAGE,
            )
        if not late:
            return ok("none")
        since = min(run.expected_start_time for run in late if run.expected_start_time)
        count = f"{len(late)}{' or more' if len(late) == _PAGE else ''}"
        return warning(
            f"{count}, the oldest for {naturaldelta(datetime.now(UTC) - since)}.",
            "Start a worker, or raise the limits that hold them up.",
        )


_NOTHING_DEPLOYED = not_checked("because nothing is deployed")


async def _block(kind: type[RunComfyCredentials] | type[MediaStore], name: str, *, needed: bool) -> Diagnosis:
    slug = kind.get_block_type_slug()
    async with get_client() as client:
        try:
            await client.read_block_document_by_name(name, slug, include_secrets=False)
        except ObjectNotFound:
            found = f"There is no block {slug}/{name}."
            return broken(found, f"{_SETUP} Or name another one.") if needed else warning(found, _SETUP)
    return ok(f"{slug}/{name}")


def _label(deployment: DeploymentResponse) -> str:
    """Return the name of its flow's function: served deployments all have one name."""
    return function_name(deployment.entrypoint) or deployment.name


def _called(pool: WorkPool) -> str:
    return pool.name if pool.type == "process" else f"{pool.name} of type {pool.type}"


def _at_once(limit: int | None) -> str:
    return "any number of runs at once" if limit is None else f"{limit} runs at once"
