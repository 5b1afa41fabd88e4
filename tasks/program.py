"""Prefect as the program that many generations are made in: a task run for each, shared slots, a progress bar."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from blocks import MediaStore, RunComfyCredentials
from runcomfy.batch.estimate import Tally
from runcomfy.batch.program import Program
from runcomfy.generation.engine import Engine
from runcomfy.generation.generate import Authorise
from runcomfy.models.orders import Order
from runcomfy.values import Outcome, StagedImage, Submission
from tasks.generate import generate_one
from tasks.hooks import PREFECT
from tasks.progress import shown_progress
from tasks.slots import slots

__all__ = ["PrefectProgram"]


class PrefectProgram(Program):
    """A flow run.

    Args:
        credentials: Who pays.
        store: The bucket.
    """

    def __init__(self, credentials: RunComfyCredentials, store: MediaStore) -> None:
        super().__init__(credentials.get_client, store.destination(), credentials.host_policy(), PREFECT)
        self._credentials = credentials
        self.slots_are_shared = bool(credentials.concurrency_limit)

    async def generate(
        self,
        order: Order,
        staged: StagedImage | None,
        engine: Engine,
        *,
        label: str,
        authorise: Authorise | None = None,
        on_accepted: Callable[[Submission], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Make one generation in a task run of its own."""
        return await generate_one(order, staged, engine, label=label, authorise=authorise, on_accepted=on_accepted)

    def slots(self, wanted: int) -> AbstractAsyncContextManager[int]:
        """Hold slots of the account's limit, which all flow runs share."""
        return slots(self._credentials, wanted)

    def progress(self, tally: Tally, money: Callable[[], str] = lambda: "") -> AbstractAsyncContextManager[None]:
        """Show how a tally grows on the run's page."""
        return shown_progress(tally, money)
