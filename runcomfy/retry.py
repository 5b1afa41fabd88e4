"""Repeat a call that fails with an error that may pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from runcomfy.errors import is_retryable

__all__ = ["with_retries"]

_T = TypeVar("_T")


async def with_retries(
    call: Callable[[], Awaitable[_T]], *, attempts: int = 4, multiplier: float = 2, max_seconds: float = 60
) -> _T:
    """Await a call again as long as it fails with an error that may pass; the last error is raised.

    Args:
        call: Makes one attempt.
        attempts: How many there are at most.
        multiplier: The first wait is random, up to this many seconds; the bound doubles with each wait.
        max_seconds: The longest wait.
    """
    async for attempt in AsyncRetrying(
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=multiplier, max=max_seconds),
        retry=retry_if_exception(is_retryable),
        reraise=True,
    ):
        with attempt:
            result = await call()
    return result
