"""`prefect-runcomfy`: run a command, and end with the exit code of its error."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

from cyclopts import App, CycloptsError, MissingArgumentError
from pydantic import ValidationError

from runcomfy.cli.any_model import command_of
from runcomfy.cli.app import app
from runcomfy.cli.environment import check_texts
from runcomfy.cli.failure import (
    AfterSubmitting,
    print_error,
    print_interrupted,
    print_traceback,
    print_unexpected,
    stopped,
)
from runcomfy.cli.log import logging_to_stderr
from runcomfy.cli.options import Run, stated_store
from runcomfy.cli.output import INTERRUPTED, UNEXPECTED, exit_code
from runcomfy.cli.streams import as_process, lost_output
from runcomfy.errors import InvalidInput, RunComfyError
from runcomfy.models import violations
from runcomfy.redaction import redact
from runcomfy.storage.commands import StoreOptions

__all__ = ["main", "run"]

_VERBOSE = "--verbose"


class _SigtermHandler:
    """Handles a SIGTERM while a command runs."""

    store: StoreOptions | None = None
    """The store of the command that runs."""

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):  # stderr may be closed
            os.write(2, stopped(self.store).encode())  # a print could interrupt another print
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        os._exit(128 + number)  # a container's first process ignores signals that it does not handle


_stop = _SigtermHandler()


def main(arguments: Iterable[str] | None = None, app: App = app) -> int:
    """Run one command and return the process's exit code.

    Args:
        arguments: What follows the command's name; by default, what this process was started with.
        app: The commands.
    """
    words, verbose = _without_verbose(sys.argv[1:] if arguments is None else arguments)
    context: dict[str, Any] = {"as_json": "--json" in words, "verbose": verbose}
    try:
        check_texts(words)
        with logging_to_stderr(verbose=verbose):
            chosen, rest = command_of(words) or (app, words)
            command, bound, _ = chosen.parse_args(rest, exit_on_error=False, print_error=False)
            values = bound.arguments.values()
            _stop.store = store = next(filter(None, map(stated_store, values)), None)
            context |= {"store": store, "pays": any(isinstance(value, Run) for value in values)}
            command(*bound.args, **bound.kwargs)
    except (RunComfyError, CycloptsError) as error:
        named = error if isinstance(error, RunComfyError) else _usage_error(error)
        with _as_far_as_it_can_be_written():
            if verbose:
                print_traceback()
            print_error(named, **context)
        return exit_code(named)
    except AfterSubmitting as failure:
        cause = failure.error
        context["submitted"] = True
        if not isinstance(cause, RunComfyError):
            cause = RunComfyError(redact(f"{type(cause).__name__}: {cause}"))
        with _as_far_as_it_can_be_written():
            if verbose:
                print_traceback()
            print_error(cause, **context)
        return exit_code(cause)
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        with _as_far_as_it_can_be_written():
            print_interrupted(getattr(error, "situation", None), context.get("store"), pays=context.get("pays", False))
        return INTERRUPTED
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if isinstance(error, OSError) and lost_output() is not None:
            return UNEXPECTED  # it is said at the end
        with _as_far_as_it_can_be_written():
            if verbose:
                print_traceback()
            print_unexpected(error, **context)
        return UNEXPECTED
    return 0


def run() -> int:
    """Run the command that this process was started with, and return its exit code."""
    signal.signal(signal.SIGTERM, _stop)
    return as_process(main)


def _as_far_as_it_can_be_written() -> contextlib.AbstractContextManager[None]:
    """Let a full disk under stdout or stderr not hide the exit code; see `runcomfy.cli.streams`."""
    return contextlib.suppress(OSError)


def _without_verbose(words: Iterable[str]) -> tuple[list[str], bool]:
    """Return the words without the option that every command has, and whether it was among them."""
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != _VERBOSE] + words[end:]
    return kept, len(kept) < len(words)


def _usage_error(error: CycloptsError) -> InvalidInput:
    if isinstance(error.__cause__, ValidationError):
        found = violations(error.__cause__)
        named = "; ".join(f"--{field.replace('_', '-')}: {message}" for field, message in found)
        return InvalidInput(f"These options cannot be used: {named}", violations=found)
    if isinstance(error, MissingArgumentError) and error.argument is not None and error.argument.name == "--bucket":
        return InvalidInput("No bucket is named: give --bucket s3://bucket/prefix, or set RUNCOMFY_BUCKET.")
    return InvalidInput(f"{error} Try --help.")


if __name__ == "__main__":
    sys.exit(run())
