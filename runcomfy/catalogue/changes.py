"""What has changed since the last update, from a listing alone.

A listing says when each object was written last. What is older than the newest of the last listing by more than clocks
may differ is known; what is younger is known if it was recorded with this very time. S3 has times in whole seconds, so
a version that was read within two seconds of its writing is not recorded: another may have followed in the same second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict

__all__ = ["SETTLED_SECONDS", "Seen", "changed", "seen_now"]

SETTLED_SECONDS = 2.0
"""So long after it was written, an object that is written again has another time."""
_SKEW = timedelta(hours=1)


class Seen(BaseModel):
    """What the last update knew of a listing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    known_until: datetime
    count: int
    """How many names there were: more old ones than that were put there with their old times, and are not known."""
    settled: dict[str, datetime]
    """The names of the last hour that are known, with the time of the version that is."""
    again: tuple[str, ...] = ()
    """What could not be read, and is tried again, however old."""


def changed(modified: Mapping[str, datetime], seen: Seen | None, *, skew: timedelta = _SKEW) -> list[str]:
    """Return the names that have to be read.

    Args:
        modified: The listing: each name, with the time of its present version by the clock of the store.
        seen: What the last update knew; `None` if there was none.
        skew: How far the clocks of the store's own machines may be apart.
    """
    if seen is None:
        return list(modified)
    since = seen.known_until - skew
    old = sum(at < since for at in modified.values())
    if old > seen.count:
        return list(modified)
    again = set(seen.again)
    return [
        name for name, at in modified.items() if name in again or (at >= since and seen.settled.get(name) != at)
    ]  # fmt: skip


def seen_now(
    modified: Mapping[str, datetime], before: Seen | None, *, unsettled: Iterable[str], unread: Iterable[str],
    skew: timedelta = _SKEW,
) -> Seen | None:  # fmt: skip
    """Return what is known after everything that has changed was read; `None` of an empty store.

    Args:
        modified: The listing, as it was before anything was read.
        before: What was known then.
        unsettled: What was read too soon after it was written.
        unread: What could not be read.
        skew: As in `changed`.
    """
    if not modified:
        return before
    until = min(max(modified.values()), datetime.now(UTC))  # a clock may have been ahead
    since, unread = until - skew, frozenset(unread)
    not_yet = unread.union(unsettled)
    return Seen(
        known_until=until,
        count=len(modified),
        settled={name: at for name, at in modified.items() if at >= since and name not in not_yet},
        again=tuple(sorted(unread)),
    )
