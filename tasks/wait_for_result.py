"""Wait for a request to end, and show its progress."""

from __future__ import annotations

from prefect.cache_policies import NO_CACHE

from blocks import MediaStore, RunComfyCredentials
from runcomfy.generation.generate import wait, workload
from runcomfy.policy import Deadlines, OnInterrupt, Polling, RunPolicy
from runcomfy.polling.forecast import Forecast, RunTimes
from runcomfy.values import Result, Submission
from tasks.pages.poll_progress import WaitProgress
from tasks.runtime.hooks import PREFECT, worth_retrying
from tasks.runtime.naming import fact, task_name
from tasks.runtime.request_task import OpenRequest, open_request, request_task, waited_for

__all__ = ["wait_for_result"]


_name = task_name(lambda given: f"wait for {fact(given['submission'], 'request_id')}", otherwise="wait for a request")


@request_task(task_run_name=_name, retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def wait_for_result(
    submission: Submission | str,
    credentials: RunComfyCredentials,
    store: MediaStore | None = None,
    *,
    deadlines: Deadlines | None = None,
    polling: Polling | None = None,
    on_interrupt: OnInterrupt = "ask",
) -> Result:
    """Poll a request until it has succeeded; it may be done again at any time, from the request id alone.

    Args:
        submission: The submission, or just the request's id.
        credentials: Whose request it is.
        store: Where the journal is that records how it ended.
        deadlines: When it is cancelled in the queue, and when a running one is given up.
        polling: How often to poll.
        on_interrupt: What to do with it when this task is cancelled; by default, cancel it if a person asked for that,
            or a time-out has passed.

    Returns:
        The result; at once and without a call to the service, if the generation is archived already.

    Raises:
        GenerationFailed, GenerationCancelled, NoOutput: it ended without a video.
        QueueTimeout: it was cancelled at the queue deadline.
        RunTimeout, PollingFailed: it may be running and billed; fetch it later.
        ServiceError: the service refuses to answer.
    """
    request = OpenRequest(submission, credentials, store, on_interrupt)
    open_request(request)
    policy = RunPolicy(deadlines or Deadlines(), polling or Polling(), on_interrupt)
    destination = store.destination() if store else None
    run_times = RunTimes(destination.journal if destination else None)
    request_id = submission.request_id if isinstance(submission, Submission) else str(submission)
    async with credentials.get_client() as client:

        async def forecast() -> Forecast | None:
            return (await run_times.load()).forecast(workload(submission))

        progress = WaitProgress(request_id, forecast)
        async with progress.shown():
            with waited_for(request):
                result, _ = await wait(client, submission, destination, run_times, policy, PREFECT, show=progress.show)
        await run_times.save()
    return result
