"""What a person decides about a generation that the journal has lost track of: it is adopted, or released."""

from __future__ import annotations

from datetime import UTC, datetime

from runcomfy.client import RunComfyClient
from runcomfy.errors import ConfigurationError
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import Journal, worker_name

__all__ = ["adopt", "release"]


async def adopt(client: RunComfyClient, journal: Journal, key: str, request_id: str) -> Entry:
    """Say which request a generation's submission became; it is followed and archived from then on.

    Args:
        client: The service; it is asked whether it knows the request.
        journal: The journal.
        key: The generation, or at least eight digits of it.
        request_id: Its request, from RunComfy's dashboard or a log.

    Returns:
        The entry, `submitted` to that request.

    Raises:
        RequestNotFound: the service does not know the request, or it is another account's.
        ConfigurationError: there is no such entry, or it has a request that it can still be collected by.
    """
    await client.status(request_id)
    while True:
        found = await journal.find(key)
        entry = found.entry
        if entry.request_id == request_id and entry.state not in (EntryState.UNCERTAIN, EntryState.EXPIRED):
            if not entry.may_become(EntryState.SUBMITTED):
                return entry  # adopted before
        elif not entry.may_become(EntryState.SUBMITTED) or _fresh(entry, found.age_seconds, journal):
            raise ConfigurationError(
                f"Generation {entry.generation_key[:12]} is {entry.state}"
                + (f" with request {entry.request_id}" if entry.request_id else "")
                + ": there is nothing to adopt. Only one that is uncertain, or has ended without a video, is adopted."
            )
        adopted = entry.moved(
            EntryState.SUBMITTED, worker=worker_name(), reason="adopted by a person", request_id=request_id,
            submitted_at=entry.submitted_at if entry.request_id == request_id else datetime.now(UTC),
        )  # fmt: skip
        if await journal.replace(found, adopted):
            return adopted


async def release(journal: Journal, key: str) -> Entry:
    """Allow another submission of a generation. What was paid for it, and runs still, is then nobody's.

    Args:
        journal: The journal.
        key: The generation, or at least eight digits of it.

    Returns:
        The entry, `released`.

    Raises:
        ConfigurationError: there is no such entry, a worker is submitting it just now, or there is nothing to release.
    """
    while True:
        found = await journal.find(key)
        entry = found.entry
        short = entry.generation_key[:12]
        if entry.state is EntryState.RELEASED:
            return entry
        if _fresh(entry, found.age_seconds, journal):
            raise ConfigurationError(f"A worker is submitting generation {short} just now: wait for three minutes.")
        if entry.state is EntryState.ARCHIVED:
            raise ConfigurationError(f"Generation {short} is archived. Set a variation for another video of its kind.")
        if entry.state is not EntryState.INTENT and not entry.may_become(EntryState.RELEASED):
            raise ConfigurationError(f"Generation {short} is {entry.state}: the next run submits it again anyway.")
        released = entry.moved(EntryState.RELEASED, worker=worker_name(), reason="released by a person")
        if await journal.replace(found, released):
            return released


def _fresh(entry: Entry, age_seconds: float, journal: Journal) -> bool:
    return entry.state is EntryState.INTENT and age_seconds < journal.patience_seconds
