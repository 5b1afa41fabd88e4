"""The typed models: the one place that knows them all."""

from __future__ import annotations

import re

from runcomfy.errors import InvalidInput
from runcomfy.models.wan import IMAGE_TO_VIDEO, TEXT_TO_VIDEO, ImageToVideo, TextToVideo

__all__ = ["MODELS", "model_id_of", "short_name"]

MODELS: dict[str, type[ImageToVideo] | type[TextToVideo]] = {IMAGE_TO_VIDEO: ImageToVideo, TEXT_TO_VIDEO: TextToVideo}

_SHORT = {model_id.rpartition("/")[2]: model_id for model_id in MODELS}
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)+")


def model_id_of(name: str, what: str = "model_id") -> str:
    """Return a model's id: any that the service may have, or one of these two by the last part of its id.

    Args:
        name: What somebody said.
        what: The option or field in which it was said.

    Raises:
        InvalidInput: it is neither.
    """
    name = name.strip()
    if name in _SHORT:
        return _SHORT[name]
    if not _MODEL_ID.fullmatch(name) or ".." in name:
        raise InvalidInput(
            f"{what}: {name!r} is no model. Give its id as RunComfy's model page has it, such as {IMAGE_TO_VIDEO}, or "
            f"{' or '.join(_SHORT)}."
        )
    return name


def short_name(model_id: str) -> str:
    """Return what a person types for a model: the reverse of `model_id_of`."""
    short = model_id.rpartition("/")[2]
    return short if _SHORT.get(short) == model_id else model_id
