"""Which tests have a second try, and when: what a busy machine breaks says nothing of our code.

The summary shows every second try with the traceback of the first one. Never tried again: a failed assertion about
payments or about the journal.
"""

from __future__ import annotations

import pytest

__all__ = ["add_second_tries"]

# On SQLite, a Prefect server drops what it is asked under load: it answers 503, loses an event, closes a connection.
_PREFECT_SERVERS = frozenset({"prefect_api", "prefect_server"})
_WORDS_ABOUT_PAYMENTS = ["submissions_accepted", "charged", "paid", "EntryState"]

# Here, nearly every assertion is about payments.
_ABOUT_PAYMENTS = ("tests/crash/", "tests/runcomfy/", "tests/inbox/", "tests/deployments/test_batches.py")
_BUSY_SERVER = ["PrefectHTTPStatusError", "ReadTimeout", "ConnectTimeout", "PoolTimeout", "RemoteProtocolError"]


def add_second_tries(items: list[pytest.Item]) -> None:
    """Let slow tests, and those on a Prefect server of this machine, have a second try."""
    for item in items:
        on_prefect = not _PREFECT_SERVERS.isdisjoint(getattr(item, "fixturenames", ()))
        if item.nodeid.startswith(_ABOUT_PAYMENTS) and not on_prefect:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=5, only_rerun=_BUSY_SERVER))
        elif on_prefect or item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=2, rerun_except=_WORDS_ABOUT_PAYMENTS))
