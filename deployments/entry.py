"""How a command of `deployments` begins and ends: Prefect's server answers; errors are in words, and have codes."""

from __future__ import annotations

import sys
from typing import Any

from cyclopts import App, CycloptsError

from runcomfy.cli.failure import print_error
from runcomfy.cli.output import INTERRUPTED, UNEXPECTED, exit_code
from runcomfy.errors import ConfigurationError, InvalidInput, RunComfyError

__all__ = ["require_server", "run_entry"]


async def require_server() -> None:
    """Make sure that the Prefect server answers that this process is configured to use; ask it once, without retries.

    Raises:
        ConfigurationError: none is named, it does not answer, or it refuses the key.
    """
    from blocks.prefect_api import checked_api_url, unusable_api
    from deployments.doctor.server import server_answers
    from runcomfy.doctor import Mark

    checked_api_url()
    found = await server_answers()
    if found.mark is Mark.BROKEN:
        raise unusable_api(found.found, found.advice)


def run_entry(app: App, arguments: list[str] | None = None, *, interrupted: str) -> int:
    """Run a command of one's own to its end, and return the process's exit code, as `prefect-runcomfy` has them.

    Args:
        app: The command; an integer that it returns is the exit code.
        arguments: What follows its name; by default, what this process was started with.
        interrupted: What a person reads after Ctrl-C.
    """
    app.suppress_keyboard_interrupt = False  # or Cyclopts ends with 130 by itself, and says nothing
    try:
        code: Any = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else UNEXPECTED
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        named = _in_words(error)
        if named is None:
            raise
        print_error(named, as_json=False)
        return exit_code(named)
    return code if isinstance(code, int) else 0


def _in_words(error: Exception) -> RunComfyError | None:
    if isinstance(error, RunComfyError):
        return error
    if isinstance(error, CycloptsError):
        return InvalidInput(f"{error} Try --help.")
    if isinstance(error, OSError) and error.strerror and error.filename:
        return ConfigurationError(f"{error.filename}: {error.strerror}. Check the path, its rights, and the disk.")
    from blocks.prefect_api import trouble

    return trouble(error, outcome="")
