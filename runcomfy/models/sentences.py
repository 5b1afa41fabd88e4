"""What a validator of JSON Schema found, as a sentence for people, without the value that was given."""

from __future__ import annotations

import difflib
import json
from typing import Any, Final

from jsonschema import ValidationError

__all__ = ["sentence"]

_SHOWN: Final = 12  # choices
_TYPES: Final = {
    "string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip


def sentence(error: ValidationError) -> str:
    """Return what is wrong, and where within the value, if it is not the value as a whole."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    said = _said(error.validator, error.validator_value, error)
    return f"at {place.lstrip('.')}: {said}" if place else said


def _said(rule: Any, bound: Any, error: ValidationError) -> str:
    given: Any = error.instance
    match rule:
        case "type":
            named = bound if isinstance(bound, list) else [bound]
            return f"it has to be {' or '.join(_TYPES.get(each, str(each)) for each in named)}"
        case "enum":
            return f"it has to be {_choices(bound, given)}"
        case "const":
            return f"it has to be {_shown(bound)}"
        case "minimum":
            return f"it has to be {_shown(bound)} or more"
        case "maximum":
            return f"it has to be {_shown(bound)} or less"
        case "exclusiveMinimum":
            return f"it has to be more than {_shown(bound)}"
        case "exclusiveMaximum":
            return f"it has to be less than {_shown(bound)}"
        case "multipleOf":
            return f"it has to be a multiple of {_shown(bound)}"
        case "minLength":
            return "it must not be empty" if bound == 1 else f"it has to have {bound} characters or more"
        case "maxLength":
            return f"it has {len(given)} characters; it may have {bound}"
        case "minItems":
            return f"it has {len(given)} items; it has to have {bound} or more"
        case "maxItems":
            return f"it has {len(given)} items; it may have {bound}"
        case "uniqueItems":
            return "no two of its items may be equal"
        case "pattern":
            return f"it has to match the pattern {bound}"
        case "required":
            missing = [name for name in bound if name not in given]
            return f"it lacks {', '.join(missing)}"
        case "additionalProperties":
            allowed = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
            unknown = [name for name in given if name not in allowed]
            return f"it has no field {', '.join(unknown)}; there are {', '.join(allowed) or 'none'}"
        case "anyOf" | "oneOf":
            kinds = list(
                dict.fromkeys(_said(each.validator, each.validator_value, each) for each in error.context or ())
            )
            return (
                f"none of what is allowed fits: {'; or '.join(kinds)}" if kinds else "more than one of its forms fits"
            )
    return f"the model's schema refuses it ({rule})"


def _choices(choices: list[Any], given: Any) -> str:
    if len(choices) <= _SHOWN:
        return "one of " + ", ".join(map(_shown, choices)) if len(choices) > 1 else _shown(choices[0])
    texts = {str(choice): choice for choice in choices}
    near = difflib.get_close_matches(str(given)[:100], texts, n=3)
    hint = f"; did you mean {' or '.join(_shown(texts[each]) for each in near)}?" if near else ""
    return f"one of {len(choices)} choices, such as {', '.join(map(_shown, choices[:3]))}{hint}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value.strip() == value != "" else json.dumps(value, ensure_ascii=False)
