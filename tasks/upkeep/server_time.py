"""The time by the clock of Prefect's server, which the times of states and events are by."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from prefect.client.orchestration import PrefectClient

__all__ = ["server_time"]


async def server_time(client: PrefectClient) -> datetime:
    """Return the time by the server's clock, to the second; by ours where its answer does not tell.

    Any answer tells it, also one of a server that has no such endpoint.

    Raises:
        httpx.HTTPError: Prefect's API does not answer.
    """
    try:
        answer = await client.hello()
    except httpx.HTTPStatusError as error:
        answer = error.response
    try:
        return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)
