"""The two models that the sandbox offers: their published inputs, and the check that a submission goes through."""

from __future__ import annotations

from typing import Any

__all__ = ["IMAGE_TO_VIDEO", "MODELS", "TEXT_TO_VIDEO", "violations", "with_defaults"]

IMAGE_TO_VIDEO = "wan-ai/wan-2-1/image-to-video"
TEXT_TO_VIDEO = "wan-ai/wan-2-1/text-to-video"


def _field(kind: str, title: str, **rules: Any) -> dict[str, Any]:
    return {"title": title, "type": kind, **rules}


_PROMPT = _field("string", "Prompt")
_FRAME_RATE = _field("integer", "Frame Rate", minimum=5, maximum=24, default=16)
_EXPANSION = _field("boolean", "Magic Prompt", default=True)

_IMAGE_TO_VIDEO_INPUTS = {
    "prompt": _PROMPT,
    "image_url": _field("string", "Image"),
    "resolution": _field("string", "Resolution", enum=["480p", "720p"], default="720p"),
    "num_frames": _field("integer", "Number of Frames", minimum=81, maximum=100, default=81),
    "frames_per_second": _FRAME_RATE,
    "enable_prompt_expansion": _EXPANSION,
    "seed": _field("integer", "Seed", default=40426604),
    "num_inference_steps": _field("integer", "num_inference_steps"),
    "enable_safety_checker": _field("boolean", "enable_safety_checker"),
}
_TEXT_TO_VIDEO_INPUTS = {
    "prompt": _PROMPT,
    "seed": _field("integer", "Seed"),
    "num_frames": _field("integer", "Number of Frames", enum=[81, 85, 89, 93, 97], default=81),
    "frames_per_second": _FRAME_RATE,
    "resolution": _field("string", "Resolution", enum=["480p", "580p", "720p"], default="720p"),
    "aspect_ratio": _field("string", "Aspect Ratio (W:H)", enum=["16:9", "9:16"], default="16:9"),
    "enable_prompt_expansion": _EXPANSION,
}


def _model(model_id: str, name: str, required: list[str], fields: dict[str, Any]) -> dict[str, Any]:
    category = model_id.rpartition("/")[2]
    return {
        "model_id": model_id,
        "display_name": name,
        "description": f"{name}, as a local sandbox imitates it.",
        "categories": [category, "video"],
        "input_schema": {"type": "object", "title": "Input", "required": required, "properties": fields},
        "price_unit": "request",
        "pricing_note": "Made up by the sandbox.",
    }


MODELS: dict[str, dict[str, Any]] = {
    IMAGE_TO_VIDEO: _model(IMAGE_TO_VIDEO, "Wan 2.1 image to video", ["prompt", "image_url"], _IMAGE_TO_VIDEO_INPUTS),
    TEXT_TO_VIDEO: _model(TEXT_TO_VIDEO, "Wan 2.1 text to video", ["prompt"], _TEXT_TO_VIDEO_INPUTS),
}
"""Each model's catalogue entry but for its price, by model id."""

_TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool}


def violations(model_id: str, inputs: dict[str, Any]) -> list[str]:
    """Return what is wrong with `inputs`, one sentence each; fields that the schema does not name may pass."""
    schema = MODELS[model_id]["input_schema"]
    wrong = [f"{name} is required" for name in schema["required"] if name not in inputs]
    for name, value in inputs.items():
        rules = schema["properties"].get(name)
        if rules is None:
            continue
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
    """Return `inputs` with the schema's defaults for what was left out."""
    fields = MODELS[model_id]["input_schema"]["properties"]
    return {name: rules["default"] for name, rules in fields.items() if "default" in rules} | inputs
