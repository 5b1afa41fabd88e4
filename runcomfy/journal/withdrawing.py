"""Cancel what is queued and detach what runs, when it is not to be waited for any longer."""

from __future__ import annotations

import asyncio

from runcomfy.api.client import RunComfyClient
from runcomfy.api.requests import GOES_ON, cancel, seen_after_cancel
from runcomfy.api.responses import State
from runcomfy.errors import RequestNotFound, ServiceError
from runcomfy.journal.entry import EntryState
from runcomfy.journal.journal import Journal
from runcomfy.journal.telling import state_after, tell

__all__ = ["withdraw"]

_LOOKS = 4


async def withdraw(
    client: RunComfyClient, journal: Journal | None, key: str | None, request_id: str, *, reason: str
) -> EntryState:
    """Cancel a request if it is still in the queue, and tell the journal what became of it.

    A cancel that is lost, refused, or answered with what then proves wrong leaves the request detached: it is looked at
    again by the next run, or by `reconcile`, until it is known how it ended.

    Args:
        client: The service.
        journal: What is told.
        key: The generation. Without a journal or a key, nothing is told.
        request_id: Its request.
        reason: Why, for a person.

    Returns:
        `cancelled`, `detached`, or `expired` where the service does not know the request.
    """
    state, said = await _cancelled(client, request_id)
    if journal is not None and key is not None:
        await tell(journal, key, request_id, state, reason=f"{reason}; {said}")
    return state


async def _cancelled(client: RunComfyClient, request_id: str) -> tuple[EntryState, str]:
    try:
        outcome = (await cancel(client, request_id)).outcome
    except RequestNotFound as error:
        return state_after(error) or EntryState.DETACHED, error.message
    except ServiceError as error:
        return EntryState.DETACHED, f"the cancel was not answered: {error.message}"
    if outcome != "cancelled":
        return EntryState.DETACHED, f"the service answered the cancel with {outcome or 'nothing that can be read'}"
    for attempt in range(_LOOKS):
        seen = await seen_after_cancel(client, request_id)
        if seen is State.CANCELLED:
            return EntryState.CANCELLED, "cancelled in the queue"
        if seen in GOES_ON:
            return EntryState.DETACHED, "the service said that it was cancelled, but it goes on"
        await asyncio.sleep(0.5 * 2**attempt)
    return EntryState.DETACHED, "the service said that it was cancelled, but does not show it as cancelled yet"
