"""What takes more than one call: collect a result, cancel a request and make sure of it, check a refused token.

Only a request that is still in the queue can be cancelled.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

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
    is_retryable,
)
from runcomfy.texts import said_by, shown

__all__ = ["NOT_CANCELLED", "cancel", "collect", "state_after_cancel", "succeeded", "token_is_refused"]

_MAX_SHOWN = 1000
_COLLECT_ATTEMPTS, _CANCEL_ATTEMPTS = 4, 5
_MAX_CANCEL_PAUSE_SECONDS = 10.0


def succeeded(answer: Answer) -> bool:
    """Whether the request has succeeded and names its files; `False` means not yet.

    `completed` with a file is a success, as in RunComfy's own clients; without one it means not yet.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it has ended, and there is no video.
    """
    if (error := _error(answer)) is not None:
        raise replace(error, request_id=answer.request_id, created_at=answer.created_at, cost_usd=answer.cost_usd)
    return answer.state in (State.SUCCEEDED, State.COMPLETED) and bool(answer.outputs)


def _error(answer: Answer) -> GenerationError | None:
    if answer.state is State.FAILED:
        reason = said_by(answer.error or "it gave no reason", 500)
        return GenerationFailed(
            f"The generation failed at the service: {reason}{_unarchived(answer)}",
            details=answer.error,
            error_code=answer.error_code,
        )
    if answer.state is State.CANCELLED:
        return GenerationCancelled(f"The request was cancelled while it was in the queue.{_unarchived(answer)}")
    if answer.state is State.SUCCEEDED and not answer.outputs:
        return _no_output(answer)
    return None


def _unarchived(answer: Answer) -> str:
    """Show the output of a request that did not succeed: the status decides, but a person may check it."""
    if not answer.outputs:
        return ""
    said = shown(answer.output, _MAX_SHOWN)
    return f" Yet its 'output' is {said}: it was not archived, since the status decides."


def _no_output(answer: Answer) -> NoOutput:
    output = "nothing" if answer.output is None else shown(answer.output, _MAX_SHOWN)
    error = f" It also reports an error: {said_by(answer.error, 300).rstrip('.')}." if answer.error else ""
    return NoOutput(
        "The service says that the generation succeeded, but its result names no file. It was probably paid for. "
        f"Its 'output' is {output}.{error} Look at the request in RunComfy's dashboard; "
        f"if its file appears later, `fetch {answer.request_id}` collects it.",
        details=answer.output,
        error_code=answer.error_code,
    )


async def collect(
    client: RunComfyClient, request_id: str, *, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
) -> Answer:
    """Return the answer of a request that has succeeded, with fresh URLs of its files.

    One that has succeeded and names no file is asked for four times, since the file may lag behind.

    Args:
        client: The service.
        request_id: The request.
        sleep: Waits between those attempts, in seconds: 1, 2, 4.

    Raises:
        NotFinished: it has not ended yet, as far as the service says.
        GenerationFailed, GenerationCancelled, NoOutput: it has ended, and there is no video.
        ServiceError: the service could not be asked, or refused.
    """

    async def result() -> Answer:
        answer = await client.result(request_id)
        if not succeeded(answer):
            raise NotFinished(
                f"The request is not finished (the service says '{answer.word}'): fetch it later.",
                request_id=request_id,
            )
        return answer

    retrying = AsyncRetrying(
        stop=stop_after_attempt(_COLLECT_ATTEMPTS),
        wait=wait_exponential(),
        retry=retry_if_exception_type(NoOutput),
        sleep=sleep,
        reraise=True,
    )
    return await retrying(result)


NOT_CANCELLED = (State.IN_PROGRESS, State.SUCCEEDED, State.FAILED)
"""States of a request that was not cancelled, whatever the cancel said: it runs, or it has ended."""


def _cancel_pause_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_seconds if isinstance(error, ServiceError) else None
    return min(asked or 0.5 * 2.0**state.attempt_number, _MAX_CANCEL_PAUSE_SECONDS)


@retry(
    stop=stop_after_attempt(_CANCEL_ATTEMPTS),
    wait=_cancel_pause_seconds,
    retry=retry_if_exception(is_retryable),
    reraise=True,
)
async def cancel(client: RunComfyClient, request_id: str) -> Cancellation:
    """Ask the service to cancel a request until it has answered; asking twice does no harm.

    Returns:
        The service's word: `outcome` is `cancelled`, `not_cancellable` (it is running or done: collect it), or `None`
        (ask for its status).

    Raises:
        ServiceError: no attempt was answered; the request may be queued, running or cancelled.
    """
    return await client.cancel(request_id)


async def state_after_cancel(client: RunComfyClient, request_id: str) -> State:
    """Return the state of a request that the service says is cancelled; `UNKNOWN` if it cannot be read.

    Without this check a generation may be paid for twice: by the request that went on, and by the next run.
    """
    try:
        answer = await client.result(request_id)
    except ServiceError:
        return State.UNKNOWN
    return State.SUCCEEDED if answer.state is State.COMPLETED and answer.outputs else answer.state


async def token_is_refused(client: RunComfyClient) -> bool:
    """Ask about a request that does not exist, and return whether that is refused for the token; it costs nothing.

    One refused call may come from a proxy, or concern one model. If this answer says nothing about the token either,
    ask for the balance; if that is not refused, the token is not.
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
