"""Cancel a request that is still in the queue, and make sure that it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from runcomfy.client import RunComfyClient
from runcomfy.errors import ServiceError
from runcomfy.wire import Cancellation, State

__all__ = ["GOES_ON", "cancel", "seen_after_cancel"]

GOES_ON = (State.IN_PROGRESS, State.SUCCEEDED, State.FAILED)
"""Where a request is that was not cancelled, whatever was said: it runs, or it has come to its end."""


async def cancel(
    client: RunComfyClient,
    request_id: str,
    *,
    attempts: int = 5,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> Cancellation:
    """Ask for a request to be cancelled until the service has answered; asking twice does no harm.

    Returns:
        The service's word: `outcome` is `cancelled`, `not_cancellable` (it is running or done: collect it), or `None`
        (look at its status).

    Raises:
        ServiceError: no attempt was answered; the request may be queued, running or cancelled.
    """
    for attempt in range(1, attempts + 1):
        try:
            return await client.cancel(request_id)
        except ServiceError as error:
            if not error.retryable or attempt == attempts:
                raise
            await sleep(min(error.retry_after_seconds or 0.5 * 2.0**attempt, 10.0))
    raise ValueError("attempts must be at least 1")


async def seen_after_cancel(client: RunComfyClient, request_id: str) -> State:
    """Return where a request is that is said to be cancelled; `UNKNOWN` where that could not be learnt.

    A cancel that is believed without a look may be paid for twice: by the request that went on, and by the next run.
    """
    try:
        answer = await client.result(request_id)
    except ServiceError:
        return State.UNKNOWN
    return State.SUCCEEDED if answer.state is State.COMPLETED and answer.outputs else answer.state
