"""One generation of any model: an image, a video or a sound."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from blocks import MediaStore, RunComfyCredentials
from flows.parameters import GivenInputs, fields_of, json_object, left_out_is, model_run_name, needed
from runcomfy.generation.destination import OnDefect
from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, Polling
from runcomfy.values import Generation, only_image
from tasks import archive_outputs, stage_inputs, submit_request, wait_for_result
from tasks.pages.failure import failure_shown
from tasks.runtime.flow import flow
from tasks.runtime.slots import slots

__all__ = ["generate"]


@flow(name="generate", flow_run_name=model_run_name)
async def generate(
    model: Annotated[str, BeforeValidator(needed)],
    inputs: Annotated[GivenInputs, BeforeValidator(json_object)],
    credentials: RunComfyCredentials,
    store: MediaStore,
    variation: Annotated[str, left_out_is("")] = "",
    deadlines: Annotated[Deadlines, fields_of(Deadlines)] = Deadlines(),
    polling: Annotated[Polling, fields_of(Polling)] = Polling(),
    on_interrupt: Annotated[OnInterrupt, left_out_is("ask")] = "ask",
    on_uncertain: Annotated[OnUncertain, left_out_is("stop")] = "stop",
    on_defect: Annotated[OnDefect | None, left_out_is(None)] = None,
    contact_sheets: Annotated[bool | None, left_out_is(None)] = None,
) -> Generation:
    """Make a generation with any model of the catalogue, and archive its files.

    Args:
        model: The model's id, as on its page: `bytedance/seedance-2.0/pro`.
        inputs: By the model's own names; a medium is s3://bucket/key, an https:// URL, or a path on the worker.
        credentials: The RunComfy account that pays.
        store: The bucket for the staged media and the files.
        variation: Any text, for another take of the same inputs; the same inputs are the same generation.
        deadlines: How long to wait in the queue, and for a running request.
        polling: How often to poll; for experts, leave it as it is.
        on_interrupt: What an interruption does to the request: "ask" cancels it if a person cancelled this run.
        on_uncertain: What to do about an earlier submission whose outcome is unknown: "stop" and let a person decide,
            or "pay_again", which may pay for both.
        on_defect: What to do about a file that is judged suspect or damaged: "keep" it, "set_aside" for a person to
            decide about (deployment review), or "fail" once it is archived. Empty: as the store says.
        contact_sheets: Whether to put nine frames with their times beside each video. Empty: as the store says.
    """
    store = store.with_choices(on_defect=on_defect, contact_sheets=contact_sheets)
    async with failure_shown(store, model):
        checked, staged = await stage_inputs(model, inputs.root, credentials, store)
        async with slots(credentials):
            submission = await submit_request(
                checked,
                credentials,
                store,
                staged=staged,
                deadlines=deadlines,
                variation=variation,
                on_interrupt=on_interrupt,
                on_uncertain=on_uncertain,
            )
            result = await wait_for_result(
                submission, credentials, store, deadlines=deadlines, polling=polling, on_interrupt=on_interrupt
            )
            videos = await archive_outputs(
                result, credentials, store,
                model_id=checked.model_id, inputs=checked, staged=staged, submission=submission,
            )  # fmt: skip
        return Generation(image=only_image(staged), submission=submission, result=result, videos=videos)
