"""Archive what a request made, from its id alone: after a timeout, a crash, or a run elsewhere."""

from __future__ import annotations

from blocks import MediaStore, RunComfyCredentials
from runcomfy.generation.destination import OnDefect
from runcomfy.values import ArchivedVideo
from tasks import archive_outputs
from tasks.pages.failure import failure_shown
from tasks.runtime.flow import flow
from tasks.runtime.naming import fact, flow_name

__all__ = ["fetch_request"]


@flow(
    name="fetch-request", flow_run_name=flow_name(lambda given: f"fetch-{fact(given['request_id'])}", otherwise="fetch")
)
async def fetch_request(
    request_id: str,
    model_id: str | None,
    credentials: RunComfyCredentials,
    store: MediaStore,
    on_defect: OnDefect | None = None,
    contact_sheets: bool | None = None,
) -> list[ArchivedVideo]:
    """Archive the files of a finished request. If the journal knows it, they go where its generation belongs.

    Args:
        request_id: The request, as RunComfy named it.
        model_id: The model that it was submitted to, any that RunComfy has. Leave it empty if the journal knows the
            request; if the journal has another model, nothing is archived.
        credentials: The RunComfy account that it belongs to.
        store: The bucket for the video.
        on_defect: What to do about a file that is judged suspect or damaged: "keep" it, "set_aside" for a person to
            decide about (deployment review), or "fail" once it is archived. Empty: as the store says.
        contact_sheets: Whether to put nine frames with their times beside each video. Empty: as the store says.
    """
    store = store.with_choices(on_defect=on_defect, contact_sheets=contact_sheets)
    async with failure_shown(store, model_id):
        return await archive_outputs(request_id, credentials, store, model_id=model_id)
