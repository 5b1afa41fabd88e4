"""Wait for a request to end, and show how it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.client import RunComfyClient
from runcomfy.clock import Clock
from runcomfy.policy import Deadlines, OnInterrupt, Polling, RunPolicy
from runcomfy.polling.forecast import Forecast, RunTimes
from runcomfy.polling.poll import Look, follow
from runcomfy.values import Result, Submission
from runcomfy.wire import Answer
from tasks.events import end_of_request_told
from tasks.interruption import settled_if_interrupted, watchful_sleep
from tasks.naming import fact, task_name
from tasks.retrying import worth_retrying
from tasks.telemetry import waiting
from tasks.wait_progress import WaitProgress

__all__ = ["wait", "wait_for_result"]


_name = task_name(lambda given: f"wait for {fact(given['submission'], 'request_id')}", otherwise="wait for a request")


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
    policy = RunPolicy(deadlines or Deadlines(), polling or Polling(), on_interrupt)
    request_id, _, _ = _request(submission)
    run_times = RunTimes(store.get_journal() if store else None)
    async with credentials.get_client() as client:

        async def foretold() -> Forecast | None:
            return (await run_times.recall()).forecast(_workload(submission))

        progress = WaitProgress(request_id, foretold)
        async with progress.shown():
            result, _ = await wait(client, submission, store, run_times, policy, show=progress.show)
        await run_times.note()
    return result


async def wait(
    client: RunComfyClient,
    submission: Submission | str,
    store: MediaStore | None,
    run_times: RunTimes,
    policy: RunPolicy = RunPolicy(),
    *,
    show: Callable[[Look], Awaitable[None]] | None = None,
) -> tuple[Result, Answer | None]:
    """Do what the task `wait_for_result` does, with what is open already; `show` is awaited with each look.

    Returns:
        The result, and the answer that it was told by, with its URLs: to be used at once, and never kept.
    """
    if isinstance(submission, Submission) and submission.archive is not None:
        return submission.archive.result, None
    request_id, submitted_at, key = _request(submission)
    await run_times.recall()
    async with (
        settled_if_interrupted(client, request_id, store, key, policy.on_interrupt),
        end_of_request_told(store, key, request_id),
        waiting(submission) as looked,
    ):
        async for look in follow(
            client,
            request_id,
            submitted_at=submitted_at,
            deadlines=policy.deadlines,
            polling=policy.polling,
            clock=Clock(sleep=watchful_sleep),
            workload=_workload(submission),
            run_times=run_times,
        ):
            looked(look)
            if show is not None:
                await show(look)
            if look.result is not None:
                return look.result, look.answer
    raise AssertionError("a request that is followed ends with a result or an error")


def _request(submission: Submission | str) -> tuple[str, datetime | None, str | None]:
    if isinstance(submission, Submission):
        return submission.request_id, submission.submitted_at, submission.generation_key
    if isinstance(submission, str):
        return submission, None, None
    # such as what `allow_failure` hands on of a task that failed
    raise TypeError(f"there is no submission or request id to wait for, but a {type(submission).__name__}")


def _workload(submission: Submission | str) -> str | None:
    return submission.workload if isinstance(submission, Submission) else None
