"""What a person decides about a generation that the journal has lost track of: it is adopted, or released."""

from __future__ import annotations

from datetime import UTC, datetime

from runcomfy.api.client import RunComfyClient
from runcomfy.errors import ConfigurationError
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import Journal, worker_name
from runcomfy.journal.spec import same_service

__all__ = ["adopt", "release"]


async def adopt(client: RunComfyClient, journal: Journal, key: str, request_id: str) -> Entry:
    """Assign a generation the request that its submission became; it is waited for and archived from then on.

    Args:
        client: The service; it has to know the request.
        journal: The journal.
        key: The generation, or at least eight digits of it.
        request_id: Its request, from RunComfy's dashboard or a log.

    Returns:
        The entry, `submitted` to that request.

    Raises:
        RequestNotFound: the service does not know the request, or it is another account's.
        ConfigurationError: there is no such entry, it has a request that it can still be collected by, or the
            request is that of another generation.
    """
    await client.status(request_id)
    entry = (await journal.find(key)).entry
    if not same_service(entry.service, client.base_url):
        raise ConfigurationError(f"Generation {entry.generation_key[:12]} was submitted to {entry.service}: ask there.")
    await _check_not_taken(journal, entry.generation_key, request_id)
    while True:
        found = await journal.find(key)
        entry = found.entry
        if entry.request_id == request_id and entry.state not in (EntryState.UNCERTAIN, EntryState.EXPIRED):
            if not entry.may_become(EntryState.SUBMITTED):
                return entry  # adopted before
        elif not entry.may_become(EntryState.SUBMITTED) or found.lease_remaining_seconds:
            raise ConfigurationError(
                f"Generation {entry.generation_key[:12]} is {entry.state}"
                + (f" with request {entry.request_id}" if entry.request_id else "")
                + ": there is nothing to adopt. Only one that is uncertain, or has ended without a video, is adopted."
            )
        adopted = entry.moved(
            EntryState.SUBMITTED, worker=worker_name(), reason="adopted by a person", request_id=request_id,
            # the queue deadline counts from here: it is not adopted to be cancelled
            submitted_at=datetime.now(UTC),
        )  # fmt: skip
        if await journal.replace(found, adopted):
            return adopted


async def release(journal: Journal, key: str) -> Entry:
    """Allow another submission of a generation. A request of it that is paid for and still runs is then lost.

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
        if found.lease_remaining_seconds:
            raise ConfigurationError(
                f"A worker is submitting generation {short} just now: wait for {entry.patience_seconds:.0f} s."
            )
        if entry.state is EntryState.ARCHIVED and entry.rejected is None:
            raise ConfigurationError(f"Generation {short} is archived. Set a variation for another video of its kind.")
        is_settled = entry.state not in (EntryState.INTENT, EntryState.ARCHIVED)
        if is_settled and not entry.may_become(EntryState.RELEASED):
            raise ConfigurationError(f"Generation {short} is {entry.state}: the next run submits it again anyway.")
        released = entry.moved(EntryState.RELEASED, worker=worker_name(), reason="released by a person")
        if await journal.replace(found, released):
            return released


async def _check_not_taken(journal: Journal, key: str, request_id: str) -> None:
    """Refuse another generation's request: two uncertain submissions are easily confused.

    Raises:
        ConfigurationError: the request is that of another generation.
    """
    async for found in journal.entries(unreadable=lambda _: None):
        if found.entry.generation_key != key and request_id in found.entry.request_ids:
            raise ConfigurationError(
                f"Request {request_id} is that of generation {found.entry.generation_key[:12]} already. Check again "
                f"which request generation {key[:12]} became."
            )
