"""Collect finished requests that no run waited for, and tidy up: for a schedule, and safe beside runs at work."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from blocks import MediaStore, RunComfyCredentials
from runcomfy.generation.reconcile import JournalCheck, Reconciliation, collect, need_a_person
from runcomfy.journal import Entry, inputs_of, submission_of
from runcomfy.storage.garbage import Collected
from runcomfy.values import ArchivedVideo
from tasks import archive_outputs
from tasks.heal_runs import heal_runs
from tasks.reconcile import look_over_journal, look_over_pins, report_findings, sweep_store
from tasks.review import count_set_aside
from tasks.runtime.flow import flow
from tasks.runtime.naming import fact, flow_name
from tasks.upkeep.healing import Healed
from tasks.upkeep.held import inspect_slots
from tasks.upkeep.judging import RunAgain
from tasks.upkeep.next_run import COVERED, cover_waiting, covered_by, covering_run, run_again_at
from tasks.upkeep.operations_page import show_operations

__all__ = ["Parts", "PartsFailed", "reconcile"]

_T = TypeVar("_T")


class PartsFailed(Exception):
    """Several parts of a run failed; the others were done."""


class Parts:
    """Runs the parts of a run, and collects the errors of those that fail."""

    def __init__(self) -> None:
        self._failed: dict[str, Exception] = {}

    async def run(self, what: str, part: Awaitable[_T], otherwise: _T) -> _T:
        """Do a part; if it fails, record why and return `otherwise`."""
        try:
            return await part
        except Exception as error:  # any: it is raised at the end
            self.record(what, error)
            return otherwise

    def record(self, what: str, error: Exception | None) -> None:
        """Record that a part failed, if it did."""
        if error is not None:
            get_run_logger().error("Failed: %s (%s: %s). The other parts go on.", what, type(error).__name__, error)
            self._failed[what] = error

    def failed(self, what: str) -> bool:
        """Whether a part failed."""
        return what in self._failed

    def raise_failures(self) -> None:
        """Raise what was recorded.

        Raises:
            PartsFailed: more than one part failed. If only one did, its own error is raised.
        """
        if len(self._failed) == 1:
            raise next(iter(self._failed.values()))
        if self._failed:
            reasons = "; ".join(f"{what}: {type(error).__name__}: {error}" for what, error in self._failed.items())
            raise PartsFailed(f"The other parts were done, but these failed: {reasons}") from next(
                iter(self._failed.values())
            )


_RUN_AGAIN = RunAgain()


@flow(
    name="reconcile",
    flow_run_name=flow_name(lambda given: f"reconcile-{fact(given['store'], 'bucket')}", otherwise="reconcile"),
)
async def reconcile(
    credentials: RunComfyCredentials,
    store: MediaStore,
    abandoned_after_seconds: Annotated[float, Field(ge=0)] = 900,
    uploads_older_than_hours: Annotated[float, Field(ge=1)] = 24,
    images_older_than_days: Annotated[float, Field(ge=2)] | None = None,
    run_again: RunAgain = _RUN_AGAIN,
) -> Reconciliation | State[Any]:
    """Archive what has finished, find out what became of the rest, report what needs a person, and tidy up.

    If a part fails, the others are still done; the run fails at its end with the errors.

    Args:
        credentials: The RunComfy account that the requests belong to.
        store: The bucket with the journal.
        abandoned_after_seconds: A submitted request that no worker has finished for so long is polled. One whose run is
            known to have ended is polled at once.
        uploads_older_than_hours: Unfinished multipart uploads that are older are aborted; a live one takes minutes.
        images_older_than_days: Staged images that nobody has staged for so long are deleted; empty keeps them all.
        run_again: How often, how soon and for how long crashed orders are run again; `times` 0 runs none.
    """
    parts = Parts()
    covering = await parts.run("whether another run did this", covering_run(), None)
    if covering is not None:
        return Completed(name=COVERED, message=covered_by(covering))
    healed = await parts.run("the flow runs", heal_runs(run_again), Healed(None))
    if healed.facts is None and not parts.failed("the flow runs"):
        parts.record("the flow runs", PartsFailed("Prefect's API could not be asked about them"))
    check = await parts.run(
        "the journal",
        look_over_journal(credentials, store, abandoned_after_seconds=abandoned_after_seconds),
        JournalCheck([]),
    )
    parts.record("the flow runs of open generations", check.trouble)
    findings = check.findings
    collected, failures = await collect(findings, lambda entry: _archived(entry, credentials, store))
    garbage = Collected([], [])
    if not parts.failed("the journal"):  # it says which images are still needed
        collecting = sweep_store(
            store,
            findings,
            uploads_older_than=timedelta(hours=uploads_older_than_hours),
            images_older_than=None if images_older_than_days is None else timedelta(days=images_older_than_days),
        )
        garbage = await parts.run("the garbage collection in the bucket", collecting, garbage)
    slots = await parts.run("the slots", inspect_slots(credentials.concurrency_limit), None)
    due = [finding.due for finding in findings if finding.due]
    reasons = [f"{len(due)} request(s) that nobody waits for are due then"] if due else []
    if slots is not None and slots.due is not None:
        due.append(slots.due)
        reasons.append("slots that no run holds may be freed then")
    if healed.suspects_due is not None:
        due.append(healed.suspects_due)
        reasons.append("a run that has been silent for long counts as dead then")
    next_look_at = None
    if due:
        next_look_at = await parts.run("the next run", run_again_at(min(due), "; ".join(reasons)), None)
    drifts = await parts.run("the pinned models", look_over_pins(credentials, store), [])
    await parts.run("the report", report_findings(findings, failures, store, drifts), None)
    held = slots.held if slots else ()
    review = await parts.run("what was set aside", count_set_aside(store), 0)
    await parts.run("the operations page", show_operations(healed, findings, held, store, review), None)
    parts.raise_failures()
    await cover_waiting()
    return Reconciliation(
        open=len(findings),
        collected=collected,
        failures=failures,
        need_a_person=need_a_person(findings),
        aborted_uploads=garbage.uploads,
        removed_images=garbage.images,
        freed_slots={each.name: each.freed for each in slots.held if each.freed} if slots else {},
        next_look_at=next_look_at,
    )


async def _archived(entry: Entry, credentials: RunComfyCredentials, store: MediaStore) -> list[ArchivedVideo]:
    return await archive_outputs(
        entry.request_id or "",
        credentials,
        store,
        model_id=entry.model_id,
        inputs=inputs_of(entry),
        staged=entry.files,
        submission=submission_of(entry),
        # nobody waits for this run's answer, so nothing fails; the verdict is on its page
        on_defect="set_aside" if store.on_defect == "set_aside" else "keep",
    )
