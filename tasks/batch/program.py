"""The program of a batch or an inbox on Prefect: a task run for each generation, shared slots, a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from blocks import MediaStore, RunComfyCredentials
from runcomfy.batch.estimate import Tally
from runcomfy.batch.program import Program
from tasks.generate import generate_one
from tasks.pages.progress import shown_progress
from tasks.runtime.hooks import PREFECT
from tasks.runtime.slots import slots

__all__ = ["PrefectProgram"]


class PrefectProgram(Program):
    """A flow run.

    Args:
        credentials: Who pays.
        store: The bucket.
    """

    def __init__(self, credentials: RunComfyCredentials, store: MediaStore) -> None:
        destination, hosts = store.destination(), credentials.host_policy()
        super().__init__(credentials.get_client, destination, hosts, PREFECT, generate_one)
        self._credentials = credentials
        self.slots_are_shared = bool(credentials.concurrency_limit)

    def slots(self, wanted: int) -> AbstractAsyncContextManager[int]:
        """Hold slots of the account's limit, which all flow runs share."""
        return slots(self._credentials, wanted)

    def progress(self, tally: Tally, money: Callable[[], str] = lambda: "") -> AbstractAsyncContextManager[None]:
        """Show a growing tally on the run's page."""
        return shown_progress(tally, money)
