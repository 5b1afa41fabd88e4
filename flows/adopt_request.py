"""An uncertain submission and its request in, one archived video out."""

from __future__ import annotations

from blocks import MediaStore, RunComfyCredentials
from runcomfy.generation.destination import OnDefect
from runcomfy.journal import inputs_of, submission_of
from runcomfy.policy import Deadlines, OnInterrupt, Polling
from runcomfy.values import Generation
from tasks import archive_outputs, mark_adopted, wait_for_result
from tasks.runtime.flow import flow
from tasks.runtime.naming import fact, flow_name

__all__ = ["adopt_request"]


@flow(
    name="adopt-request", flow_run_name=flow_name(lambda given: f"adopt-{fact(given['request_id'])}", otherwise="adopt")
)
async def adopt_request(
    key: str,
    request_id: str,
    credentials: RunComfyCredentials,
    store: MediaStore,
    deadlines: Deadlines = Deadlines(),
    polling: Polling = Polling(),
    on_interrupt: OnInterrupt = "ask",
    on_defect: OnDefect | None = None,
    contact_sheets: bool | None = None,
) -> Generation:
    """Name the request that an uncertain submission became, wait for it and archive its video.

    Args:
        key: The generation, or at least eight digits of it: `prefect-runcomfy journal list` shows them.
        request_id: Its request, from RunComfy's dashboard.
        credentials: The RunComfy account that it belongs to.
        store: The bucket for the video, with the journal.
        deadlines: How long to wait in the queue, and for a running request.
        polling: How often to poll.
        on_interrupt: What an interruption does to the request: "ask" cancels it if a person cancelled this run.
        on_defect: What to do about a file that is judged suspect or damaged: "keep" it, "set_aside" for a person to
            decide about (deployment review), or "fail" once it is archived. Empty: as the store says.
        contact_sheets: Whether to put nine frames with their times beside each video. Empty: as the store says.
    """
    store = store.with_choices(on_defect=on_defect, contact_sheets=contact_sheets)
    entry = await mark_adopted(key, request_id, credentials, store)
    submission, inputs = submission_of(entry), inputs_of(entry)
    result = await wait_for_result(
        submission, credentials, store, deadlines=deadlines, polling=polling, on_interrupt=on_interrupt
    )
    videos = await archive_outputs(
        result, credentials, store, model_id=entry.model_id, inputs=inputs, staged=entry.files, submission=submission
    )
    return Generation(image=entry.image, submission=submission, result=result, videos=videos)
