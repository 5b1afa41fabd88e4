"""One generation of a batch or an inbox, in one task run; its failure does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from runcomfy.generation.engine import Engine
from runcomfy.generation.generate import Authorise
from runcomfy.generation.generate import generate as generate_it
from runcomfy.models.orders import Order
from runcomfy.values import Outcome, StagedFile, Submission
from tasks.runtime.naming import fact, task_name

__all__ = ["generate", "generate_one"]


class _WithoutStates(logging.Filter):
    """Drops the line that Prefect logs of a task which returns a failed state: Python's own names, and no traceback.

    The next line says the same in words: `Finished in state Failed("…")` (Prefect 3.9, `handle_retry` of its engine).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Task run failed with state: ") or "result=Outcome(" not in record.msg


logging.getLogger("prefect.task_runs").addFilter(_WithoutStates())


async def generate_one(
    order: Order,
    staged: Sequence[StagedFile],
    engine: Engine,
    *,
    label: str,
    authorise: Authorise | None = None,
    on_accepted: Callable[[Submission], Awaitable[None]] | None = None,
) -> Outcome:
    """Run the task `generate` and return its outcome, whatever that is; see `runcomfy.generation.generate.generate`."""
    state: State[Any] = await generate(  # type: ignore[misc]  # Prefect's overloads know no `return_state` of coroutines
        order, staged, engine, label=label, authorise=authorise, on_accepted=on_accepted, return_state=True
    )
    outcome = await state.aresult(raise_on_failure=False)
    if isinstance(outcome, Outcome):
        return outcome
    raise outcome


@task(
    task_run_name=task_name(lambda given: fact(given["label"]), otherwise="generate"),
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def generate(
    order: Order,
    staged: Sequence[StagedFile],
    engine: Engine,
    *,
    label: str,
    authorise: Authorise | None = None,
    on_accepted: Callable[[Submission], Awaitable[None]] | None = None,
) -> Outcome | State[Outcome]:
    """Submit, wait, archive; an error of this generation becomes the outcome of a failed task run."""
    outcome = await generate_it(order, staged, engine, label=label, authorise=authorise, on_accepted=on_accepted)
    if outcome.error is None:
        return outcome
    return Failed(message=f"{outcome.status}: {outcome.error}", data=outcome)
