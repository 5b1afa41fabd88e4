"""RunComfy for Prefect: blocks, tasks and flows from one package, installed or in a checkout.

Prefect imports it as a collection (entry point `prefect.collections`), which registers the blocks. In the wheel, this
package contains `blocks`, `tasks`, `flows` and `deployments`; in a checkout, they are the root folders. Tasks and flows
are imported when they are first used: Prefect's server and command line do not need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks import MediaStore, RunComfyCredentials
from runcomfy.lazy_names import lazily

if TYPE_CHECKING:
    from flows.adopt_request import adopt_request
    from flows.batch import batch
    from flows.catalogue import catalogue
    from flows.fetch_request import fetch_request
    from flows.generate import generate
    from flows.image_to_video import image_to_video
    from flows.inbox import inbox
    from flows.reconcile import reconcile
    from flows.release_generation import release_generation
    from flows.report import report
    from flows.text_to_video import text_to_video
    from tasks.archive_outputs import archive_outputs
    from tasks.cancel_request import cancel_request
    from tasks.resolve import mark_adopted, mark_released
    from tasks.stage_image import stage_image
    from tasks.stage_inputs import stage_inputs
    from tasks.submit_request import submit_request
    from tasks.wait_for_result import wait_for_result

__all__ = [
    "MediaStore", "RunComfyCredentials", "adopt_request", "archive_outputs", "batch", "cancel_request", "catalogue",
    "fetch_request", "generate", "image_to_video", "inbox", "mark_adopted", "mark_released", "reconcile",
    "release_generation", "report", "stage_image", "stage_inputs", "submit_request", "text_to_video", "wait_for_result",
]  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__)
