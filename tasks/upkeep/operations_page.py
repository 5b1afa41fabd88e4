"""The operations page: what needs a person first, then what was run again or ended, runs, waits, and holds slots."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import StateType

from blocks import MediaStore
from runcomfy.journal import Finding
from tasks.pages.artifacts import show
from tasks.pages.markdown import bullets, code, table, text
from tasks.upkeep.facts import Facts, HeldSlots, RunFacts
from tasks.upkeep.healing import Healed, Healing
from tasks.upkeep.judging import Liveness
from tasks.upkeep.page_parts import clock, clock_on, cut, run_link
from tasks.upkeep.people import needed, people

__all__ = ["headline", "operations_page", "show_operations"]

_MOST_SHOWN = 25
_FORCED = (Liveness.PENDING_ZOMBIE, Liveness.RUNNING_ZOMBIE, Liveness.CANCELLING_ZOMBIE)
_OF_A_DEPLOYMENT = "deployment:"
_UNKNOWN = "Prefect's API did not tell of the flow runs this time; the log of this run says why."


def headline(healed: Healed, findings: Sequence[Finding], slots: Sequence[HeldSlots], review: int = 0) -> str:
    """Return how things are, as a line.

    Args:
        healed: What was found of the runs, and done about them.
        findings: What was found of the journal's open generations.
        slots: The slots of each limit.
        review: How many files that were set aside wait for a decision.
    """
    facts, count = healed.facts, needed(healed, findings) + review
    said = ["nothing needs a person" if not count else f"{count:,} need{'s' * (count == 1)} a person"]
    if facts is not None:
        forced = len(_forced(healed))
        said += [
            f"{facts.waiting:,} waiting",
            f"{len(_at_work(healed)):,} at work",
            f"{len(_again(healed)):,} run again",
            *([f"{forced:,} that nobody worked on ended"] if forced else []),
        ]
    if freed := sum(each.freed for each in slots):
        said.append(f"{freed:,} slots freed")
    return ", ".join(said)


def operations_page(
    healed: Healed, findings: Sequence[Finding], slots: Sequence[HeldSlots], store: MediaStore, review: int = 0
) -> str:
    """Return the page; its length is bounded, however many runs there are.

    Args:
        healed: What was found of the runs, and done about them.
        findings: What was found of the journal's open generations.
        slots: The slots of each limit.
        store: Whose journal it is.
        review: How many files that were set aside wait for a decision.
    """
    facts = healed.facts
    at = f"As of {clock(facts.at)}. " if facts else f"{_UNKNOWN} "
    line = headline(healed, findings, slots, review)
    lines = [f"{at}**{line[:1].upper()}{line[1:]}.**", *people(healed, findings, store, review)]
    if facts is not None:
        lines += [*_done(healed, facts), *_orders(healed, facts)]
    lines += _limits(slots)
    if facts is not None:
        lines += _workers(facts)
    return "\n\n".join(filter(None, lines))


def _done(healed: Healed, facts: Facts) -> list[str]:
    """Say what was done now, and what is known of those that were run again within a day."""
    lines = []
    if forced := _forced(healed):
        said = [f"{run_link(each.judgement.run)}: {text(each.said, longest=300)}" for each in cut(forced, _MOST_SHOWN)]
        lines += ["### Ended, since nobody worked on them", bullets(said, len(forced))]
    if again := _again(healed):
        said = [_again_now(run, state, why, facts) for run, state, why in cut(again, _MOST_SHOWN)]
        lines += ["### Run again, within a day", bullets(said, len(again))]
    failed = [each for each in healed.changes if not each.done]
    if failed:
        said = [f"{run_link(each.judgement.run)}: {text(each.said, longest=300)}" for each in cut(failed, _MOST_SHOWN)]
        lines += ["### Left as they are, since something else was quicker", bullets(said, len(failed))]
    return lines


def _again_now(run: RunFacts, state: str, why: str, facts: Facts) -> str:
    said = f": {text(why, longest=300)}" if why else ""
    return f"{run_link(run)}, {_of(run, facts)}, is **{text(state)}**{said}"


def _orders(healed: Healed, facts: Facts) -> list[str]:
    lines = []
    if at_work := _at_work(healed):
        rows = [
            (
                run_link(run),
                _of(run, facts),
                text(run.state_name),
                clock_on(run.since, facts.at),
                clock_on(run.last_heartbeat, facts.at),
            )
            for run in sorted(at_work, key=lambda run: run.since)
        ]
        names = ("order", "deployment", "is", "since (UTC)", "last heartbeat (UTC)")
        lines += ["### At work", table(names, cut(rows, _MOST_SHOWN), len(rows))]
    if waiting := [run for run in facts.runs if run.state_type is StateType.SCHEDULED]:
        due = [
            (run_link(run), _of(run, facts), text(run.state_name), clock_on(run.scheduled_for, facts.at))
            for run in cut(waiting, _MOST_SHOWN)
        ]
        lines += ["### Waiting", table(("order", "deployment", "is", "is due (UTC)"), due, facts.waiting)]
    return lines


def _limits(slots: Sequence[HeldSlots]) -> list[str]:
    """Return the limits with slots taken, and those of accounts in any case."""
    shown = [
        each for each in slots if each.active or each.freed or each.note or not each.name.startswith(_OF_A_DEPLOYMENT)
    ]
    if not shown:
        return []
    rows = [
        (code(each.name), str(each.limit), str(each.active), str(each.held), _unheld(each), text(each.note))
        for each in cut(shown, _MOST_SHOWN)
    ]
    names = ("limit", "slots", "taken", "held by runs alive", "held by others", "")
    return ["### Limits", table(names, rows, len(shown))]


def _unheld(slots: HeldSlots) -> str:
    """Say what becomes of the other slots that are taken, so that the numbers of a row add up."""
    said = [
        f"{slots.lately} of runs that ended: Prefect frees them within minutes" if slots.lately else "",
        f"{slots.freed} of nobody: freed" if slots.freed else "",
        f"{slots.leaked} of nobody: looked at again" if slots.leaked else "",
    ]
    return ", ".join(filter(None, said)) or "0"


def _workers(facts: Facts) -> list[str]:
    if not facts.workers:
        return []
    rows = [
        (
            code(each.pool),
            code(each.name),
            "online" if each.online else "**offline**",
            clock_on(each.last_heartbeat, facts.at),
        )
        for each in sorted(facts.workers, key=lambda each: (not each.online, each.pool, each.name))
    ]
    return ["### Workers", table(("pool", "worker", "is", "last heartbeat (UTC)"), cut(rows, _MOST_SHOWN), len(rows))]


def _forced(healed: Healed) -> list[Healing]:
    return [each for each in healed.changes if each.done and each.judgement.verdict in _FORCED]


def _at_work(healed: Healed) -> list[RunFacts]:
    """Return the orders that a worker has in hand, without those that were ended now."""
    ended = {each.judgement.run.id for each in _forced(healed)}
    reconciles = {each.id for each in healed.facts.deployments.values() if each.reconciles} if healed.facts else set()
    return [
        each.run
        for each in healed.judgements
        if each.run.state_type in (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
        and each.run.id not in ended
        and each.run.deployment_id not in reconciles
    ]


def _again(healed: Healed) -> list[tuple[RunFacts, str, str]]:
    """Return the orders that were run again now, and within a day, with their states as they are."""
    now = {
        each.judgement.run.id: (each.judgement.run, "AwaitingRetry", each.said)
        for each in healed.changes
        if each.done and each.judgement.verdict is Liveness.AGAIN
    }
    given_up = {each.run.id for each in healed.given_up}  # they are listed above, with the commands
    again = healed.facts.again if healed.facts else ()
    before = {run.id: (run, run.state_name, run.message) for run in again if run.id not in given_up}
    return list((now | {run_id: told for run_id, told in before.items() if run_id not in now}).values())


def _of(run: RunFacts, facts: Facts) -> str:
    deployment = facts.deployments.get(run.deployment_id) if run.deployment_id else None
    return text(deployment.name.partition("/")[2] or deployment.name) if deployment else ""


@task(task_run_name="show the operations page", cache_policy=NO_CACHE)
async def show_operations(
    healed: Healed, findings: Sequence[Finding], slots: Sequence[HeldSlots], store: MediaStore, review: int = 0
) -> None:
    """Make the artifact `runcomfy-operations`.

    Args:
        healed: What was found of the runs, and done about them.
        findings: What was found of the journal's open generations.
        slots: The slots of each limit, compared with the live runs.
        store: Whose journal it is.
        review: How many files that were set aside wait for a decision.
    """
    page, said = operations_page(healed, findings, slots, store, review), headline(healed, findings, slots, review)
    await show(acreate_markdown_artifact(page, key="runcomfy-operations", description=f"{said[:1].upper()}{said[1:]}."))
