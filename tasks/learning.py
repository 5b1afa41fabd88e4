"""What a run knows of how long requests take: read when somebody first waits, written down at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from blocks import MediaStore
from runcomfy.journal import note_run_times, recall_run_times
from runcomfy.polling.forecast import RunTimes

__all__ = ["Learning", "learning"]


class Learning:
    """The run times that all waits of one run share.

    Args:
        store: Whose journal shares them with other runs; none is shared without one.
    """

    def __init__(self, store: MediaStore | None) -> None:
        self._store = store
        self._run_times: RunTimes | None = None
        self._one_at_a_time = asyncio.Lock()

    async def run_times(self) -> RunTimes:
        """Return what is known by now."""
        async with self._one_at_a_time:
            if self._run_times is None:
                self._run_times = await recall_run_times(self._store.get_journal()) if self._store else RunTimes()
        return self._run_times

    async def note(self) -> None:
        """Write down what is new."""
        if self._store is not None and self._run_times is not None:
            await note_run_times(self._store.get_journal(), self._run_times)


@asynccontextmanager
async def learning(store: MediaStore | None) -> AsyncIterator[Learning]:
    """Share run times in the body, and write down what was learnt if it ends well."""
    learnt = Learning(store)
    yield learnt
    await learnt.note()
