"""What may be asked of a model: its inputs, their check, and the key of a generation.

`inputs` is what all models share, check and key included; `wan` has the typed models, `registry` knows them, and
`orders` reads what a row, a sidecar file or an object's metadata asks for, by the names in `columns` and with the
values in `cells`. For any other model, `schema` makes a class from the schema in the catalogue: `media_fields` finds
its media, `sentences` says what a validator found, and `forms` makes the form that a UI draws. `pins` keeps the
catalogue's entry, `differences` tells what changed in it. `staged` puts staged files in the place of media, and
`samples` shows what inputs may be, `prices` what a generation costs at least, `settings` what generations are compared
by.
"""

from runcomfy.models.inputs import ModelInputs, check_inputs, earlier_key, generation_key, violations
from runcomfy.models.registry import (
    MODELS,
    default_model,
    inputs_class,
    model_id_of,
    short_name,
    short_names,
    workload_of,
)
from runcomfy.models.wan import (
    IMAGE_TO_VIDEO,
    TEXT_TO_VIDEO,
    ImageToVideo,
    ImageToVideoSettings,
    TextToVideo,
    TextToVideoSettings,
)

__all__ = [
    "IMAGE_TO_VIDEO",
    "MODELS",
    "TEXT_TO_VIDEO",
    "ImageToVideo",
    "ImageToVideoSettings",
    "ModelInputs",
    "TextToVideo",
    "TextToVideoSettings",
    "check_inputs",
    "default_model",
    "earlier_key",
    "generation_key",
    "inputs_class",
    "model_id_of",
    "short_name",
    "short_names",
    "violations",
    "workload_of",
]
