"""How far a flow run with many generations is, while it goes on: a progress artifact and a log line now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from prefect import get_run_logger
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from runcomfy.batch.estimate import Tally
from tasks.pages.artifacts import show

__all__ = ["shown_progress"]

_UPDATE_SECONDS = 5.0
_LOG_SECONDS = 60.0


@asynccontextmanager
async def shown_progress(tally: Tally, money: Callable[[], str] = lambda: "") -> AsyncIterator[None]:
    """Show how a tally grows while the body runs, and how it ended.

    Args:
        tally: What is counted.
        money: Returns what is to be said of money, if anything.
    """
    logger, began = get_run_logger(), time.monotonic()

    def sentence() -> str:
        return ", ".join(filter(None, (tally.sentence(time.monotonic() - began), money())))

    artifact = await show(acreate_progress_artifact(tally.percent, key="runcomfy-progress", description=sentence()))

    async def watch() -> None:
        said, logged = "", time.monotonic()
        while True:
            await asyncio.sleep(_UPDATE_SECONDS)
            now = sentence()
            if artifact is not None and now != said:
                await show(aupdate_progress_artifact(artifact, tally.percent, description=now))
            if now != said and time.monotonic() >= logged + _LOG_SECONDS:
                logger.info("%s", now)
                logged = time.monotonic()
            said = now

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    logger.info("%s", sentence())
    if artifact is not None:
        await show(aupdate_progress_artifact(artifact, tally.percent, description=sentence()))
