"""This machine's clock against those of the servers: signatures and ages depend on it."""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from runcomfy.doctor.findings import Diagnosis, broken, not_checked, ok, warning
from runcomfy.doctor.running import Check

__all__ = ["ServerClock", "clock_check"]

_WARN, _BREAK = timedelta(seconds=30), timedelta(minutes=5)


class ServerClock:
    """What the servers' `Date` headers say of this machine's clock.

    Args:
        now: This machine's time.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self._ahead: dict[str, timedelta] = {}

    def record(self, server: str, date: str | None) -> None:
        """Record the `Date` header of an answer that has just arrived; one that cannot be read is ignored."""
        try:
            theirs = email.utils.parsedate_to_datetime(date or "")
        except ValueError:
            return
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        self._ahead[server] = self.now() - theirs

    def verdict(self) -> Diagnosis:
        """Compare: more than 30 seconds is a warning, more than five minutes is broken; S3 refuses 15 minutes."""
        if not self._ahead:
            return not_checked("because no server sent its time")
        server, worst = max(self._ahead.items(), key=lambda item: abs(item[1]))
        found = f"{_apart(worst)} that of {server}"
        if abs(worst) <= _WARN:
            return ok("right, as " + " and ".join(sorted(self._ahead)) + " say")
        if len(self._ahead) > 1 and min(abs(ahead) for ahead in self._ahead.values()) <= _WARN:
            advice = f"Another server agrees with this machine: set the clock of {server}."
        else:
            advice = "Set this machine's clock (NTP): S3 refuses what is signed 15 minutes off."
        return warning(found, advice) if abs(worst) <= _BREAK else broken(found, advice)


def clock_check(clock: ServerClock, after: tuple[str, ...]) -> Check:
    """Return the check of the clock.

    Args:
        clock: Filled by the other checks.
        after: The names of those checks.
    """

    async def run() -> Diagnosis:
        return clock.verdict()

    return Check("Machine", "clock", run, after=after)


def _apart(ahead: timedelta) -> str:
    seconds = abs(ahead.total_seconds())
    amount = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{amount} {'ahead of' if ahead > timedelta() else 'behind'}"
