"""How the waiting for one request goes: a log line where something changed, and a progress bar on the run's page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from runcomfy.api.responses import State
from runcomfy.errors import RunComfyError
from runcomfy.polling.forecast import Forecast
from runcomfy.polling.poll import Poll
from tasks.pages.artifacts import show
from tasks.pages.markdown import text

__all__ = ["WaitProgress"]

_UPDATE_SECONDS = 10.0
_LAST_SECONDS = 5.0
"""How long the end of a wait waits for the bar."""


class WaitProgress:
    """Shows looks at a request, and how time passes between them: where it is known when it is due, looks are rare.

    Args:
        request_id: The request.
        foretold: Returns how long others of its kind ran; asked once, with the first look.
    """

    def __init__(self, request_id: str, foretold: Callable[[], Awaitable[Forecast | None]]) -> None:
        self._request_id = request_id
        self._foretold = foretold
        self._usual_seconds: float | None = None
        self._logger = get_run_logger()
        self._artifact: UUID | None = None
        self._news = asyncio.Event()
        self._over = False
        self._failure = ""
        self._shown = (0.0, "")
        self._percent = 0.0
        self._look: Poll | None = None
        self._looked_at = 0.0
        self._said = ""
        self._left_queue_at: float | None = None

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Let the bar go on while the body runs; where that ends in an error, it stays where it was, and says so.

        Only the bar waits for Prefect's API, but for a moment at the end: the body never does.
        """
        passing = asyncio.create_task(self._pass())
        try:
            yield
        except RunComfyError as error:
            self._failure = type(error).__name__
            raise
        finally:
            self._over = True
            self._news.set()
            try:
                await asyncio.wait({passing}, timeout=_LAST_SECONDS)
            finally:
                passing.cancel()

    async def show(self, look: Poll) -> None:
        """Show a look if it shows something new; how long it has been is shown all the time."""
        if self._look is None:
            self._usual_seconds = await self._usual()
        self._look, self._looked_at = look, time.monotonic()
        if look.state is not State.IN_QUEUE and self._left_queue_at is None:
            self._left_queue_at = look.waited_seconds
        news = _state(look)
        if look.failure is not None:
            self._logger.warning("Could not look at request %s, will look again: %s", self._request_id, look.failure)
        elif news != self._said:
            self._logger.info(
                "Request %s is %s, %.0f s after its submission%s",
                self._request_id, news, look.waited_seconds, self._outlook(look),
            )  # fmt: skip
        else:
            return
        self._said = news
        self._news.set()

    async def _usual(self) -> float | None:
        try:
            forecast = await self._foretold()
        except Exception as error:  # it is only shown
            self._logger.warning("It is not known how long others took (%s)", type(error).__name__)
            return None
        return forecast.median_seconds if forecast else None

    async def _pass(self) -> None:
        try:
            while not self._over:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_UPDATE_SECONDS):
                        await self._news.wait()
                self._news.clear()
                await self._update()
        except Exception as error:  # a picture of a run must never break what is paid for
            self._logger.warning("The progress cannot be shown any more (%s)", type(error).__name__)

    async def _update(self) -> None:
        if self._failure:
            if self._artifact is None:
                return
            sentence = f"Ended without a result: {self._failure}."
        elif self._look is None:
            return
        else:
            sentence = self._sentence(self._look if self._look.result is not None else self._aged(self._look))
        shown = self._percent, f"{sentence} Request {text(self._request_id)}"
        if shown == self._shown:
            return
        self._shown = shown
        percent, description = shown
        if self._artifact is None:
            self._artifact = await show(
                acreate_progress_artifact(percent, key="runcomfy-progress", description=description)
            )
        else:
            await show(aupdate_progress_artifact(self._artifact, percent, description=description))

    def _aged(self, look: Poll) -> Poll:
        """Return a look as it would be now, if nothing but the time has changed since."""
        since = time.monotonic() - self._looked_at
        left = None if look.seconds_left is None else max(look.seconds_left - since, 0.0)
        return replace(look, waited_seconds=look.waited_seconds + since, seconds_left=left)

    def _sentence(self, look: Poll) -> str:
        self._percent = self._guess(look)
        news = _state(look)
        unseen = f"; the last look failed ({type(look.failure).__name__})" if look.failure is not None else ""
        return (
            f"{text(news[:1].upper() + news[1:])}, {look.waited_seconds:.0f} s after its submission"
            f"{self._outlook(look)}{unseen}."
        )

    def _outlook(self, look: Poll) -> str:
        """Say how long it took, or what is to be expected from how long others of its kind ran."""
        if look.result is not None:
            queued, running = look.result.queued_seconds, look.result.running_seconds
            return (
                "" if queued is None or running is None else f": {queued:.0f} s in the queue, {running:.0f} s running"
            )
        if self._usual_seconds is None:
            return ""
        if look.state is State.IN_QUEUE:
            return f"; others like it then ran for {self._usual_seconds:.0f} s"
        left = "" if look.seconds_left is None else f"; about {look.seconds_left:.0f} s left"
        if look.seconds_left is not None and look.seconds_left < 1:
            left = "; due at any moment"
        return f"{left}; others like it ran for {self._usual_seconds:.0f} s"

    def _guess(self, look: Poll) -> float:
        """Guess how far it is: the service does not say, so this only ever approaches 90 before the end.

        Where others of its kind have been seen, the guess is how long those took; else, that another minute is left.
        """
        if look.result is not None:
            return 100.0
        if look.state is State.IN_QUEUE:
            return 5.0
        running = look.waited_seconds - (self._left_queue_at or 0.0)
        left = max(60.0 if look.seconds_left is None else look.seconds_left, 1.0)
        return round(10 + 80 * running / (running + left), 1)


def _state(look: Poll) -> str:
    if look.result is not None:
        return "finished"
    if look.queue_position is not None:
        return f"in the queue at position {look.queue_position}"
    return {State.IN_QUEUE: "in the queue", State.IN_PROGRESS: "running", State.COMPLETED: "finishing"}.get(
        look.state, f"in state '{look.state}'"
    )
