"""What to do now: what happened to a generation, who must act, whether it was paid for, which commands to paste.

Errors, pages, the report and the command line print it and add nothing of their own, so that they all say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC
from enum import StrEnum
from typing import NamedTuple

from runcomfy import errors
from runcomfy.api.refusals import ANOTHER_ACCOUNT
from runcomfy.errors import RunComfyError
from runcomfy.journal.entry import OPEN, EntryState
from runcomfy.journal.situation import Situation
from runcomfy.models import short_name
from runcomfy.redaction import redact
from runcomfy.storage.commands import StoreOptions, shell_command

__all__ = ["Advice", "Command", "Who", "advise", "advise_on_error"]

_S = EntryState
_ACCEPTED = "Yes, or it may be: the request was accepted."
_UNBILLED = "Not known. RunComfy does not say whether such requests are billed."
_MADE = "Yes, and the video was made; to fetch it costs nothing more."
_GOES_ON = "It may be: the request goes on without this run. To collect it costs nothing more."
_PAID: dict[EntryState, str] = {
    _S.INTENT: "Perhaps: it is unknown whether it was accepted.",
    _S.UNCERTAIN: "Perhaps: it is unknown whether it was accepted.",
    _S.SUBMITTED: "It may be: the request was accepted. To collect it costs nothing more.",
    _S.DETACHED: _GOES_ON,
    _S.EXPIRED: _ACCEPTED,
    _S.ARCHIVED: "Yes. RunComfy did not say how much.",
    _S.FAILED: _UNBILLED,
    _S.CANCELLED: _UNBILLED,
    _S.REFUSED: "No. Nothing was accepted by RunComfy.",
    _S.RELEASED: "Perhaps: what was submitted before it was released may be billed.",
    _S.ERASED: "Not by this run. What was submitted before it was erased may have been paid for.",
}
_BY_ITS_WORD = "No, by RunComfy's word: it says that it accepted none of those that were sent."
_PAY_AGAIN = "Change what the reason names, or run it again as it is; either makes and pays for another request."
_COLLECT = "Nothing has to be sent again: run the same inputs again, let `reconcile` collect it, or fetch it."
_IN_MEMORY = "No command reaches its journal, which is a process's memory: another process submits it again, and pays."
_REJECTED = "Nothing: a person rejected its file. Set a variation for another generation of its kind."
_REJECTED_PAID = "Not by this run. What was rejected had been paid for."
_WHEN_DONE = "When it is done, fetch it, which costs nothing more"
_ONCE_FIXED = "Then fetch it, which costs nothing more"


class Who(StrEnum):
    """Who must act before it can continue."""

    NOBODY = "nobody"
    PERSON = "a person"
    RUNCOMFY = "RunComfy"


class Command(NamedTuple):
    """What can be done about it."""

    does: str
    """What it does, and what that costs: a sentence without its full stop."""
    shell: str
    """The command, as a shell takes it."""


@dataclass(frozen=True)
class Advice:
    """What a person wants to know."""

    happened: str
    """Why it is so; empty if that is unknown."""
    who: Who
    paid: str
    """Whether it was paid for, in a sentence."""
    now: str
    """What to do now; code is between backquotes."""
    commands: tuple[Command, ...] = ()
    """The best first."""

    @property
    def text(self) -> str:
        """What to do now with the commands for it, as one paragraph."""
        return " ".join([self.now, *(f"{command.does}: `{command.shell}`." for command in self.commands)])


def advise(situation: Situation, options: StoreOptions) -> Advice:
    """Return what to do about a generation.

    Args:
        situation: What is known of it.
        options: Its media store, as the commands name it.
    """
    who, now, commands = _next(situation, options)
    if who is not Who.NOBODY and situation.state in OPEN and not options.has_journal:
        now = f"{now} {_IN_MEMORY}"
    return Advice(redact(situation.reason), who, _paid(situation), redact(now), tuple(commands))


def advise_on_error(error: RunComfyError, options: StoreOptions, model_id: str | None) -> Advice:
    """Return what to do about the error that a run ended with.

    Args:
        error: The error.
        options: The media store, as the commands name it.
        model_id: The model, if the error does not say it.
    """
    if isinstance(error, errors.OutputRejected):
        generation = Situation(
            state=_S.ARCHIVED, generation_key=error.generation_key or "", model_id=error.model_id or model_id or ""
        )
        happened, commands = error.cause or error.message, tuple(_after_rejection(generation, options))
        return Advice(happened, Who.PERSON, _REJECTED_PAID, _REJECTED, commands)
    if isinstance(error, errors.DefectiveOutput):
        now = "Look at the file. It stays where it is, and a run of the same inputs finds it there."
        return Advice(error.cause or error.message, Who.PERSON, "Yes, and it is archived.", now)
    if situation := Situation.after(error, model_id):
        advice = advise(situation, options)
        return _of_two_generations(advice, situation, options) if error.other_generation_key else advice
    who, now = _without_request(error)
    paid = _PAID[_S.REFUSED]
    if isinstance(error, errors.StorageError):
        paid = "Not by this run; an earlier one may have paid, which the bucket would show."
    elif isinstance(error, errors.RequestNotFound):
        paid = "Not known: RunComfy does not know the request."
    return Advice(error.cause or error.message, who, paid, now)


def _next(situation: Situation, options: StoreOptions) -> tuple[Who, str, Iterable[Command]]:
    adopt, release = _adopt(situation, options), _release(situation, options)
    kind = situation.kind
    match situation.state:
        case _S.INTENT if not (situation.abandoned or situation.stuck):
            return Who.NOBODY, "Wait: a worker is submitting it just now.", ()
        case _S.INTENT | _S.UNCERTAIN:
            return Who.PERSON, f"Look for {_submission(situation)} in RunComfy's dashboard.", [*adopt, *release]
        case _S.EXPIRED:
            now = "It was probably paid for, and the service has forgotten it: look in RunComfy's dashboard."
            return Who.PERSON, now, [*adopt, *release]
        case _S.DETACHED if issubclass(kind, errors.NoOutput):
            fetch = _fetch(situation, options, "If it has a file after all, fetch it, which costs nothing more")
            release = _release(situation, options, "If it has none")
            return Who.PERSON, "Look at the request in RunComfy's dashboard.", [*fetch, *release]
        case _ if situation.stuck:
            return _stuck(situation, options)
        case _S.SUBMITTED:
            now = "Wait: a run polls it; if that one has died, the next run of the same inputs or `reconcile` does."
            return Who.NOBODY, now, ()
        case _S.DETACHED:
            return _detached(situation, options, kind)
        case _S.ARCHIVED if situation.rejected:
            return Who.NOBODY, _REJECTED, _after_rejection(situation, options)
        case _S.ARCHIVED if situation.set_aside:
            return Who.PERSON, "Look at the file, which was set aside, and decide.", _decide(situation, options)
        case _S.ARCHIVED:
            return Who.NOBODY, "Nothing: it is in the bucket.", ()
        case _S.RELEASED:
            return Who.NOBODY, "Nothing: the next run of the same inputs submits it again.", ()
        case _S.ERASED:
            now = "Nothing: it was erased on purpose. Set a variation for another generation of its kind."
            return Who.NOBODY, now, _release(situation, options, "If this very one is wanted again after all")
        case _S.REFUSED if issubclass(kind, errors.StillRateLimited):
            now = (
                f"Look for {situation.model_id or 'such'} requests of the last day in RunComfy's dashboard; if there "
                "is none, run it again when the day is over, with fewer at once."
            )
            return Who.PERSON, now, adopt
        case _S.REFUSED:
            now = "Nothing was paid for: fix what the reason names; the next run of the same inputs submits it again."
            return Who.NOBODY, now, ()
        case _S.FAILED:
            return Who.NOBODY, _PAY_AGAIN, ()
        case _S.CANCELLED:
            now = "It was cancelled while it was queued. Run it again if it is still wanted, which pays again."
            return Who.NOBODY, now, ()


def _detached(
    situation: Situation, options: StoreOptions, kind: type[RunComfyError]
) -> tuple[Who, str, Iterable[Command]]:
    fetch = _fetch(situation, options, _ONCE_FIXED)
    if situation.error_code == str(ANOTHER_ACCOUNT):
        now = "RunComfy knows the request, and not for this account: look at the account."
        return Who.PERSON, now, [*fetch, *_release(situation, options, "If it is given up")]
    if issubclass(kind, errors.HostNotAllowed):
        now = "If you trust that host, add it to the output hosts (RUNCOMFY_OUTPUT_HOSTS, or the credentials block)."
        return Who.PERSON, now, fetch
    if issubclass(kind, errors.ArchiveConflict):
        now = "Look at what exists at the key: move it away, change the key template, or do what the reason says."
        return Who.PERSON, now, fetch
    if issubclass(kind, errors.ArchiveError):
        return Who.NOBODY, _COLLECT, _fetch(situation, options, "Fetch it, which costs nothing more")
    if issubclass(kind, errors.StorageError) and situation.generation_key:
        now = "Fix what the reason names. Nothing has to be sent again, but the journal may not know the request."
        return Who.PERSON, now, _adopt(situation, options, "Then adopt it")
    if issubclass(kind, errors.WaitError) or kind is RunComfyError:
        return Who.NOBODY, f"Nobody waits for it. {_COLLECT}", _status_and_fetch(situation, options)
    return Who.PERSON, f"Fix what the reason names. {_COLLECT}", fetch


def _stuck(situation: Situation, options: StoreOptions) -> tuple[Who, str, Iterable[Command]]:
    """Return the advice for a request that makes no progress by itself."""
    commands = [*_status_and_fetch(situation, options), *_release(situation, options, "If it is given up")]
    if situation.overdue:
        now = "It should have ended long ago: look at it in RunComfy's dashboard, and ask RunComfy about it."
        return Who.RUNCOMFY, now, commands
    return Who.PERSON, "Fix what the reason names, or look at the request in RunComfy's dashboard.", commands


def _of_two_generations(advice: Advice, situation: Situation, options: StoreOptions) -> Advice:
    """Return the advice for a request id that the submissions of two generations were answered with."""
    show = shell_command("journal", "show", situation.generation_key[:12], *options.for_journal)
    commands = [Command("See what is known of this one", show)] if options.has_journal else []
    return replace(
        advice,
        who=Who.RUNCOMFY,
        paid="Perhaps twice: both submissions were accepted, and no video of this one is known.",
        now="Ask RunComfy about the request.",
        commands=(*commands, *_release(situation, options, "If it is given up")),
    )


def _without_request(error: RunComfyError) -> tuple[Who, str]:
    match error:
        case errors.RequestNotFound():
            return Who.PERSON, "RunComfy does not know it, or not for this account: look at the id and the account."
        case errors.BudgetReached():
            return Who.PERSON, "Raise the budget, or leave it at that."
        case errors.ServiceUnavailable():
            return Who.RUNCOMFY, "Run it again later, as it is."
        case RunComfyError(retryable=True):
            return Who.PERSON, "Run it again later, as it is."
        case errors.InsufficientBalance():
            return Who.PERSON, "Top up the RunComfy account, and run it again."
        case errors.AuthenticationError():
            now = "Fix the token (RUNCOMFY_API_TOKEN, or the credentials block), and run it again."
            return Who.PERSON, now
        case _:
            return Who.PERSON, "Fix what the reason names, and run it again."


def _paid(situation: Situation) -> str:
    kind, paid = situation.kind, _PAID[situation.state]
    if situation.state is _S.DETACHED and issubclass(kind, errors.NoOutput):
        paid = _ACCEPTED
    elif situation.state is _S.DETACHED and issubclass(kind, errors.ArchiveError):
        paid = _MADE
    elif situation.state is _S.REFUSED and issubclass(kind, errors.StillRateLimited):
        paid = _BY_ITS_WORD
    if situation.cost_usd is not None:
        answer = "Yes" if situation.cost_usd else "No"
        paid = f"{answer}, RunComfy says {situation.cost_usd:g} USD."
    earlier = situation.earlier_cost_usd
    return paid if earlier is None else f"{paid} Earlier attempts cost {earlier:g} USD."


def _submission(situation: Situation) -> str:
    if situation.request_id:
        return f"request {situation.request_id}"
    model = f"a {situation.model_id} request" if situation.model_id else "the request"
    if situation.sent_at is None:
        return model
    sent = f"{situation.sent_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{model} sent {'about' if situation.sent_at_approximate else 'at'} {sent}"


def _adopt(situation: Situation, options: StoreOptions, when: str = "If it is there, adopt it") -> list[Command]:
    """Return the command for a request that was found; without a journal that a command reaches, fetch it."""
    if not options.has_journal:
        return _fetch(situation, options, "If it is there, fetch it, which costs nothing more")
    if not situation.generation_key:
        return []
    words = ("adopt", situation.generation_key[:12], situation.request_id or "REQUEST_ID", *options.for_archive)
    does = f"{when}: it is waited for and archived, which costs nothing more"
    return [Command(does, shell_command("journal", *words))]


def _release(situation: Situation, options: StoreOptions, when: str = "If it is not") -> list[Command]:
    may_be = situation.state in OPEN or situation.state is _S.ERASED
    if not (options.has_journal and situation.generation_key and may_be):
        return []
    does = f"{when}, release it: the next run of the same inputs submits it again, and pays for that"
    return [Command(does, shell_command("journal", "release", situation.generation_key[:12], *options.for_journal))]


def _after_rejection(situation: Situation, options: StoreOptions) -> list[Command]:
    if not (options.has_journal and situation.generation_key):
        return []
    does = "If another one is wanted, release it: the next run of the same inputs submits it again, and pays for that"
    return [Command(does, shell_command("journal", "release", situation.generation_key[:12], *options.for_journal))]


def _decide(situation: Situation, options: StoreOptions) -> list[Command]:
    accept = shell_command("review", "accept", situation.set_aside, *options.for_journal)
    reject = shell_command("review", "reject", situation.set_aside, *options.for_journal)
    return [
        Command("If it is good enough, accept it, which brings it to its usual place", accept),
        Command("If it is not, reject it: it stays where it is, and nothing is paid for again", reject),
    ]


def _fetch(situation: Situation, options: StoreOptions, does: str) -> list[Command]:
    model = ["--model", short_name(situation.model_id)] if situation.model_id else []
    words = (situation.request_id or "REQUEST_ID", *model, *options.for_archive)
    return [Command(does, shell_command("fetch", *words))]


def _status_and_fetch(situation: Situation, options: StoreOptions) -> list[Command]:
    status = shell_command("status", situation.request_id or "REQUEST_ID")
    return [Command("See where it is, which costs nothing", status), *_fetch(situation, options, _WHEN_DONE)]
