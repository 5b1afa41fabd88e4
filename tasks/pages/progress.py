"""The progress of a flow run with many generations: an artifact, and a log line now and then."""

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
    """Show how a tally grows while the body runs, and its end.

    Args:
        tally: What is counted.
        money: Returns a phrase about the cost, if there is something to say.
    """
    logger, started = get_run_logger(), time.monotonic()

    def sentence() -> str:
        return ", ".join(filter(None, (tally.sentence(time.monotonic() - started), money())))

    artifact = await show(acreate_progress_artifact(tally.percent, key="runcomfy-progress", description=sentence()))

    async def watch() -> None:
        shown, logged_at = "", time.monotonic()
        while True:
            await asyncio.sleep(_UPDATE_SECONDS)
            now = sentence()
            if artifact is not None and now != shown:
                await show(aupdate_progress_artifact(artifact, tally.percent, description=now))
            if now != shown and time.monotonic() >= logged_at + _LOG_SECONDS:
                logger.info("%s", now)
                logged_at = time.monotonic()
            shown = now

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
