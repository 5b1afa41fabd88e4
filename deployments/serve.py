"""Serve every flow from one process: `python -m deployments.serve`, for a laptop or a single machine.

Each flow run gets a process of its own. Runs are started from the Prefect UI, the API, or `prefect deployment run`.
"""

from __future__ import annotations

import asyncio

from prefect import aserve

from flows.adopt_request import adopt_request
from flows.fetch_request import fetch_request
from flows.image_to_video import image_to_video
from flows.reconcile import reconcile
from flows.release_generation import release_generation
from flows.text_to_video import text_to_video

__all__ = ["main"]

# A name of its own: the deployments of prefect.yaml may stand on the same server.
_NAME = "served"
_TAGS = ["runcomfy", "video"]


async def main() -> None:
    """Register a deployment for each flow, and run what is asked for until the process is stopped."""
    flows = (image_to_video, text_to_video, fetch_request, adopt_request, release_generation, reconcile)
    await aserve(*[await flow.ato_deployment(name=_NAME, tags=_TAGS) for flow in flows])


if __name__ == "__main__":
    asyncio.run(main())
