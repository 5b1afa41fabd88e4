"""Decide once what a task may do again."""

from __future__ import annotations

from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from runcomfy.errors import is_retryable

__all__ = ["worth_retrying"]


async def worth_retrying(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether the same call may succeed the next time: a broken connection or a busy server, nothing to be mended."""
    return is_retryable(await state.aresult(raise_on_failure=False))
