"""What the page of `reconcile` says: what waits for a person, with what to type, and what became of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blocks import MediaStore
from runcomfy.commands import typed
from runcomfy.journal import EntryState, Finding
from tasks.command_line import archive_options, journal_options
from tasks.markdown import code, console, text

__all__ = ["decision", "journal_page", "summed_up"]

_MOST_SHOWN = 50
_ADOPTED = (EntryState.UNCERTAIN, EntryState.EXPIRED)
_WHAT_TO_DO = (
    "Look for each in RunComfy's dashboard. If it is there, adopt it, where that is offered; if it is not, or is given "
    "up, release it, and the next run submits it again."
)


def summed_up(findings: Sequence[Finding]) -> str:
    """Return how many generations were looked at, and how many need something, as a line."""
    ready, waiting = (sum(getattr(finding, what) for finding in findings) for what in ("ready", "needs_person"))
    return f"{len(findings):,} open generations looked at, {ready:,} finished, {waiting:,} wait for a person"


def journal_page(findings: Sequence[Finding], failures: Mapping[str, str], store: MediaStore) -> str:
    """Return the page.

    Args:
        findings: What was found of each open generation.
        failures: Finished ones that could not be archived, by their keys, and why.
        store: Whose journal it is.
    """
    waiting = [finding for finding in findings if finding.needs_person]
    others = [finding for finding in findings if not finding.needs_person]
    lines = [f"The journal: {code(store.get_journal().place.where)}"]
    if waiting:
        lines += ["### Wait for a person", _WHAT_TO_DO, *(decision(each, store) for each in waiting[:_MOST_SHOWN])]
    if others:
        lines += ["### The others", "\n".join(_other(each, failures) for each in others[:_MOST_SHOWN])]
    if max(len(waiting), len(others)) > _MOST_SHOWN:
        lines += [f"{_MOST_SHOWN} of each are shown; these are all:"]
        lines += [console(typed("journal", "list", *journal_options(store)))]
    return "\n\n".join(lines)


def decision(finding: Finding, store: MediaStore) -> str:
    """Return what is known of a generation that waits for a person, and the commands that decide about it.

    Args:
        finding: What was found of it.
        store: Whose journal it is in.
    """
    entry = finding.entry
    key, prompt, why = entry.generation_key[:12], entry.inputs.get("prompt"), finding.news or entry.reason
    release = typed("journal", "release", key, *journal_options(store))
    adopt = typed("journal", "adopt", key, entry.request_id or "REQUEST_ID", *archive_options(store))
    lines = [
        _said(finding),
        f"- Submitted: {entry.submitted_at:%Y-%m-%d %H:%M:%S} UTC" if entry.submitted_at else "",
        f"- Begun: {entry.created_at:%Y-%m-%d %H:%M:%S} UTC" if not entry.submitted_at else "",
        f"- Prompt: {text(prompt, longest=120)}" if prompt else "",
        f"- Known of it: {text(why, longest=300)}" if why else "",
    ]
    return "\n".join(filter(None, lines)) + f"\n\n{console(*([adopt] if entry.state in _ADOPTED else []), release)}"


def _other(finding: Finding, failures: Mapping[str, str]) -> str:
    news = failures.get(finding.entry.generation_key) or finding.news
    return f"- {_said(finding)}" + (f": {text(news, longest=300)}" if news else "")


def _said(finding: Finding) -> str:
    entry = finding.entry
    request = f", request {code(entry.request_id)}" if entry.request_id else ""
    return f"**{entry.state}**: generation {code(entry.generation_key[:12])}{request}, {text(entry.model_id)}"
