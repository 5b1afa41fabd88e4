"""Names of task and flow runs, and of the functions that deployments run.

Whatever is in the parameters, a name never fails a run that may be paid for.

Prefect makes the name after the parameters are resolved and before the body runs; an error there is an error of the
run, and what an upstream task has paid for would not be collected (`resolve_custom_task_run_name`, Prefect 3.9).
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, cast

from prefect import runtime
from prefect.tasks import TaskRunNameCallbackWithParameters

__all__ = ["LONGEST", "clean", "fact", "flow_name", "function_name", "task_name"]

logger = logging.getLogger(__name__)

LONGEST = 120
"""How many characters a name has at most; a list of runs shows fewer."""

_NOT_SHOWN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def task_name(make: Callable[[Mapping[str, Any]], str], otherwise: str) -> TaskRunNameCallbackWithParameters:
    """Return a `task_run_name` for Prefect.

    Args:
        make: Makes the name from the run's parameters; it may raise anything.
        otherwise: The name where it cannot be made.
    """

    def name(parameters: Mapping[str, Any]) -> str:  # Prefect goes by the name of the argument
        return _guarded(make, parameters, otherwise)

    return cast(TaskRunNameCallbackWithParameters, name)


def flow_name(make: Callable[[Mapping[str, Any]], str], otherwise: str) -> Callable[[], str]:
    """Return a `flow_run_name` for Prefect; see `task_name` for the arguments."""

    def name() -> str:
        return _guarded(lambda _: make(runtime.flow_run.parameters), {}, otherwise)

    return name


def function_name(entrypoint: str | None) -> str:
    """Return the name of the function that a deployment runs; empty if it names none.

    Args:
        entrypoint: What Prefect's `import_object` reads: a function in a file (`flows/reconcile.py:reconcile`) or in a
            module (`prefect_runcomfy.flows.reconcile.reconcile`, `prefect_runcomfy:reconcile`).
    """
    return (entrypoint or "").rpartition(":")[2].rpartition(".")[2]


def fact(value: Any, *names: str) -> str:
    """Return a text, or the first of its attributes (or fields) that is one.

    Raises:
        TypeError: it is no text, and has none: a future, a list, an error of an upstream task.
    """
    if isinstance(value, Mapping):
        found = (value.get(name) for name in names)
    else:
        found = (getattr(value, name, None) for name in names)
    text = value if isinstance(value, str) else next((each for each in found if isinstance(each, str)), None)
    if not text:
        raise TypeError(f"nothing in a {type(value).__name__} names it")
    return text


def clean(name: str) -> str:
    """Return a name on one line, of what can be shown and stored (PostgreSQL takes no NUL), and not too long."""
    shown = "".join(
        " " if character.isspace() else character
        for character in name
        if character.isspace() or unicodedata.category(character) not in _NOT_SHOWN
    )
    words = " ".join(shown.split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1].rstrip()}…"


def _guarded(make: Callable[[Mapping[str, Any]], str], parameters: Mapping[str, Any], otherwise: str) -> str:
    try:
        return clean(make(parameters)) or otherwise
    except Exception as error:  # any: the parameters are whatever somebody gave
        logger.debug("A run is called %r, since its own name could not be made (%s)", otherwise, type(error).__name__)
        return otherwise
