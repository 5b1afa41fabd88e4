"""Wait for a request to end, and show how it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from prefect import get_run_logger, runtime, task
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.client import RunComfyClient
from runcomfy.polling import Clock, Deadlines, Polling
from runcomfy.submitting import Submission
from runcomfy.waiting import Look, Result, follow
from runcomfy.wire import State
from tasks.artifacts import show
from tasks.events import end_of_request_told
from tasks.interruption import OnInterrupt, settled_if_interrupted, watchful_sleep
from tasks.learning import Learning, learning
from tasks.retrying import worth_retrying

__all__ = ["wait", "wait_for_result"]

_UPDATE_SECONDS = 5.0


def _name() -> str:
    return f"wait for {_request(runtime.task_run.parameters['submission'])[0]}"


@task(task_run_name=_name, retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def wait_for_result(
    submission: Submission | str,
    credentials: RunComfyCredentials,
    store: MediaStore | None = None,
    *,
    deadlines: Deadlines | None = None,
    polling: Polling | None = None,
    on_interrupt: OnInterrupt = "ask",
) -> Result:
    """Follow a request until it has succeeded; it may be done again at any time, from the request id alone.

    Args:
        submission: The submission, or just the request's id.
        credentials: Whose request it is.
        store: Where the journal is that is told how it ended.
        deadlines: When it is cancelled in the queue, and when a running one is given up.
        polling: How often to look.
        on_interrupt: What to do with it when this task is cancelled; by default, cancel it if a person asked for that,
            or a time-out is over.

    Returns:
        The result; at once and without a call to the service, where the generation is archived already.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a video.
        QueueTimeout: it was cancelled at the queue deadline.
        RunTimeout, PollingFailed: it may be running and billed; fetch it later.
        ServiceError: the service refuses to tell.
    """
    async with credentials.get_client() as client, learning(store) as learnt:
        return await wait(
            client,
            submission,
            store,
            learnt,
            deadlines=deadlines,
            polling=polling,
            on_interrupt=on_interrupt,
            show=_Progress(_request(submission)[0]).show,
        )


async def wait(
    client: RunComfyClient,
    submission: Submission | str,
    store: MediaStore | None,
    learnt: Learning,
    *,
    deadlines: Deadlines | None = None,
    polling: Polling | None = None,
    on_interrupt: OnInterrupt = "ask",
    show: Callable[[Look], Awaitable[None]] | None = None,
) -> Result:
    """Do what the task `wait_for_result` does, with what is open already; `show` is awaited with each look."""
    if isinstance(submission, Submission) and submission.archive is not None:
        return submission.archive.result
    request_id, submitted_at, key = _request(submission)
    run_times = await learnt.run_times()
    async with (
        settled_if_interrupted(client, request_id, store, key, on_interrupt),
        end_of_request_told(store, key, request_id),
    ):
        async for look in follow(
            client,
            request_id,
            submitted_at=submitted_at,
            deadlines=deadlines,
            polling=polling,
            clock=Clock(sleep=watchful_sleep),
            workload=submission.workload if isinstance(submission, Submission) else None,
            run_times=run_times,
        ):
            if show is not None:
                await show(look)
            if look.result is not None:
                return look.result
    raise AssertionError("a request that is followed ends with a result or an error")


def _request(submission: Submission | str) -> tuple[str, datetime | None, str | None]:
    if isinstance(submission, Submission):
        return submission.request_id, submission.submitted_at, submission.generation_key
    return submission, None, None


class _Progress:
    """Shows looks: a log line where something changed, and a progress artifact on the run's page."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._logger = get_run_logger()
        self._artifact: UUID | None = None
        self._said = ""
        self._shown_at = -_UPDATE_SECONDS
        self._left_queue_at: float | None = None

    async def show(self, look: Look) -> None:
        """Show a look, at most every few seconds if nothing but the time has changed."""
        news = self._sentence(look)
        if look.failure is not None:
            self._logger.warning("Could not look at request %s, will look again: %s", self._request_id, look.failure)
        elif news != self._said:
            self._logger.info(
                "Request %s is %s, %.0f s after its submission%s",
                self._request_id, news, look.waited_seconds, _left(look),
            )  # fmt: skip
        elif look.waited_seconds < self._shown_at + _UPDATE_SECONDS:
            return
        self._said, self._shown_at = news, look.waited_seconds
        percent = self._percent(look)
        description = f"{self._request_id} is {news}, {look.waited_seconds:.0f} s after its submission{_left(look)}"
        if self._artifact is None:
            self._artifact = await show(acreate_progress_artifact(percent, description=description))
        else:
            await show(aupdate_progress_artifact(self._artifact, percent, description=description))

    def _sentence(self, look: Look) -> str:
        if look.result is not None:
            return "finished"
        if look.queue_position is not None:
            return f"in the queue at position {look.queue_position}"
        return {State.IN_QUEUE: "in the queue", State.IN_PROGRESS: "running", State.COMPLETED: "finishing"}.get(
            look.state, f"in state '{look.state}'"
        )

    def _percent(self, look: Look) -> float:
        """Guess how far it is: the service does not say, so this only ever approaches 90 before the end.

        Where others of its kind have been seen, the guess is how long those took; else, that another minute is left.
        """
        if look.result is not None:
            return 100.0
        if look.state is State.IN_QUEUE:
            return 5.0
        if self._left_queue_at is None:
            self._left_queue_at = look.waited_seconds
        running = look.waited_seconds - self._left_queue_at
        left = max(60.0 if look.seconds_left is None else look.seconds_left, 1.0)
        return round(10 + 80 * running / (running + left), 1)


def _left(look: Look) -> str:
    return "" if look.seconds_left is None else f"; others like it would take about {look.seconds_left:.0f} s more"
