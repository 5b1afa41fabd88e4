"""Cancel a request that is still in the queue."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks import RunComfyCredentials
from runcomfy.api.requests import cancel
from tasks.runtime.hooks import worth_retrying
from tasks.runtime.naming import fact, task_name

__all__ = ["cancel_request"]


_name = task_name(lambda given: f"cancel {fact(given['request_id'])}", otherwise="cancel a request")


@task(task_run_name=_name, retry_condition_fn=worth_retrying, cache_policy=NO_CACHE)
async def cancel_request(request_id: str, credentials: RunComfyCredentials) -> bool:
    """Cancel a request; doing it twice is harmless.

    Returns:
        Whether it is cancelled. If not, it is running or done, and its paid result should be fetched.

    Raises:
        ServiceError: the service did not answer, or does not know the request.
    """
    async with credentials.get_client() as client:
        cancellation = await cancel(client, request_id)
    get_run_logger().info("Request %s: %s", request_id, cancellation.outcome or f"now {cancellation.state}")
    return cancellation.outcome == "cancelled"
