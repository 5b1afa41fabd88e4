"""What may be asked of a model: the typed inputs, their check, and the key of a generation."""

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
