"""Verbs: the stages of a generation as Prefect tasks.

One generation: `stage_image` or, for any model, `stage_inputs`; `submit_request`, `wait_for_result`,
`archive_outputs`, and `cancel_request`; one among many: `generate`. The other flows: `batch` (a folder), `inbox`,
`catalogue`, `report`, `reconcile` with `heal_runs` (over the folder `upkeep`), and `resolve` and
`review` for what a person decides.
`runtime` is what only Prefect knows of a run, and `pages` what its UI shows.
"""

from tasks.archive_outputs import archive_outputs
from tasks.cancel_request import cancel_request
from tasks.resolve import mark_adopted, mark_released
from tasks.runtime.sigterm import hold_back_sigterm
from tasks.stage_image import stage_image
from tasks.stage_inputs import stage_inputs
from tasks.submit_request import submit_request
from tasks.wait_for_result import wait_for_result

__all__ = [
    "archive_outputs",
    "cancel_request",
    "mark_adopted",
    "mark_released",
    "stage_image",
    "stage_inputs",
    "submit_request",
    "wait_for_result",
]

hold_back_sigterm()
