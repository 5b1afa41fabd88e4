"""How many a run may begin before one is archived: by what the runs before it have noted, as it does for the next."""

from __future__ import annotations

from collections.abc import Iterable

from runcomfy.journal import Entry, note_stops, what_was_lately
from runcomfy.proving import Proving
from tasks.service import Service

__all__ = ["note_stop", "open_proving"]


async def open_proving(
    service: Service,
    models: Iterable[str],
    first_at_once: int,
    stop_after_alike: int,
    entries: Iterable[Entry] = (),
) -> Proving:
    """Return what lets generations begin; a model of which one was archived lately needs no proof.

    Args:
        service: The account and the store.
        models: Which are wanted.
        first_at_once: How many are begun until one is archived.
        stop_after_alike: How many that fail alike in a row stop the rest, later.
        entries: What is known of the journal already.
    """
    lately = await what_was_lately(service.journal, service.client.base_url, _where(service), models, entries)
    return Proving(first_at_once, stop_after_alike, lately.archived, lately.stopped)


async def note_stop(service: Service, proving: Proving) -> None:
    """Let the next run know what stopped this one: at once, and again when what was under way has ended."""
    if proving.stops:
        await note_stops(service.journal, service.client.base_url, _where(service), proving.stops)


def _where(service: Service) -> str:
    store = service.store.get_store()
    return store.uri(store.prefix)
