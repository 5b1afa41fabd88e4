"""Samples of what a model's inputs may be: for a command to copy, and for the template of a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runcomfy.models.inputs import ModelInputs
from runcomfy.models.media_fields import MediaField, MediaKind, types_of

__all__ = ["sample_of"]

_FILES = {MediaKind.IMAGE: "photo.jpg", MediaKind.VIDEO: "clip.mp4", MediaKind.AUDIO: "voice.mp3"}
_TEXT = "A fox in the snow"
_DEEPEST = 8


def sample_of(kind: type[ModelInputs], name: str) -> Any:
    """Return a value that an input may have, as far as its schema says; a medium is the name of a file.

    Args:
        kind: The class of a model of the catalogue.
        name: The input.
    """
    schema = kind.properties[name]
    if name in kind.media:
        return _medium(kind.media[name], schema)
    made = _made(schema, schema)
    # What the schema cannot say in a way that is understood here, its own sample may show.
    examples = schema.get("examples")
    others = [schema.get("default"), *(examples if isinstance(examples, list) else ())]
    return next((each for each in (made, *others) if each is not None and kind.accepts(name, each)), made)


def _medium(medium: MediaField, schema: Mapping[str, Any]) -> Any:
    file = _FILES[medium.kind]
    return [file] * _least(schema, "minItems") if medium.many else file


def _made(schema: Any, root: Mapping[str, Any], depth: int = 0) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return _TEXT
    if (reference := schema.get("$ref")) is not None:
        return _made(_definition(str(reference), root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    for rule in ("anyOf", "oneOf", "allOf"):
        if isinstance(forms := schema.get(rule), list) and forms and "type" not in schema:
            return _made(next((form for form in forms if form != {"type": "null"}), {}), root, depth + 1)
    types = types_of(schema) - {"null"}
    if "string" in types:
        text = _TEXT.ljust(_least(schema, "minLength"), "!")
        longest = schema.get("maxLength")
        return text[:longest] if isinstance(longest, int) else text
    if types & {"integer", "number"}:
        return _number(schema, whole="integer" in types)
    if "boolean" in types:
        return True
    if "array" in types:
        return [_made(schema.get("items", {"type": "string"}), root, depth + 1)] * _least(schema, "minItems")
    properties, required = schema.get("properties"), schema.get("required")
    known = properties if isinstance(properties, dict) else {}
    needed = [name for name in required if name in known] if isinstance(required, list) else list(known)
    return {name: _made(known[name], root, depth + 1) for name in needed}


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum")
    if least is None and "exclusiveMinimum" in schema:
        least = schema["exclusiveMinimum"] + (step if whole else min(step, 0.5))
    if least is None:
        least = min(1, schema.get("maximum", 1))
    return int(least) if whole or float(least).is_integer() else float(least)


def _definition(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return found


def _least(schema: Mapping[str, Any], name: str) -> int:
    least = schema.get(name)
    return max(1, int(least)) if isinstance(least, (int, float)) else 1
