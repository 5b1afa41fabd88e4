"""The two models that the sandbox offers: their published inputs, and the check that a submission goes through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["CATEGORIES", "IMAGE_TO_VIDEO", "MODELS", "TEXT_TO_VIDEO", "violations", "with_defaults"]

IMAGE_TO_VIDEO = "wan-ai/wan-2-1/image-to-video"
TEXT_TO_VIDEO = "wan-ai/wan-2-1/text-to-video"

_SCHEMAS = Path(__file__).parent / "schemas"
"""Word for word from the pages of the models, with the sample prompt and image that they give as defaults."""


def _model(model_id: str, name: str) -> dict[str, Any]:
    category = model_id.rpartition("/")[2]
    return {
        "model_id": model_id,
        "kind": "model",
        "display_name": name,
        "description": f"{name}, as a local sandbox imitates it.",
        "categories": [category],
        "model_url": f"https://www.runcomfy.com/models/{model_id}",
        "input_schema": json.loads((_SCHEMAS / f"{category}.json").read_text(encoding="utf-8")),
    }


MODELS: dict[str, dict[str, Any]] = {
    IMAGE_TO_VIDEO: _model(IMAGE_TO_VIDEO, "Wan 2.1 image to video"),
    TEXT_TO_VIDEO: _model(TEXT_TO_VIDEO, "Wan 2.1 text to video"),
}
"""Each model's catalogue entry but for its price, by model id."""

CATEGORIES = sorted({category for entry in MODELS.values() for category in entry["categories"]})

_TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool}


def violations(model_id: str, inputs: dict[str, Any]) -> list[str]:
    """Return what is wrong with `inputs`, one sentence each; fields that the schema does not name may pass."""
    schema = MODELS[model_id]["input_schema"]
    wrong = [f"{name} is required" for name in schema["required"] if name not in inputs]
    for name, value in inputs.items():
        rules = schema["properties"].get(name)
        if rules is None:
            continue
        value = _whole(value)
        is_right_type = isinstance(value, _TYPES[rules["type"]]) and (
            rules["type"] == "boolean" or not isinstance(value, bool)
        )
        if not is_right_type:
            wrong.append(f"{name} must be of type {rules['type']}")
        elif "enum" in rules and value not in rules["enum"]:
            wrong.append(f"{name} must be one of {rules['enum']}")
        elif not rules.get("minimum", value) <= value <= rules.get("maximum", value):
            wrong.append(f"{name} must be between {rules['minimum']} and {rules['maximum']}")
    return wrong


def with_defaults(model_id: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return `inputs` with the schema's defaults for what was left out, and 81.0 as 81.

    The defaults of required fields are samples, of a prompt or an image, and stand for nothing.
    """
    schema = MODELS[model_id]["input_schema"]
    fields = schema["properties"]
    given = {name: _whole(value) if name in fields else value for name, value in inputs.items()}
    left_out = {name: rules for name, rules in fields.items() if name not in schema["required"]}
    return {name: rules["default"] for name, rules in left_out.items() if "default" in rules} | given


def _whole(value: Any) -> Any:
    """Return 81 for 81.0: for JSON Schema, both are integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
