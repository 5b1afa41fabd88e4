"""How a model is shown: its inputs with their bounds, its price, and a command to copy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from runcomfy.cli.output import print_facts
from runcomfy.models.pins import Pin, class_of
from runcomfy.models.schema import standard
from runcomfy.texts import in_digits

__all__ = ["bounds_of", "example_of", "print_model"]

_MOST_CHOICES = 8
_SAMPLES = {"image": "photo.jpg", "video": "clip.mp4", "audio": "voice.mp3"}


def print_model(pin: Pin, *, as_json: bool) -> None:
    """Print what a person needs to use a model."""
    kind, properties = class_of(pin), standard(pin.input_schema)["properties"]
    required = {field.alias or name for name, field in kind.model_fields.items() if field.is_required()}
    fields = [
        {
            "field": name,
            "type": _type(name, own, kind.media),
            "required": name in required,
            "default": own.get("default") if name not in kind.media and name not in kind.texts else None,
            "bounds": bounds_of(own),
            "description": str(own.get("description") or ""),
        }
        for name, own in properties.items()
    ]
    facts = {
        "model_id": pin.model_id, "name": pin.display_name or None, "makes": pin.output or None,
        "price": price_of(pin), "pinned_at": pin.pinned_at.isoformat(), "sha256": pin.sha256,
    }  # fmt: skip
    if as_json:
        print(json.dumps(facts | {"fields": fields, "example": example_of(pin)}))
        return
    print_facts(pin.model_id, facts, as_json=False)
    table = Table(box=None, pad_edge=False)
    for column in ("input", "what", "default", "bounds"):
        table.add_column(column, overflow="fold")
    for field in fields:
        default = field["default"]
        table.add_row(
            f"{field['field']}{' *' if field['required'] else ''}", str(field["type"]),
            "" if default is None else json.dumps(default, ensure_ascii=False), str(field["bounds"]),
        )  # fmt: skip
    Console().print(table)
    print(f"\n* has to be given\n\n{example_of(pin)}")


def price_of(pin: Pin) -> str | None:
    """Return the base price, such as `from 0.05 USD for each second`; what a request costs may be more."""
    if pin.base_price_usd is None:
        return None
    return f"from {pin.base_price_usd:g} USD{f' for each {pin.price_unit}' if pin.price_unit else ''}"


def example_of(pin: Pin) -> str:
    """Return a command that makes one generation, with samples for what has to be given."""
    kind, properties = class_of(pin), standard(pin.input_schema)["properties"]
    words = ["prefect-runcomfy", "generate", pin.model_id]
    for name, field in kind.model_fields.items():
        if field.is_required():
            own = field.alias or name
            words += [f"--{own.replace('_', '-')}", _sample(own, properties[own], kind.media)]
    return " ".join([*map(shlex.quote, words), "--bucket", "s3://my-bucket"])


def bounds_of(schema: Mapping[str, Any]) -> str:
    """Return what a value may be, in short."""
    choices = schema.get("enum")
    if isinstance(choices, list):
        shown = [str(choice) for choice in choices[:_MOST_CHOICES]]
        more = f" … ({len(choices)})" if len(choices) > _MOST_CHOICES else ""
        return ", ".join(shown) + more
    least, most = schema.get("minimum"), schema.get("maximum")
    parts = [f"{in_digits(least)} to {in_digits(most)}" if least is not None and most is not None else ""]
    if least is not None and most is None:
        parts.append(f"{in_digits(least)} or more")
    if most is not None and least is None:
        parts.append(f"{in_digits(most)} or less")
    if "maxItems" in schema:
        parts.append(f"{schema.get('minItems', 0)} to {schema['maxItems']} of them")
    if "maxLength" in schema:
        parts.append(f"{schema['maxLength']} characters at most")
    return ", ".join(filter(None, parts))


def _type(name: str, schema: Mapping[str, Any], media: Mapping[str, Any]) -> str:
    if name in media:
        return f"{media[name].kind}{'s' if media[name].many else ''}: path, https:// or s3://"
    named = schema.get("type")
    return str(named) if isinstance(named, str) else "JSON"


def _sample(name: str, schema: Mapping[str, Any], media: Mapping[str, Any]) -> str:
    if name in media:
        return _SAMPLES[str(media[name].kind)]
    if isinstance(schema.get("enum"), list):
        return str(schema["enum"][0])
    match schema.get("type"):
        case "string":
            return "A fox in the snow"
        case "integer" | "number":
            return in_digits(schema.get("minimum", 1))
        case "boolean":
            return "true"
        case "array":
            return "[]"
    return "{}"
