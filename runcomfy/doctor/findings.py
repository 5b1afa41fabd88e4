"""What a check found: a mark, what was seen, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runcomfy.errors import RunComfyError
from runcomfy.redaction import redact

__all__ = ["CheckResult", "Diagnosis", "Mark", "broken", "not_checked", "ok", "refused", "warning"]


class Mark(StrEnum):
    """What a check found, as one word."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Diagnosis:
    """What a check says; it holds no secret.

    Args:
        mark: Whether it works.
        found: What was seen.
        advice: What to do, if anything.
    """

    mark: Mark
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", redact(self.found))
        object.__setattr__(self, "advice", redact(self.advice))


@dataclass(frozen=True)
class CheckResult:
    """A diagnosis, and what it is about."""

    area: str
    name: str
    verdict: Diagnosis

    @property
    def mark(self) -> Mark:
        """Whether it works."""
        return self.verdict.mark


def ok(found: str) -> Diagnosis:
    """Say that it works."""
    return Diagnosis(Mark.OK, found)


def warning(found: str, advice: str) -> Diagnosis:
    """Say that it works, and what may go wrong."""
    return Diagnosis(Mark.WARNING, found, advice)


def broken(found: str, advice: str) -> Diagnosis:
    """Say that it does not work, and how to fix it."""
    return Diagnosis(Mark.BROKEN, found, advice)


def not_checked(reason: str) -> Diagnosis:
    """Say why it could not be checked."""
    return Diagnosis(Mark.NOT_CHECKED, reason)


def refused(error: RunComfyError, advice: str = "") -> Diagnosis:
    """Call something broken by its error, whose first part says what happened, and the rest what to do."""
    happened, _, fix = error.message.partition(". ")
    if not (fix or advice):
        happened, _, fix = error.message.partition(": ")
    return broken(f"{happened.rstrip('.')}.", advice or f"{fix[:1].upper()}{fix[1:]}" or "Fix this setting.")
