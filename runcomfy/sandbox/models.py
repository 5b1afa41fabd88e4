"""The typed models, as the sandbox offers them: their inputs, and the check that a submission goes through."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from runcomfy import models

__all__ = ["CATEGORIES", "MODELS", "violations", "with_defaults"]

_SCHEMAS = Path(__file__).parent / "schemas"
"""Word for word from the pages of the models, with the sample prompt and image that they give as defaults."""


def _model(model_id: str) -> dict[str, Any]:
    _, *words, category = re.sub(r"(\d)-(\d)", r"\1.\2", model_id).split("/")
    name = " ".join([*words, category]).replace("-", " ").capitalize()
    return {
        "model_id": model_id,
        "kind": "model",
        "display_name": name,
        "description": f"{name}, as a local sandbox imitates it.",
        "categories": [category],
        "model_url": f"https://www.runcomfy.com/models/{model_id}",
        "input_schema": _schema(model_id),
    }


def _schema(model_id: str) -> dict[str, Any]:
    """Return the published schema, or where there is no copy of it, what the typed inputs say."""
    path = _SCHEMAS / f"{model_id.replace('/', '--')}.json"
    if path.exists():
        return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
    schema = models.MODELS[model_id].model_json_schema()
    for rules in schema["properties"].values():
        rules.update(rules.pop("anyOf", [{}])[0])  # the other one is null, which is never sent
        if rules.get("default") is None:
            rules.pop("default", None)
    return schema


MODELS: dict[str, dict[str, Any]] = {model_id: _model(model_id) for model_id in models.MODELS}
"""Each model's catalogue entry but for its price, by model id."""

CATEGORIES = sorted({category for entry in MODELS.values() for category in entry["categories"]})

_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


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

    The defaults of required fields are samples, of a prompt or an image, and are never filled in.
    """
    schema = MODELS[model_id]["input_schema"]
    fields = schema["properties"]
    given = {name: _whole(value) if name in fields else value for name, value in inputs.items()}
    left_out = {name: rules for name, rules in fields.items() if name not in schema["required"]}
    return {name: rules["default"] for name, rules in left_out.items() if "default" in rules} | given


def _whole(value: Any) -> Any:
    """Return 81 for 81.0: for JSON Schema, both are integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
