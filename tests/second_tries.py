"""Which tests have a second try, and when: what a busy machine breaks says nothing of our code.

Tests on a Prefect server of this machine have one, and slow ones where few assertions are about payments. Any other has
one if such a server was too busy, or if this machine was held up while it ran: a stop of some seconds ends leases,
time-outs and idle times that a test has to keep within. The summary shows every second try with the traceback of the
first one. Never tried again: a failed assertion about payments or about the journal.
"""

from __future__ import annotations

import threading
import time

import pytest

__all__ = ["add_second_tries", "watch_the_machine"]

# On SQLite, a Prefect server drops what it is asked under load: it answers 503, loses an event, closes a connection.
_PREFECT_SERVERS = frozenset({"prefect_api", "prefect_server"})
_WORDS_ABOUT_PAYMENTS = ["submissions_accepted", "charged", "paid", "EntryState"]

# Here, nearly every assertion is about payments.
_ABOUT_PAYMENTS = ("tests/crash/", "tests/runcomfy/", "tests/inbox/", "tests/deployments/test_batches.py")
_BUSY_SERVER = ["PrefectHTTPStatusError", "ReadTimeout", "ConnectTimeout", "PoolTimeout", "RemoteProtocolError"]
_TICK_SECONDS = 0.2


class _Watch:
    """Notices when this machine is held up: a thread that wants to wake up every moment wakes up late."""

    longest_seconds = 0.0

    def begin(self) -> None:
        """Forget what was before this test."""
        if not any(thread.name == "watch" for thread in threading.enumerate()):
            threading.Thread(target=self._tick, name="watch", daemon=True).start()
        self.longest_seconds = 0.0

    def was_held_up(self) -> bool:
        time.sleep(2 * _TICK_SECONDS)  # it may be about to notice
        return self.longest_seconds > 1

    def _tick(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(_TICK_SECONDS)
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began - _TICK_SECONDS)


_watch = _Watch()
watch_the_machine = _watch.begin
"""To be called before each test."""


def _is_of_the_machine(error: BaseException | None) -> bool:
    if error is None:  # asked of each test that passed, too
        return False
    said = f"{type(error).__name__}: {error}"
    if any(name in said for name in _BUSY_SERVER):
        return True
    return not any(word in said for word in _WORDS_ABOUT_PAYMENTS) and _watch.was_held_up()


def add_second_tries(items: list[pytest.Item]) -> None:
    """Say for each test which failures begin it again."""
    for item in items:
        on_prefect = not _PREFECT_SERVERS.isdisjoint(getattr(item, "fixturenames", ()))
        slow = item.get_closest_marker("slow") is not None
        if on_prefect or (slow and not item.nodeid.startswith(_ABOUT_PAYMENTS)):
            again = pytest.mark.flaky(reruns=1, reruns_delay=2, rerun_except=_WORDS_ABOUT_PAYMENTS)
        else:
            again = pytest.mark.flaky(reruns=2, reruns_delay=2, condition=_is_of_the_machine)
        item.add_marker(again)
