"""One image and a prompt in, one archived video out."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from blocks import MediaStore, RunComfyCredentials
from flows.parameters import GivenImage, ImageSource, fields_of, left_out_is, needed, run_name
from runcomfy.generation.destination import OnDefect
from runcomfy.models import IMAGE_TO_VIDEO, ImageToVideo, ImageToVideoSettings, check_inputs
from runcomfy.policy import Deadlines, OnInterrupt, OnUncertain, Polling
from runcomfy.values import Generation
from tasks import archive_outputs, stage_image, submit_request, wait_for_result
from tasks.pages.failure import failure_shown
from tasks.runtime.flow import flow
from tasks.runtime.slots import slots

__all__ = ["image_to_video"]


@flow(name="image-to-video", flow_run_name=run_name)
async def image_to_video(
    image: Annotated[GivenImage, BeforeValidator(needed)],
    prompt: Annotated[str, BeforeValidator(needed)],
    credentials: RunComfyCredentials,
    store: MediaStore,
    settings: Annotated[ImageToVideoSettings, fields_of(ImageToVideoSettings)] = ImageToVideoSettings(),
    variation: Annotated[str, left_out_is("")] = "",
    deadlines: Annotated[Deadlines, fields_of(Deadlines)] = Deadlines(),
    polling: Annotated[Polling, fields_of(Polling)] = Polling(),
    on_interrupt: Annotated[OnInterrupt, left_out_is("ask")] = "ask",
    on_uncertain: Annotated[OnUncertain, left_out_is("stop")] = "stop",
    on_defect: Annotated[OnDefect | None, left_out_is(None)] = None,
    contact_sheets: Annotated[bool | None, left_out_is(None)] = None,
) -> Generation:
    """Make a video from an image and a prompt, and archive it.

    Args:
        image: s3://bucket/key, an https:// URL, or a path on the worker.
        prompt: What happens in the video.
        credentials: The RunComfy account that pays.
        store: The bucket for the staged image and the video.
        settings: Size, length, seed. Change the seed for another take.
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
    async with failure_shown(store, IMAGE_TO_VIDEO):
        staged = await stage_image(ImageSource.model_validate(image).root, store)
        inputs = check_inputs(ImageToVideo, {"prompt": prompt, "image_url": staged.uri, **settings.model_dump()})
        async with slots(credentials):
            submission = await submit_request(
                inputs,
                credentials,
                store,
                image=staged,
                deadlines=deadlines,
                variation=variation,
                on_interrupt=on_interrupt,
                on_uncertain=on_uncertain,
            )
            result = await wait_for_result(
                submission, credentials, store, deadlines=deadlines, polling=polling, on_interrupt=on_interrupt
            )
            videos = await archive_outputs(
                result, credentials, store, model_id=inputs.model_id, inputs=inputs, image=staged, submission=submission
            )
        return Generation(image=staged, submission=submission, result=result, videos=videos)
