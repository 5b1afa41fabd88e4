"""What takes more than one call: collect a result, cancel a request and make sure of it, tell a refused token.

Only a request that is still in the queue can be cancelled.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from runcomfy.api.client import RunComfyClient
from runcomfy.api.responses import Answer, Cancellation, State
from runcomfy.errors import (
    AuthenticationError,
    GenerationCancelled,
    GenerationError,
    GenerationFailed,
    NoOutput,
    NotFinished,
    RequestNotFound,
    RunComfyError,
    ServiceError,
)

__all__ = ["NOT_CANCELLED", "cancel", "collect", "state_after_cancel", "succeeded", "token_is_refused"]

_LONGEST_SHOWN = 1000


def succeeded(answer: Answer) -> bool:
    """Whether the request has succeeded and names its files; `False` means not yet.

    `completed` with a file is a success, for RunComfy's own clients take it as one; without one it is not yet.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it has ended, and there is no video.
    """
    if (error := _error(answer)) is not None:
        raise replace(error, request_id=answer.request_id, created_at=answer.created_at, cost_usd=answer.cost_usd)
    return answer.state in (State.SUCCEEDED, State.COMPLETED) and bool(answer.outputs)


def _error(answer: Answer) -> GenerationError | None:
    if answer.state is State.FAILED:
        reason = str(answer.error or "it gave no reason")[:500]
        return GenerationFailed(
            f"The generation failed at the service: {reason}{_not_taken(answer)}",
            details=answer.error,
            error_code=answer.error_code,
        )
    if answer.state is State.CANCELLED:
        return GenerationCancelled(f"The request was cancelled while it was in the queue.{_not_taken(answer)}")
    if answer.state is State.SUCCEEDED and not answer.outputs:
        return _no_output(answer)
    return None


def _not_taken(answer: Answer) -> str:
    """Say what the result of a request without success names all the same: the status decides, a person may look."""
    if not answer.outputs:
        return ""
    said = str(answer.output)[:_LONGEST_SHOWN]
    return f" Yet under 'output' stands {said}: it was not archived, since the status decides."


def _no_output(answer: Answer) -> NoOutput:
    shown = "nothing" if answer.output is None else str(answer.output)[:_LONGEST_SHOWN]
    beside = f" Beside it stands the error {str(answer.error)[:300]}." if answer.error else ""
    return NoOutput(
        "The service says that the generation succeeded, but its result names no file. It was probably paid for. "
        f"Under 'output' stands {shown}.{beside} Look at the request in RunComfy's dashboard; "
        f"if its file appears later, `fetch {answer.request_id}` collects it.",
        details=answer.output,
        error_code=answer.error_code,
    )


async def collect(
    client: RunComfyClient,
    request_id: str,
    *,
    looks: int = 4,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> Answer:
    """Return the answer of a request that has succeeded, with fresh URLs of its files.

    Args:
        client: The service.
        request_id: The request.
        looks: How often to look for the file of a request that has succeeded and names none: that may lag behind.
        sleep: Waits between those looks, in seconds: 1, 2, 4 …

    Raises:
        NotFinished: it has not ended yet, as far as the service says.
        GenerationFailed, GenerationCancelled, NoOutput: it has ended, and there is no video.
        ServiceError: the service could not be asked, or refuses to tell.
    """
    for look in range(1, looks + 1):
        answer = await client.result(request_id)
        try:
            ready = succeeded(answer)
            break
        except NoOutput:
            if look == looks:
                raise
        await sleep(2.0 ** (look - 1))
    if not ready:
        raise NotFinished(
            f"The request is not finished (the service says '{answer.word}'): fetch it later.", request_id=request_id
        )
    return answer


NOT_CANCELLED = (State.IN_PROGRESS, State.SUCCEEDED, State.FAILED)
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


async def state_after_cancel(client: RunComfyClient, request_id: str) -> State:
    """Return where a request is that is said to be cancelled; `UNKNOWN` where that could not be learnt.

    A cancel that is believed without a look may be paid for twice: by the request that went on, and by the next run.
    """
    try:
        answer = await client.result(request_id)
    except ServiceError:
        return State.UNKNOWN
    return State.SUCCEEDED if answer.state is State.COMPLETED and answer.outputs else answer.state


async def token_is_refused(client: RunComfyClient) -> bool:
    """Ask about a request that there is not, and return whether that is refused for the token, too; it costs nothing.

    One call that is refused may be a proxy's word, or about one model. Where this answer says nothing about the token,
    since what refuses does so in its own words, the balance is asked for; what is not confirmed then is not refused.
    """
    try:
        await client.status(str(uuid.uuid4()))
    except AuthenticationError:
        return True
    except RequestNotFound:
        return False
    except RunComfyError:
        pass
    try:
        await client.balance_usd()
    except AuthenticationError:
        return True
    except RunComfyError:
        pass
    return False
