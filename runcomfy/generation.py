"""The identity of a generation: the same inputs are the same generation, wherever and whenever they are given."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from runcomfy.models import ModelInputs
from runcomfy.texts import as_given, normal_text

__all__ = ["earlier_key", "generation_key"]


def generation_key(inputs: ModelInputs, *, image_sha256: str | None = None, variation: str = "") -> str:
    """Return the generation's key: 64 hexadecimal digits (SHA-256).

    Args:
        inputs: The checked inputs of one model. An image's URL does not count: it is signed afresh each time.
        image_sha256: What counts in its place, the SHA-256 of the image's bytes.
        variation: Any text that tells apart two generations that are meant to have the same inputs; its form does not
            count, as that of the prompt does not (`runcomfy.texts`).
    """
    return _key(inputs, image_sha256, normal_text(variation), _body(inputs))


def earlier_key(inputs: ModelInputs, *, image_sha256: str | None = None, variation: str = "") -> str | None:
    """Return the key by which earlier versions knew this generation; `None` where it is the same.

    Until texts were brought into one form, their keys were made of them as they were given.
    """
    body = _body(inputs)
    given = {name: as_given(value) if isinstance(value, str) else value for name, value in body.items()}
    if given == body and as_given(variation) == normal_text(variation):
        return None
    return _key(inputs, image_sha256, as_given(variation), given)


def _body(inputs: ModelInputs) -> dict[str, Any]:
    return {name: value for name, value in inputs.body().items() if name != "image_url"}


def _key(inputs: ModelInputs, image_sha256: str | None, variation: str, body: dict[str, Any]) -> str:
    identity = {
        "model": inputs.model_id,
        "inputs": body,
        "image_sha256": image_sha256,
        "variation": variation or None,
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
