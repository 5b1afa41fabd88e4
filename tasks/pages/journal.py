"""The page of `reconcile`: generations that wait for a person, with the commands to paste, and then the others."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from blocks import MediaStore
from runcomfy.doctor.drift import Drift
from runcomfy.journal import Finding
from runcomfy.journal.advice import advise
from runcomfy.journal.situation import Situation
from runcomfy.texts import prompt_of
from tasks.pages.markdown import advised, code, console, store_options, text

__all__ = ["decision", "journal_page", "summed_up"]

_MOST_SHOWN = 50
_LOOKS = ("diff", "refresh")


def summed_up(findings: Sequence[Finding]) -> str:
    """Return how many generations were checked, and how many are finished or need a person, as a line."""
    ready, waiting = (sum(getattr(finding, what) for finding in findings) for what in ("ready", "needs_person"))
    return f"{len(findings):,} open generations looked at, {ready:,} finished, {waiting:,} wait for a person"


def journal_page(
    findings: Sequence[Finding], failures: Mapping[str, str], store: MediaStore, drifts: Sequence[Drift] = ()
) -> str:
    """Return the page.

    Args:
        findings: What was found of each open generation.
        failures: Finished ones that could not be archived, by their keys, and why.
        store: Whose journal it is.
        drifts: What the catalogue says of the pinned models.
    """
    waiting = [finding for finding in findings if finding.needs_person]
    others = [finding for finding in findings if not finding.needs_person]
    lines = [f"The journal: {code(store.get_journal().store.where)}"]
    if waiting:
        lines += ["### Wait for a person", *(decision(each, store) for each in waiting[:_MOST_SHOWN])]
    if others:
        lines += ["### The others", "\n".join(_other(each, failures) for each in others[:_MOST_SHOWN])]
    if max(len(waiting), len(others)) > _MOST_SHOWN:
        lines += [f"{_MOST_SHOWN} of each are shown; these are all:"]
        lines += [console(command) for command in store_options(store).journal_list]
    return "\n\n".join([*lines, *_models(drifts, store)])


def _models(drifts: Sequence[Drift], store: MediaStore) -> list[str]:
    """Return what is said of pinned models; nothing where the catalogue says what their pins say."""
    changed, unknown = [each for each in drifts if each.changes], [each for each in drifts if each.unknown]
    lines = []
    if changed:
        where = store_options(store).for_journal
        said = [f"- {text(each.model_id)}: {text('; '.join(each.changes), longest=500)}" for each in changed]
        commands = [["prefect-runcomfy", "models", what, changed[0].model_id, *where] for what in _LOOKS]
        lines += [
            "### Models that the catalogue describes otherwise by now",
            "Runs go by their pins; what the service refuses costs nothing. See the difference, and take it over:",
            "\n".join(said[:_MOST_SHOWN]),
            *map(console, map(shlex.join, commands)),
        ]
    if unknown:
        named = ", ".join(text(each.model_id) for each in unknown[:_MOST_SHOWN])
        lines.append(f"Not known whether the catalogue describes them otherwise ({text(unknown[0].unknown)}): {named}")
    return lines


def decision(finding: Finding, store: MediaStore) -> str:
    """Return what is known of a generation that waits for a person, and what to do about it.

    Args:
        finding: What was found of it.
        store: The store of its journal.
    """
    entry = finding.entry
    prompt = prompt_of(entry.inputs)
    situation = Situation.of(entry, news=finding.news, stuck=finding.stuck, overdue=finding.overdue)
    advice = advise(situation, store_options(store))
    lines = [
        _summary(finding),
        f"- Submitted: {entry.submitted_at:%Y-%m-%d %H:%M:%S} UTC" if entry.submitted_at else "",
        f"- Begun: {entry.created_at:%Y-%m-%d %H:%M:%S} UTC" if not entry.submitted_at else "",
        f"- Prompt: {text(prompt, longest=120)}" if prompt else "",
        f"- Known of it: {text(advice.happened, longest=300)}" if advice.happened else "",
        f"- Paid for? {advice.paid}",
    ]
    return "\n".join(filter(None, lines)) + f"\n\n{advised(advice)}"


def _other(finding: Finding, failures: Mapping[str, str]) -> str:
    news = failures.get(finding.entry.generation_key) or finding.news
    return f"- {_summary(finding)}" + (f": {text(news, longest=300)}" if news else "")


def _summary(finding: Finding) -> str:
    entry = finding.entry
    request = f", request {code(entry.request_id)}" if entry.request_id else ""
    return f"**{entry.state}**: generation {code(entry.generation_key[:12])}{request}, {text(entry.model_id)}"
