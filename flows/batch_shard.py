"""One shard of a batch, on any worker; started by the flow `batch`, not by hand."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from blocks import MediaStore, RunComfyCredentials
from runcomfy.batch.circuit_breaker import FIRST_AT_ONCE, STOP_AFTER_ALIKE
from runcomfy.batch.run import BatchPolicy, run_shard
from runcomfy.batch.shard import Shard
from runcomfy.generation.destination import OnDefect
from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, Polling, RunPolicy
from tasks.batch.program import PrefectProgram
from tasks.runtime.flow import flow
from tasks.runtime.naming import flow_name

__all__ = ["batch_shard"]


@flow(name="batch-shard", flow_run_name=flow_name(lambda given: f"part {int(given['shard'].number)}", otherwise="part"))
async def batch_shard(
    shard: Shard,
    credentials: RunComfyCredentials,
    store: MediaStore,
    at_once: Annotated[int, Field(ge=1, le=10_000)] = 50,
    first_at_once: Annotated[int, Field(ge=1, le=10_000)] = FIRST_AT_ONCE,
    stop_after_alike: Annotated[int, Field(ge=1)] = STOP_AFTER_ALIKE,
    deadlines: Deadlines = Deadlines(),
    polling: Polling = Polling(),
    on_interrupt: OnInterrupt = "ask",
    on_uncertain: OnUncertain = "stop",
    on_defect: OnDefect | None = None,
    contact_sheets: bool | None = None,
) -> dict[str, int]:
    """Generate the rows of one shard of a batch. The flow `batch` starts this; you need not.

    Args:
        shard: Where its rows are in the bucket, where to write their outcomes, and what the manifest may cost.
        credentials: The RunComfy account that pays.
        store: The bucket.
        at_once: How many generations are in progress at the same time.
        first_at_once: How many are paid for until one is archived.
        stop_after_alike: After this first video, how many failures in a row for the same reason stop the shard.
        deadlines: How long each may wait in the queue, and run.
        polling: How often to poll each.
        on_interrupt: What an interruption does to the requests.
        on_uncertain: What to do about earlier submissions whose outcome is unknown.
        on_defect: What to do about a file that is judged suspect or damaged: "keep" it, "set_aside" for a person to
            decide about (deployment review), or "fail" once it is archived. Empty: as the store says.
        contact_sheets: Whether to put nine frames with their times beside each video. Empty: as the store says.

    Returns:
        How many rows ended with each outcome.
    """
    store = store.with_choices(on_defect=on_defect, contact_sheets=contact_sheets)
    allowed = shard.allowance
    policy = BatchPolicy(
        at_once, allowed.limit_usd, allowed.usd_per_video, first_at_once, stop_after_alike,
        RunPolicy(deadlines, polling, on_interrupt, on_uncertain),
    )  # fmt: skip
    return await run_shard(shard, PrefectProgram(credentials, store), policy)
