"""What the inbox needs from Prefect: its queue, with a block's credentials, and its run's page."""

from __future__ import annotations

from collections.abc import Sequence

import boto3
from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from blocks import MediaStore
from runcomfy.inbox.processor import Received
from runcomfy.inbox.queue import Queue
from runcomfy.inbox.run import summed_up
from runcomfy.storage.s3 import open_session
from runcomfy.values import OutcomeStatus
from tasks.pages.artifacts import show
from tasks.pages.markdown import code, text

__all__ = ["open_queue", "report_received"]

_MOST_ROWS = 1000


def open_queue(url: str, store: MediaStore, visibility_timeout_seconds: int) -> Queue:
    """Return the queue, with the credentials of the store; blocking.

    Raises:
        ConfigurationError: the URL is not that of a queue.
        StorageError: there are no usable credentials.
    """
    credentials = store.credentials
    verify = credentials.aws_client_parameters.get_params_override().get("verify") if credentials else None
    session = open_session(
        credentials.get_boto3_session if credentials else lambda: boto3.Session(region_name=store.region_name or None)
    )
    return Queue(
        url,
        session=session,
        visibility_timeout_seconds=visibility_timeout_seconds,
        verify=True if verify is None else verify,
    )


@task(task_run_name="report", cache_policy=NO_CACHE)
async def report_received(received: Sequence[Received], source: str) -> None:
    """Show on the run's page what arrived and what became of it; what was set aside gets an artifact of its own."""
    ordered = sorted(received, key=lambda one: (not one.is_trouble, one.source))
    rows = [
        {
            "arrived": text(one.source),
            "what became of it": str(one.fate),
            "video": " ".join(one.uris),
            "generation": (one.generation_key or "")[:12],
            "USD": "" if one.cost_usd is None else one.cost_usd,
            "why": text(one.reason or ""),
        }
        for one in ordered[:_MOST_ROWS]
    ]
    cut = f"; the first {_MOST_ROWS:,} are shown" if len(received) > _MOST_ROWS else ""
    title = f"{code(source)}: {summed_up(received)}{cut}"
    await show(acreate_table_artifact(rows, key="runcomfy-inbox", description=title))
    aside = [one for one in ordered if one.fate is OutcomeStatus.SET_ASIDE][:_MOST_ROWS]
    if aside:
        lines = [
            f"**{len(aside)}** of {code(source)} were set aside. Each is processed again when its image or a sidecar "
            "changes: fix it, and upload it again.\n",
            "| arrived | why |",
            "|---|---|",
            *(f"| {_cell(code(one.source))} | {_cell(text(one.reason or ''))} |" for one in aside),
        ]
        await show(
            acreate_markdown_artifact(
                "\n".join(lines),
                key="runcomfy-inbox-set-aside",
                description=f"{len(aside)} were set aside; each has to be fixed first.",
            )
        )


def _cell(markdown: str) -> str:
    return markdown.replace("|", "\\|")
