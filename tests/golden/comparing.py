"""What is missing of what was offered before: additions are welcome, no other change is."""

from __future__ import annotations

from typing import Any

__all__ = ["gone", "schema_of", "shape"]

_PROSE = ("title", "description", "position", "examples")
_ANYTHING = ("properties", "definitions", "$defs")
"""Their keys are names, `title` and `description` among them."""


def gone(before: Any, now: Any, where: str = "") -> list[str]:
    """Return where something is missing now, or differs from before; nothing if all still exists.

    An object keeps its keys, a list its members in any order, all else its value. `required` is the exception: fewer
    fields may be required, not more.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        lost = [f"{where}.{name} has gone" for name in before if name not in now]
        kept = [name for name in before if name in now and name != "required"]
        lost += [
            f"{where} asks for {name} now" for name in set(now.get("required", ())) - set(before.get("required", ()))
        ]
        return lost + [each for name in kept for each in gone(before[name], now[name], f"{where}.{name}")]
    if isinstance(before, list) and isinstance(now, list):
        return [f"{where}: {one!r} has gone" for one in before if all(gone(one, other) for other in now)]
    return [] if before == now and type(before) is type(now) else [f"{where} was {before!r} and is {now!r}"]


def shape(document: Any) -> Any:
    """Return the keys of a JSON document and of all that it holds, without values; a list counts as its members."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items()}
    if isinstance(document, list):
        merged: dict[str, Any] = {}
        for member in document:
            if isinstance(member, dict):
                merged |= {name: shape(value) for name, value in member.items() if name not in merged or value}
        return [merged] if merged else []
    return None


def schema_of(schema: Any, *, names: bool = False) -> Any:
    """Return a JSON schema without its prose.

    Args:
        schema: The schema, or a part of one.
        names: Whether the keys of this part are names of its own, and not keywords of JSON schema.
    """
    if isinstance(schema, dict):
        return {
            key: schema_of(value, names=key in _ANYTHING and not names)
            for key, value in schema.items()
            if names or key not in _PROSE
        }
    return [schema_of(part) for part in schema] if isinstance(schema, list) else schema
