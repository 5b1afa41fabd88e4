"""The progress of one request: a log line for each change, and a progress bar on the run's page."""

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
"""How long the end of a wait waits for the last update of the bar."""


class WaitProgress:
    """Shows the polls of a request, and the time that passes between them: polls are rare when its end is predictable.

    Args:
        request_id: The request.
        forecast: Returns how long others of its kind ran; called once, with the first poll.
    """

    def __init__(self, request_id: str, forecast: Callable[[], Awaitable[Forecast | None]]) -> None:
        self._request_id = request_id
        self._forecast = forecast
        self._usual_seconds: float | None = None
        self._logger = get_run_logger()
        self._artifact: UUID | None = None
        self._news = asyncio.Event()
        self._over = False
        self._failure = ""
        self._shown = (0.0, "")
        self._percent = 0.0
        self._poll: Poll | None = None
        self._polled_at = 0.0
        self._logged = ""
        self._left_queue_at: float | None = None

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Update the bar while the body runs; if that ends in an error, the bar stays where it was, and says so.

        The body never waits for Prefect's API; only at the end, the last update is awaited for a moment.
        """
        updating = asyncio.create_task(self._keep_updating())
        try:
            yield
        except RunComfyError as error:
            self._failure = type(error).__name__
            raise
        finally:
            self._over = True
            self._news.set()
            try:
                await asyncio.wait({updating}, timeout=_LAST_SECONDS)
            finally:
                updating.cancel()

    async def show(self, poll: Poll) -> None:
        """Log a poll if it has news; the time that has passed is shown all the while."""
        if self._poll is None:
            self._usual_seconds = await self._usual()
        self._poll, self._polled_at = poll, time.monotonic()
        if poll.state is not State.IN_QUEUE and self._left_queue_at is None:
            self._left_queue_at = poll.waited_seconds
        news = _state(poll)
        if poll.failure is not None:
            self._logger.warning("Could not poll request %s, will try again: %s", self._request_id, poll.failure)
        elif news != self._logged:
            self._logger.info(
                "Request %s is %s, %.0f s after its submission%s",
                self._request_id, news, poll.waited_seconds, self._outlook(poll),
            )  # fmt: skip
        else:
            return
        self._logged = news
        self._news.set()

    async def _usual(self) -> float | None:
        try:
            forecast = await self._forecast()
        except Exception as error:  # it is only shown
            self._logger.warning("It is not known how long others took (%s)", type(error).__name__)
            return None
        return forecast.median_seconds if forecast else None

    async def _keep_updating(self) -> None:
        try:
            while not self._over:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_UPDATE_SECONDS):
                        await self._news.wait()
                self._news.clear()
                await self._update()
        except Exception as error:  # showing a run must never break what is paid for
            self._logger.warning("The progress cannot be shown any more (%s)", type(error).__name__)

    async def _update(self) -> None:
        if self._failure:
            if self._artifact is None:
                return
            sentence = f"Ended without a result: {self._failure}."
        elif self._poll is None:
            return
        else:
            sentence = self._sentence(self._poll if self._poll.result is not None else self._aged(self._poll))
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

    def _aged(self, poll: Poll) -> Poll:
        """Return a poll as it would be now, if only time has passed since."""
        since = time.monotonic() - self._polled_at
        left = None if poll.seconds_left is None else max(poll.seconds_left - since, 0.0)
        return replace(poll, waited_seconds=poll.waited_seconds + since, seconds_left=left)

    def _sentence(self, poll: Poll) -> str:
        self._percent = self._guess(poll)
        news = _state(poll)
        unseen = f"; the last poll failed ({type(poll.failure).__name__})" if poll.failure is not None else ""
        return (
            f"{text(news[:1].upper() + news[1:])}, {poll.waited_seconds:.0f} s after its submission"
            f"{self._outlook(poll)}{unseen}."
        )

    def _outlook(self, poll: Poll) -> str:
        """Return how long it took, or how long it may take, judging by others of its kind."""
        if poll.result is not None:
            queued, running = poll.result.queued_seconds, poll.result.running_seconds
            return (
                "" if queued is None or running is None else f": {queued:.0f} s in the queue, {running:.0f} s running"
            )
        if self._usual_seconds is None:
            return ""
        if poll.state is State.IN_QUEUE:
            return f"; others like it then ran for {self._usual_seconds:.0f} s"
        left = "" if poll.seconds_left is None else f"; about {poll.seconds_left:.0f} s left"
        if poll.seconds_left is not None and poll.seconds_left < 1:
            left = "; due at any moment"
        return f"{left}; others like it ran for {self._usual_seconds:.0f} s"

    def _guess(self, poll: Poll) -> float:
        """Guess the percentage: the service does not report any, so this approaches 90 and never reaches it.

        The time left is guessed from how long others of its kind ran; if that is unknown, it is always a minute.
        """
        if poll.result is not None:
            return 100.0
        if poll.state is State.IN_QUEUE:
            return 5.0
        running = poll.waited_seconds - (self._left_queue_at or 0.0)
        left = max(60.0 if poll.seconds_left is None else poll.seconds_left, 1.0)
        return round(10 + 80 * running / (running + left), 1)


def _state(poll: Poll) -> str:
    if poll.result is not None:
        return "finished"
    if poll.queue_position is not None:
        return f"in the queue at position {poll.queue_position}"
    return {State.IN_QUEUE: "in the queue", State.IN_PROGRESS: "running", State.COMPLETED: "finishing"}.get(
        poll.state, f"in state '{poll.state}'"
    )
