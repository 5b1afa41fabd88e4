"""What a cell of a manifest, a sidecar file or an option gives for an input of a model, in that input's type.

A cell is a text: a list is written as JSON or `a.jpg|b.jpg`, a structured value as JSON, a number or a truth value as
spreadsheets write them. What cannot be read is left as it is, for the model's own check to refuse.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from runcomfy.models.inputs import ModelInputs
from runcomfy.models.media_fields import types_of
from runcomfy.texts import json_integer, whole_number

__all__ = ["Nested", "cell_value", "text_of"]

_BETWEEN = "|"
_SCALARS = frozenset({"string", "integer", "number", "boolean"})


class Nested(str):
    """A list or an object that a file gives as such, as JSON: its text takes less memory."""


def cell_value(kind: type[ModelInputs], name: str, value: Any) -> Any:
    """Return a value for an input of a model in the input's own type.

    Of several readings, the first that the model accepts counts. For an input of one type there is one, but that blanks
    around a choice do not count; for one of any type, JSON comes before the text as it is, as for the option of the
    command.

    Args:
        kind: The model's class.
        name: The input.
        value: A text, or what a file with types gives.
    """
    schema = kind.properties.get(name, {})
    if isinstance(value, Nested):
        return _json(value)
    readings = list(_readings(schema, value))
    if name in kind.media:
        readings = [_stripped(reading) for reading in readings]
    return next((reading for reading in readings if kind.accepts(name, reading)), readings[0])


def text_of(kind: type[ModelInputs], name: str, value: Any) -> Any:
    """Return what a cell has to hold so that it reads as this value: the reverse of `cell_value`."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value if not isinstance(value, str) or cell_value(kind, name, value) == value else json.dumps(value)


def _readings(schema: Mapping[str, Any], value: Any) -> Iterator[Any]:
    types = types_of(schema) - {"null"}
    if not isinstance(value, str):
        yield value
        if isinstance(value, int | float) and not isinstance(value, bool) and "enum" in schema:
            yield str(int(value)) if float(value).is_integer() else str(value)  # a sheet has no text for a choice of 5
        return
    if types == {"string"}:
        yield value
        yield value.strip()
        return
    if types == {"array"}:
        yield from _lists(schema, value.strip())
        return
    if types and not types & _SCALARS:
        yield _json(value)
        return
    if types and types <= {"integer", "number", "boolean"}:
        yield _scalar(types, value.strip())
        return
    yield _json(value)
    if "array" in types and _BETWEEN in value:
        yield _split(schema, value)
    yield value
    yield value.strip()


def _lists(schema: Mapping[str, Any], text: str) -> Iterator[Any]:
    found = _json(text) if text.startswith("[") else text
    items = schema.get("items")
    is_broken = text.startswith(("[", "{")) and not (isinstance(items, dict) and "string" in types_of(items))
    if isinstance(found, str) and is_broken and not all(map(_is_json, text.split(_BETWEEN))):
        yield text  # its texts would be taken for what it lists
        return
    yield found if isinstance(found, list) else _split(schema, text)


def _split(schema: Mapping[str, Any], text: str) -> list[Any]:
    items = schema.get("items")
    each_of = items if isinstance(items, dict) else {"type": "string"}
    return [next(_readings(each_of, part.strip())) for part in text.split(_BETWEEN) if part.strip()]


def _scalar(types: set[str], text: str) -> Any:
    if "boolean" in types and text.lower() in ("true", "false"):
        return text.lower() == "true"
    number = whole_number(text) if types & {"integer", "number"} else text
    if isinstance(number, str) and "number" in types:
        found = _json(number.removeprefix("+"))
        return found if isinstance(found, float) else text
    return number


def _json(text: str) -> Any:
    """Return what a JSON text says; the text itself where it is none."""
    try:
        return json.loads(text, parse_int=json_integer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return str(text)


def _is_json(text: str) -> bool:
    return not isinstance(_json(text.strip()), str)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _stripped(value: Any) -> Any:
    if isinstance(value, list):
        return [_stripped(each) for each in value]
    return value.strip() if isinstance(value, str) else value
