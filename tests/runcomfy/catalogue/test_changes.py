"""What has to be read again, from a listing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runcomfy.catalogue.changes import Seen, changed, seen_now

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OLD = NOON - timedelta(days=1)


def seen(modified: dict[str, datetime], before: Seen | None = None, **trouble: tuple[str, ...]) -> Seen:
    found = seen_now(modified, before, unsettled=trouble.get("unsettled", ()), unread=trouble.get("unread", ()))
    assert found is not None
    return found


def test_the_first_time_everything_is_read() -> None:
    """And an empty folder has nothing."""
    assert changed({"a": OLD, "b": NOON}, None) == ["a", "b"]
    assert seen_now({}, None, unsettled=(), unread=()) is None


def test_a_known_object_is_not_read_again() -> None:
    """Neither an old one, nor a young one that was known with this very time; and the note stays the same."""
    listing = {"old": OLD, "young": NOON}
    known = seen(listing)

    assert changed(listing, known) == []
    assert seen(listing, known) == known


def test_a_new_or_rewritten_object_is_read() -> None:
    """However little younger it is: clocks of the store's machines may differ by minutes."""
    known = seen({"old": OLD, "young": NOON, "same": NOON})

    listing = {"old": NOON + MINUTE, "young": NOON - MINUTE, "same": NOON, "new": NOON - 59 * MINUTE}

    assert changed(listing, known) == ["old", "young", "new"]


def test_an_object_read_in_the_second_of_its_writing_is_read_again() -> None:
    """Another version may have the same time."""
    listing = {"a": NOON, "b": NOON}

    assert changed(listing, seen(listing, unsettled=("b",))) == ["b"]


def test_an_unreadable_object_is_retried_indefinitely() -> None:
    """A later version of this program may read it, however old it is by then."""
    listing = {"a": OLD, "b": NOON}

    assert changed(listing, seen(listing, unread=("a",))) == ["a"]


def test_old_objects_that_were_put_back_are_found() -> None:
    """A folder that is restored has the old times; then there are more old ones than were known."""
    known = seen({"a": NOON})

    assert changed({"a": NOON, "b": OLD, "c": OLD}, known) == ["a", "b", "c"]


def test_a_clock_that_is_ahead_does_not_hide_what_follows() -> None:
    """What is known ends now, whatever a listing says."""
    known = seen({"a": datetime.now(UTC) + timedelta(days=30)})

    assert changed({"b": datetime.now(UTC)}, known) == ["b"]
