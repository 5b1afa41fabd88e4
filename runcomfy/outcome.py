"""What an answer of the result call means: a success, a failure, or not yet."""

from __future__ import annotations

from typing import Any

from runcomfy.client import RunComfyClient
from runcomfy.errors import GenerationCancelled, GenerationFailed, NoOutput, NotFinished
from runcomfy.wire import Answer, State

__all__ = ["collect", "succeeded"]


def succeeded(answer: Answer) -> bool:
    """Whether the request has succeeded and names its files; `False` means not yet.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it has ended, and there is no video.
    """
    facts: dict[str, Any] = {
        "request_id": answer.request_id,
        "created_at": answer.created_at,
        "cost_usd": answer.cost_usd,
    }
    if answer.state is State.FAILED:
        reason = str(answer.error or "it gave no reason")[:500]
        raise GenerationFailed(f"The generation failed at the service: {reason}", details=answer.error, **facts)
    if answer.state is State.CANCELLED:
        raise GenerationCancelled("The request was cancelled while it was in the queue.", **facts)
    if answer.state is State.SUCCEEDED and not answer.outputs:
        raise NoOutput("The service says that the generation succeeded, but its result names no file.", **facts)
    return answer.state is State.SUCCEEDED


async def collect(client: RunComfyClient, request_id: str) -> Answer:
    """Return the answer of a request that has succeeded, with fresh URLs of its files.

    Raises:
        NotFinished: it has not ended yet, as far as the service says.
        GenerationFailed, GenerationCancelled, NoOutput: it has ended, and there is no video.
        ServiceError: the service could not be asked, or refuses to tell.
    """
    answer = await client.result(request_id)
    if not succeeded(answer):
        raise NotFinished(
            f"The request is not finished (the service says '{answer.word}'): fetch it later.", request_id=request_id
        )
    return answer
