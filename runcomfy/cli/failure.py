"""What is said when a command fails: what happened, whether it was paid for, and what to paste now."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

from runcomfy.cli.output import exit_code, json_text
from runcomfy.errors import BatchIncomplete, BudgetReached, ConfigurationError, InvalidInput, RunComfyError
from runcomfy.redaction import redact
from runcomfy.storage.commands import StoreOptions, shell_command
from runcomfy.texts import said_by, shown

if TYPE_CHECKING:
    from runcomfy.journal.advice import Advice
    from runcomfy.journal.situation import Situation

__all__ = ["AfterSubmitting", "print_error", "print_interrupted", "print_traceback", "print_unexpected", "stopped"]

_SHOWN = ("details", "counts", "results", "to_run_again")
_BESIDE = ("request_id", "http_status", "error_code")
_BEFORE_PAYING = (InvalidInput, ConfigurationError)
_OF_MANY = (BatchIncomplete, BudgetReached)  # each row has its own end, and the sentence says what now
_NOTHING_PAID = "Nothing was paid for."
_PAID = "paid for:"
_SENTENCE = re.compile(r"\s*\bNothing was (?:\w+ (?:and|or) )?paid for\.")
_SAYS_SO = re.compile(r"\bnothing was (?:\w+ (?:and|or) )?paid for\b", re.IGNORECASE)
_LONGEST = 16_384
_ANY_STORE = StoreOptions("BUCKET")


class AfterSubmitting(Exception):
    """What ended a command that makes many generations, when it had submitted some.

    Args:
        error: The error; it says nothing of those.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def print_error(
    error: RunComfyError,
    *,
    as_json: bool,
    store: StoreOptions | None = None,
    pays: bool = False,
    verbose: bool = False,
    submitted: bool = False,
) -> None:
    """Print an error: to stderr what happened and what now, or to stdout an object with an `error`.

    Args:
        error: The error.
        as_json: Whether it is one JSON object.
        store: The store of the command, if it has one.
        pays: Whether the command may pay for something.
        verbose: Whether every fact is printed.
        submitted: Whether a command that makes many generations had submitted some, of which it says nothing.
    """
    if as_json:
        print(json_text(_described(error)))
        return
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
    lines = list(_of_submitted(store)) if submitted else _advice(error, store or _ANY_STORE, pays=pays)
    happened = _sentence(error)
    if any(line.startswith(_PAID) for line in lines):
        happened = _SENTENCE.sub("", happened)  # said below, and said once
    console.print(happened, markup=False)
    names = error.facts if verbose else _SHOWN if pays else ()
    named = {name: error.facts[name] for name in names if name in error.facts}
    for name, value in named.items():
        told = any(said in error.message for said in (str(value), said_by(value, 500)))
        if name != "violations" and (verbose or not told):
            console.print(f"  {name.replace('_', ' ')}: {shown(value, _LONGEST)}", markup=False)
    for line in lines:
        console.print(f"  {line}", markup=False)


def print_unexpected(
    error: BaseException, *, as_json: bool, store: StoreOptions | None = None, pays: bool = False, verbose: bool = False
) -> None:
    """Print an error that is not one of ours in one line, and where to find out more.

    Args:
        error: The error.
        as_json: Whether it is one JSON object.
        store: The store of the command, if it has one.
        pays: Whether the command may pay for something.
        verbose: Whether its traceback has been printed.
    """
    message = " ".join(f"{type(error).__name__}: {redact(str(error))}".split()).removesuffix(":")
    if as_json:
        print_error(RunComfyError(message), as_json=True)
        return
    print(message, file=sys.stderr)
    if not verbose:
        print("  This is a fault of the program: run it again with --verbose for the traceback.", file=sys.stderr)
    if pays and store is not None:
        for command in store.journal_list:
            print(f"  What was submitted is in the journal: `{command}`", file=sys.stderr)


def print_interrupted(situation: Situation | None, store: StoreOptions | None, *, pays: bool) -> None:
    """Print the situation when a person has interrupted the command.

    Args:
        situation: That of the generation of the command, if it has one that was submitted.
        store: The store of the command, if it has one.
        pays: Whether the command may have paid for something.
    """
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    if situation is not None and situation.request_id:
        from runcomfy.journal.advice import advise

        console.print(f"Interrupted. Request {situation.request_id} is {situation.state}.", markup=False)
        for line in _lines(advise(situation, store or _ANY_STORE), paid=True):
            console.print(f"  {line}", markup=False)
        return
    console.print("Interrupted.")
    if pays and store is not None:
        console.print("  Run the same again to go on; what was submitted is not submitted again.", markup=False)
        for command in store.journal_list:
            console.print(f"  What is open is in the journal: `{command}`", markup=False)


def print_traceback() -> None:
    """Print the traceback of the error that is being handled, without secrets."""
    print(redact(traceback.format_exc()), file=sys.stderr, end="")


def stopped(store: StoreOptions | None) -> str:
    """Return the last message of a process that is stopped by a signal.

    Args:
        store: The store of the command, if it has one.
    """
    journal = shell_command("journal", "list", *(store or _ANY_STORE).for_journal)
    return (
        "Stopped. What was submitted goes on: the next run of the same inputs collects it. What had no answer yet is "
        f"uncertain and is not sent again: `{journal}` shows it.\n"
    )


def _described(error: RunComfyError) -> dict[str, Any]:
    facts = {name: value for name, value in error.facts.items() if name != "violations"}
    violations = [f"{field}: {message}" for field, message in error.violations or []]
    described = {"error": type(error).__name__, "message": error.message, "exit_code": exit_code(error), **facts}
    return described | ({"violations": violations} if violations else {})


def _sentence(error: RunComfyError) -> str:
    happened = " ".join((error.cause or error.message).split())
    known = {name: error.facts[name] for name in _BESIDE if name in error.facts}
    beside = [f"{name.replace('_', ' ')} {value}" for name, value in known.items() if str(value) not in happened]
    return f"{happened} ({', '.join(beside)})" if beside else happened


def _advice(error: RunComfyError, store: StoreOptions, *, pays: bool) -> list[str]:
    known = error.request_id or error.generation_key
    if isinstance(error, _OF_MANY):
        return []
    if isinstance(error, _BEFORE_PAYING) and not (pays and known):
        said = _SAYS_SO.search(error.message) is not None
        return [_NOTHING_PAID] if pays and not said else []  # its message says what to fix
    from runcomfy.journal.advice import advise_on_error

    return list(_lines(advise_on_error(error, store, None), paid=pays or bool(known)))


def _of_submitted(store: StoreOptions | None) -> Iterator[str]:
    yield "What was submitted may be paid for, and goes on: run the same again to collect it, which costs nothing more."
    for command in store.journal_list if store is not None else ():
        yield f"What is open is in the journal: `{command}`"


def _lines(advice: Advice, *, paid: bool) -> Iterator[str]:
    if paid:
        yield f"{_PAID} {advice.paid}"
    yield f"what now: {advice.now}"
    for command in advice.commands:
        yield f"{command.does}:\n    {command.shell}"
