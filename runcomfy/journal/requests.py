"""Find the generation that a request belongs to, by the request's id alone.

Entries are named by their generations, and there is no index of requests: it would cost every generation a write, and
would not contain the entries of older versions. So entries are read, the newest first, which is where a wanted request
usually is. A process remembers which requests an entry named, so that it can find a thousand requests without reading a
thousand entries for each.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cachetools import LRUCache

from runcomfy.errors import InvalidInput
from runcomfy.journal.accepted import submission_of
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import Journal, Versioned
from runcomfy.models import workload_of
from runcomfy.storage.commands import StoreOptions, shell_command
from runcomfy.values import Submission

__all__ = ["KnownRequest", "find_request"]

logger = logging.getLogger(__name__)

_NEIGHBOURS = timedelta(hours=1)
"""A service that names one request twice does so within this time, as far as clocks agree."""
_FIRST, _EVERY = 8, 1000
_SETTLED_SECONDS = 2.0  # a store gives times in whole seconds: a younger entry may change within the same one


class _SeenRequests:
    """The requests named by the entries that this process has read, as long as those are not written again."""

    def __init__(self) -> None:
        self._requests: LRUCache[tuple[str, str], tuple[datetime, frozenset[str]]] = LRUCache(20_000)
        self._guard = threading.Lock()

    def note(self, where: str, found: Versioned, modified_at: datetime) -> None:
        if found.age_seconds >= _SETTLED_SECONDS:
            with self._guard:
                self._requests[where, found.entry.generation_key] = modified_at, frozenset(found.entry.request_ids)

    def may_name(self, where: str, key: str, modified_at: datetime, request_id: str) -> bool:
        """Whether an entry has to be read."""
        with self._guard:
            known = self._requests.get((where, key))
        return known is None or known[0] != modified_at or request_id in known[1]


_seen = _SeenRequests()


@dataclass(frozen=True)
class KnownRequest:
    """A request, and the generation that it was submitted for."""

    entry: Entry
    request_id: str

    @property
    def is_earlier(self) -> bool:
        """Whether the generation was submitted again since, as another request."""
        return self.entry.request_id != self.request_id

    @property
    def submission(self) -> Submission:
        """The request's submission; with its archive if the journal says that it is archived."""
        if not self.is_earlier:
            return submission_of(self.entry)
        return Submission(
            request_id=self.request_id,
            model_id=self.entry.model_id,
            generation_key=self.entry.generation_key,
            submitted_at=self.accepted_at,
            workload=workload_of(self.entry.model_id, self.entry.inputs),
        )

    @property
    def accepted_at(self) -> datetime:
        """When it was accepted, by the clock of the worker that recorded it."""
        if not self.is_earlier and self.entry.submitted_at:
            return self.entry.submitted_at
        own = (event.at for event in self.entry.history if event.request_id == self.request_id)
        return min(own, default=self.entry.created_at)


async def find_request(
    journal: Journal, request_id: str, *, progress: Callable[[int, int], None] | None = None
) -> KnownRequest | None:
    """Return the generation that a request was accepted for, now or in an earlier attempt; `None` if none is known.

    Reads some hundred entries per second, the newest first, back to an hour before the request was accepted.

    Args:
        journal: Where to search.
        request_id: The request.
        progress: Called after each thousand entries, with how many were read and how many there are.

    Raises:
        InvalidInput: two generations name it as theirs, and it is unknown which of them it made.
        StorageError: the journal could not be read.
    """
    modified, where = await journal.modified(), journal.store.where
    keys = sorted(modified, key=modified.__getitem__, reverse=True)
    found: list[KnownRequest] = []
    until, unreadable = datetime.min.replace(tzinfo=UTC), list[str]()
    for start, end in itertools.pairwise((0, *range(_FIRST, len(keys), _EVERY), len(keys))):
        recent = [
            key
            for key in keys[start:end]
            if modified[key] >= until and _seen.may_name(where, key, modified[key], request_id)
        ]
        async for version in journal.read_all(recent, unreadable=unreadable.append):
            _seen.note(where, version, modified[version.entry.generation_key])
            if request_id in version.entry.request_ids:
                found.append(KnownRequest(version.entry, request_id))
                until = max(until, found[-1].accepted_at - _NEIGHBOURS)
        if progress is not None and end - start == _EVERY:
            progress(end, len(keys))
    if unreadable and not found:
        logger.warning(
            "%d entries of the journal in %s cannot be read by this version; whether one of them has request %s is not "
            "known", len(unreadable), journal.store.where, request_id,
        )  # fmt: skip
    return _only(found, journal.store.where) if found else None


def _only(found: list[KnownRequest], where: str) -> KnownRequest:
    """Return the generation whose request it is: the one that has its video, else the only one that was not released.

    Raises:
        InvalidInput: there are several.
    """
    present = [known for known in found if not known.is_earlier and known.entry.state is not EntryState.RELEASED]
    archived = [known for known in present if known.entry.state is EntryState.ARCHIVED]
    for candidates in (archived, present, found):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            found = candidates
            break
    keys = [known.entry.generation_key[:12] for known in found]
    options = [StoreOptions.of(known.entry.store, where) for known in found]
    commands = [
        f"`{shell_command('journal', 'release', key, *each.for_journal)}`"
        for key, each in zip(keys, options, strict=True)
        if each.has_journal
    ]
    raise InvalidInput(
        f"Request {found[0].request_id} is named by {len(keys)} generations, and it can have made the video of one: "
        f"{', '.join(keys)}. Nothing was archived. Look in RunComfy's dashboard what it was asked for, and release the "
        f"{': '.join(['other', *([', or '.join(commands)] if commands else [])])}.",
        request_id=found[0].request_id,
    )
