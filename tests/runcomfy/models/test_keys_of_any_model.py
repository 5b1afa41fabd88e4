"""The keys of other models' generations: what was paid for must be found again by every later version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runcomfy.models import check_inputs, generation_key
from runcomfy.models.pins import Pin, class_of

FOLDER = Path(__file__).parents[2] / "contract" / "models"
KEPT = Path(__file__).with_name("golden_keys_of_any_model.json")
SHA256 = "ab" * 32


def inputs_of(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the least that the model accepts: every property that has to be given, with a value of its kind."""
    kind, given = class_of(Pin.from_entry(entry, "a file")), dict[str, Any]()
    for name, field in kind.model_fields.items():
        if field.is_required():
            own = field.alias or name
            value: Any = "s3://b/k" if own in kind.media else "A fox\r\nin the snow "
            listed = entry["input_schema"]["properties"][own]["type"] == "array"
            given[own] = ([value] if own in kind.media else []) if listed else value
    return given


def keys() -> dict[str, str]:
    """Return the key of one generation of each model, whose media all have the same content."""
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        inputs = check_inputs(class_of(Pin.from_entry(entry, path.name)), inputs_of(entry))
        body = inputs.body()
        media = {
            name: (SHA256,) * (1 if isinstance(body[name], str) else len(body[name]))
            for name in inputs.media
            if name in body
        }
        found[entry["model_id"]] = generation_key(inputs, media=media, variation="2")
    return found


def test_keys_stay() -> None:
    """The file was written by the version that first served these models; no line of it ever changes."""
    assert keys() == json.loads(KEPT.read_text(encoding="utf-8"))
