"""The identity of a generation: the same inputs are the same generation, wherever and whenever they are given."""

from __future__ import annotations

import hashlib
import json

from runcomfy.models import ModelInputs

__all__ = ["generation_key"]


def generation_key(inputs: ModelInputs, *, image_sha256: str | None = None, variation: str = "") -> str:
    """Return the generation's key: 64 hexadecimal digits (SHA-256).

    Args:
        inputs: The checked inputs of one model. An image's URL does not count: it is signed afresh each time.
        image_sha256: What counts in its place, the SHA-256 of the image's bytes.
        variation: Any text that tells apart two generations that are meant to have the same inputs.
    """
    identity = {
        "model": inputs.model_id,
        "inputs": {name: value for name, value in inputs.body().items() if name != "image_url"},
        "image_sha256": image_sha256,
        "variation": variation or None,
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
