"""What needs a person, each with what is known of it and with the commands to paste."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.client.schemas.objects import StateType

from blocks import MediaStore
from runcomfy.journal import Finding
from tasks.pages.deciding import review_command
from tasks.pages.journal import decision
from tasks.pages.markdown import bullets, code, console, store_options, text
from tasks.upkeep.facts import Facts
from tasks.upkeep.healing import Healed
from tasks.upkeep.judging import PAUSED, TURNED_OFF, Judgement
from tasks.upkeep.page_parts import clock, run_link

__all__ = ["needed", "people"]

_MOST_SHOWN = 10
_ORDERS = (
    "These orders crashed, and are not run again by themselves. What they have paid for is in the journal, so to run "
    "one again pays nothing twice. To be rid of one, change its state to Cancelled on its page, or delete it."
)


def needed(healed: Healed, findings: Sequence[Finding]) -> int:
    """Return how many things need a person: orders, generations, pools without a worker, paused deployments.

    Args:
        healed: What was found of the runs.
        findings: What was found of the journal's open generations.
    """
    generations = sum(each.needs_person for each in findings)
    held_back = (_without_worker(healed.facts), _paused(healed), _turned_off(healed))
    return generations + len(healed.given_up) + sum(map(len, held_back))


def people(healed: Healed, findings: Sequence[Finding], store: MediaStore, review: int = 0) -> list[str]:
    """Return the part of the page, in Markdown; nothing if nobody is needed.

    Args:
        healed: What was found of the runs.
        findings: What was found of the journal's open generations.
        store: Whose journal it is.
        review: How many files that were set aside wait for a decision.
    """
    given_up = healed.given_up
    waiting = [each for each in findings if each.needs_person]
    lines = [*_without_worker(healed.facts), *_paused(healed), *_turned_off(healed)]
    if given_up:
        lines += [_ORDERS, *(_order(each) for each in given_up[:_MOST_SHOWN])]
        if len(given_up) > _MOST_SHOWN:
            said = f"{len(given_up) - _MOST_SHOWN:,} more have the tag `needs-a-person`: filter the runs page by it."
            lines.append(said)
    if waiting:
        lines += ["These generations wait for a decision:"]
        lines += [decision(each, store) for each in waiting[:_MOST_SHOWN]]
        if len(waiting) > _MOST_SHOWN:
            lines += [
                f"{len(waiting) - _MOST_SHOWN:,} more:",
                *(console(command) for command in store_options(store).journal_list),
            ]
    if review:
        lines += [
            f"{review:,} file{'s' * (review != 1)} that {'was' if review == 1 else 'were'} set aside "
            f"wait{'s' * (review == 1)} for a decision: the deployment {code('review')} shows them, and so does",
            console(review_command("list", None, store_options(store))),
        ]
    return ["### Needs a person", *lines] if lines else []


def _order(judgement: Judgement) -> str:
    run = judgement.run
    known = [
        f"**{run_link(run)}** crashed at {clock(run.since)}; {text(judgement.why)}",
        f"Its state says: {text(run.message, longest=300)}" if run.message else "",
    ]
    return f"{bullets(filter(None, known), 0)}\n\n{console(f'prefect flow-run retry {run.id}')}"


def _without_worker(facts: Facts | None) -> list[str]:
    """Say which pools have orders waiting, and no worker that takes them."""
    if facts is None:
        return []
    scheduled = [run for run in facts.runs if run.state_type is StateType.SCHEDULED]
    waiting = {found.pool for run in scheduled if (found := facts.deployments.get(run.deployment_id or run.id))}
    online = {worker.pool for worker in facts.workers if worker.online}
    return [
        f"Orders wait in the work pool {code(pool)}, and no worker of it is online:\n\n"
        + console(f"python -m deployments.worker --pool {pool}")
        for pool in sorted(filter(None, waiting - online))
    ]


def _paused(healed: Healed) -> list[str]:
    """Say which deployments have crashed orders that are not run again while they are paused."""
    facts = healed.facts
    if facts is None:
        return []
    held = [
        deployment.name
        for each in healed.judgements
        if each.why == PAUSED and (deployment := facts.deployments.get(each.run.deployment_id or each.run.id))
    ]
    return [
        f"{held.count(name):,} crashed orders of {code(name)} are run again once it is resumed: it is paused."
        for name in sorted(set(held))
    ]


def _turned_off(healed: Healed) -> list[str]:
    """Say how many crashed orders nobody runs again, since that is turned off."""
    if not (crashed := sum(each.why == TURNED_OFF for each in healed.judgements)):
        return []
    return [f"{crashed:,} crashed orders are left as they are: {code('run_again')} of this reconcile has `times` 0."]
