"""`prefect-runcomfy`: run a command, and end with the exit code that its error stands for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from types import FrameType

from cyclopts import App, CycloptsError
from pydantic import ValidationError

from runcomfy.cli.app import app
from runcomfy.cli.output import INTERRUPTED, STOPPED, UNEXPECTED, exit_code, print_error
from runcomfy.commands import shell_command
from runcomfy.errors import InvalidInput, RunComfyError
from runcomfy.models import violations
from runcomfy.redaction import redact

__all__ = ["main", "run"]

_STOPPED = (
    "Stopped. What was submitted goes on: the next run of the same inputs collects it. What had no answer yet is "
    "uncertain and is not sent again: `{}` shows it.\n"
)
_STORE = ("--bucket", "--journal")


def main(arguments: list[str] | None = None, app: App = app) -> int:
    """Run one command and return the process's exit code.

    Args:
        arguments: What follows the command's name; by default, what this process was started with.
        app: The commands.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except (RunComfyError, CycloptsError) as error:
        named = error if isinstance(error, RunComfyError) else _usage_error(error)
        print_error(named, as_json="--json" in words)
        return exit_code(named)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if _is_stop(error):
            sys.stderr.write(_stopped(words))
            return STOPPED
        print(redact(traceback.format_exc()), file=sys.stderr)
        print_error(RunComfyError(f"{type(error).__name__}: {error}"), as_json="--json" in words)
        return UNEXPECTED
    return 0


def _is_stop(error: BaseException) -> bool:
    """Whether it is what Prefect raises at a SIGTERM, wherever the event loop was; importing it would cost seconds."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_stop, error.exceptions))
    return type(error).__name__ == "TerminationSignal"


def _stopped(words: list[str]) -> str:
    """Return what is said at the end, with the store named as these words do, or else by the environment."""
    named = [at for at, word in enumerate(words) if word.partition("=")[0] in _STORE]
    options = [word for at in named for word in words[at : at + (1 if "=" in words[at] else 2)]]
    return _STOPPED.format(shell_command("journal", "list", *options))


def _say_and_end(number: int, _frame: FrameType | None) -> None:
    """Handle a SIGTERM that nobody else handles, or that Prefect passes on when it has recorded the crash."""
    os.write(2, _stopped(sys.argv[1:]).encode())  # a print in a handler may come amid another one
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _usage_error(error: CycloptsError) -> InvalidInput:
    if isinstance(error.__cause__, ValidationError):
        found = violations(error.__cause__)
        named = "; ".join(f"--{field.replace('_', '-')}: {message}" for field, message in found)
        return InvalidInput(f"These options cannot be used: {named}", violations=found)
    return InvalidInput(f"{error} Try --help.")


def run() -> int:
    """Run the command that this process was started with, and return its exit code."""
    signal.signal(signal.SIGTERM, _say_and_end)
    return main()


if __name__ == "__main__":
    sys.exit(run())
