"""A manifest in, a video for each of its rows out; what is already archived is not made again."""

from __future__ import annotations

from typing import Annotated, Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BeforeValidator, Field
from slugify import slugify

from blocks import MediaStore, RunComfyCredentials
from flows.parameters import fields_of, left_out_is, needed
from runcomfy.batch.circuit_breaker import FIRST_AT_ONCE, STOP_AFTER_ALIKE
from runcomfy.batch.results import BatchReport
from runcomfy.batch.run import BatchPolicy
from runcomfy.generation.destination import OnDefect
from runcomfy.models.orders import OrderDefaults
from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, Polling, RunPolicy
from tasks.batch.plan import plan_batch
from tasks.batch.report import report_batch
from tasks.batch.run import batch_folder, run_batch
from tasks.runtime.flow import flow
from tasks.runtime.naming import fact, flow_name

__all__ = ["batch"]


_name = flow_name(
    lambda given: slugify(fact(given["manifest"]).rstrip("/").rpartition("/")[2], max_length=48), otherwise="batch"
)


@flow(name="batch", flow_run_name=_name)
async def batch(
    manifest: Annotated[str, BeforeValidator(needed)],
    credentials: RunComfyCredentials,
    store: MediaStore,
    budget_usd: Annotated[Annotated[float, Field(gt=0)] | None, left_out_is(None)] = None,
    usd_per_video: Annotated[Annotated[float, Field(gt=0)] | None, left_out_is(None)] = None,
    at_once: Annotated[int, Field(ge=1, le=10_000), left_out_is(50)] = 50,
    first_at_once: Annotated[int, Field(ge=1, le=10_000), left_out_is(FIRST_AT_ONCE)] = FIRST_AT_ONCE,
    stop_after_alike: Annotated[int, Field(ge=1), left_out_is(STOP_AFTER_ALIKE)] = STOP_AFTER_ALIKE,
    rows_per_shard: Annotated[Annotated[int, Field(ge=1)] | None, left_out_is(None)] = None,
    shard_deployment: Annotated[str, left_out_is("batch-shard/batch-shard")] = "batch-shard/batch-shard",
    defaults: Annotated[OrderDefaults, fields_of(OrderDefaults)] = OrderDefaults(),
    allow_placeholder_prompts: Annotated[bool, left_out_is(False)] = False,
    deadlines: Annotated[Deadlines, fields_of(Deadlines)] = Deadlines(),
    polling: Annotated[Polling, fields_of(Polling)] = Polling(),
    on_interrupt: Annotated[OnInterrupt, left_out_is("ask")] = "ask",
    on_uncertain: Annotated[OnUncertain, left_out_is("stop")] = "stop",
    on_defect: Annotated[OnDefect | None, left_out_is(None)] = None,
    contact_sheets: Annotated[bool | None, left_out_is(None)] = None,
) -> State[BatchReport]:
    """Make a video for each row of a manifest.

    The whole manifest is checked before anything is paid for. A row that fails does not stop the others. Run it again,
    and it does only what is missing.

    Args:
        manifest: s3://bucket/key or a path on the worker: a CSV, JSON Lines or Parquet file with the columns prompt,
            image (for image-to-video), model, variation, and any setting of the model. With any model of the catalogue,
            its inputs.
        credentials: The RunComfy account that pays.
        store: The bucket for staged images, videos, and the results.
        budget_usd: What all videos of this manifest may cost together, in US dollars, whichever run pays. Nothing is
            submitted beyond it. Needs usd_per_video where neither the catalogue nor an earlier one says a price.
        usd_per_video: The assumed cost of one video until RunComfy reports it; better too high than too low. The
            catalogue's price, or the dearest of its kind that was seen, counts if that is more.
        at_once: How many generations are in progress at the same time, in each flow run.
        first_at_once: How many are paid for until one is archived. If they all fail for the same reason, nothing more
            is submitted. A video that the same model archived in the same store within a day counts.
        stop_after_alike: After this first video, how many failures in a row for the same reason stop the batch.
        rows_per_shard: Distribute the batch over workers, in shards of so many rows. Empty: all rows in this flow run.
        shard_deployment: The deployment that runs a shard.
        defaults: Values for rows that do not set their own.
        allow_placeholder_prompts: Accept prompts that look like an empty or broken cell: nan, None, #REF!, a formula, a
            number. Otherwise such rows are refused.
        deadlines: How long each may wait in the queue, and run.
        polling: How often to poll each; for experts, leave it as it is.
        on_interrupt: What an interruption does to the requests: "ask" cancels them if a person cancelled this run.
        on_uncertain: What to do about earlier submissions whose outcome is unknown: "stop" and let a person decide, or
            "pay_again", which may pay for both.
        on_defect: What to do about a file that is judged suspect or damaged: "keep" it, "set_aside" for a person to
            decide about (deployment review), or "fail" once it is archived. Empty: as the store says.
        contact_sheets: Whether to put nine frames with their times beside each video. Empty: as the store says.
    """
    said: dict[str, Any] = {"on_defect": on_defect, "contact_sheets": contact_sheets}
    choices = {name: choice for name, choice in said.items() if choice is not None}
    store = store.with_choices(**choices)
    policy = BatchPolicy(
        at_once, budget_usd, usd_per_video, first_at_once, stop_after_alike,
        RunPolicy(deadlines, polling, on_interrupt, on_uncertain),
    )  # fmt: skip
    plan = await plan_batch(
        manifest, credentials, store, defaults.given(), allow_placeholder_prompts=allow_placeholder_prompts
    )
    outcomes, cost_usd = await run_batch(plan, credentials, store, policy, rows_per_shard, shard_deployment, choices)
    return ended(await report_batch(plan, outcomes, cost_usd, store, batch_folder(), budget_usd=budget_usd))


def ended(report: BatchReport) -> State[BatchReport]:
    """Return the final state of a batch: Failed only if no row has a video."""
    if report.archived == report.rows:
        return Completed(message=report.sentence, data=report)
    if report.archived:
        return Completed(name="Incomplete", message=report.sentence, data=report)
    return Failed(message=report.sentence, data=report)
