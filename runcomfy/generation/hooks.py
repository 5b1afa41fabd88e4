"""What the program around a generation adds to it: the defaults need nothing but a process; `tasks` has Prefect's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

from runcomfy.journal.entry import EntryState
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo, GenerationFacts, StagedImage

__all__ = ["Hooks", "Log", "StateChange"]

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass(frozen=True)
class StateChange:
    """A generation that is in another state now.

    Args:
        state: The state.
        archive: Where it is archived, `s3://bucket/prefix`.
        key: The generation, as far as it is known.
        request_id: Its request, if it has one.
        model_id: The model, as far as it is known.
        reason: Why, if that needs a reason.
        error_type: The class of the error that it ended with, if there was one.
    """

    state: EntryState
    archive: str
    key: str | None = None
    request_id: str | None = None
    model_id: str | None = None
    reason: str | None = None
    error_type: str | None = None


class Hooks:
    """A program without a server: it logs, sleeps, and is interrupted by Ctrl-C only."""

    notices_ctrl_c = True
    """Whether a Ctrl-C in this terminal means the generations, and not only the process."""

    @property
    def log(self) -> Log:
        """The log for people: money, files, errors."""
        return logging.getLogger("runcomfy")

    async def run_id(self) -> str:
        """Return the run's id: one run pays once for a generation, even if its earlier attempt failed."""
        return _process_run()

    def run_facts(self) -> dict[str, str]:
        """Return other facts of the run, for the journal and the provenance."""
        return {}

    def span_attributes(self) -> Mapping[str, Any]:
        """Return the run's attributes for the spans of a trace."""
        return {}

    async def sleep(self, seconds: float) -> None:
        """Sleep; a cancellation ends it early."""
        await asyncio.sleep(seconds)

    def timed_out(self) -> bool:
        """Whether a time-out of the program interrupted the waiting; asked before anything else."""
        return False

    async def cancellation_requested(self) -> bool:
        """Whether a person cancelled the run; asked after an interruption of the waiting; 20 seconds at most."""
        return False

    def attempt(self) -> int:
        """Return the number of this attempt at the step, from 1."""
        return 1

    def is_last_attempt(self) -> bool:
        """Whether this step is not tried again if it fails now with an error that may pass."""
        return True

    def changed(self, change: StateChange) -> None:
        """Called when a generation is in another state; must not raise."""

    def archived(self, facts: GenerationFacts, video: ArchivedVideo, image: StagedImage | None, store: Store) -> None:
        """Called when a file is archived, now or before; must not raise."""


@cache
def _process_run() -> str:
    return f"process {uuid4()}"
