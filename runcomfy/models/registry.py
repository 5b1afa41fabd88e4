"""The typed models, all listed here. Another one needs a class as in `wan.py`, and its name here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from runcomfy.errors import InvalidInput
from runcomfy.models.inputs import ModelInputs
from runcomfy.models.wan import ImageToVideo, TextToVideo
from runcomfy.texts import is_written, prompt_of

__all__ = ["MODELS", "default_model", "inputs_class", "model_id_of", "short_name", "short_names", "workload_of"]

MODELS: dict[str, type[ModelInputs]] = {kind.model_id: kind for kind in (ImageToVideo, TextToVideo)}
"""By id. The first that takes an image, and the first that takes none, are the defaults."""

_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)+")


def inputs_class(model_id: str) -> type[ModelInputs]:
    """Return the typed inputs of a model; for one that is not here, the base of all inputs."""
    return MODELS.get(model_id, ModelInputs)


def default_model(*, image: bool) -> str:
    """Return the id of the default model, with an image or without one."""
    return next(model_id for model_id, kind in MODELS.items() if kind.takes_image() == image)


def short_names() -> dict[str, str]:
    """Return the models' ids by the last part of each, which is what a person types; the first of equal names wins."""
    names: dict[str, str] = {}
    for model_id in MODELS:
        names.setdefault(model_id.rpartition("/")[2], model_id)
    return names


def model_id_of(name: str, what: str = "model_id") -> str:
    """Return a model's id, given any id that the service may have or the short name of a typed model.

    Args:
        name: The name or id.
        what: The option or field that it was given in.

    Raises:
        InvalidInput: it is neither.
    """
    name = name.strip()
    short = short_names()
    if name in short:
        return short[name]
    if not _MODEL_ID.fullmatch(name) or ".." in name:
        raise InvalidInput(
            f"{what}: {name!r} is no model. Give its id as on RunComfy's model page, such as {next(iter(MODELS))}, "
            f"or {' or '.join(short)}."
        )
    return name


def short_name(model_id: str) -> str:
    """Return what a person types for a model: the reverse of `model_id_of`."""
    short = model_id.rpartition("/")[2]
    return short if short_names().get(short) == model_id else model_id


def workload_of(model_id: str, inputs: Mapping[str, Any]) -> str:
    """Name the class of requests that take about the same time: the model, and every setting except the content."""
    content, prompt = {"prompt", "seed", inputs_class(model_id).image_field}, prompt_of(inputs)
    settings = sorted(
        (name, value)
        for name, value in inputs.items()
        if name not in content and value != prompt and not _is_content(value)
    )
    return f"{model_id}?{urlencode([(name, json.dumps(value)) for name, value in settings])}"


def _is_content(value: Any) -> bool:
    """Whether a value is a text or names a file, of a model whose class is not at hand; a setting is one word."""
    return isinstance(value, (list, dict)) or is_written(value) or (isinstance(value, str) and "://" in value)
