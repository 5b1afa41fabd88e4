"""What changed between two versions of a model's schema, as sentences for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["differences"]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each difference between two schemas of one model."""
    before, after = _properties(old), _properties(new)
    needed_before, needed_after = set(_list(old.get("required"))), set(_list(new.get("required")))
    found = [f"{name}: it is gone" for name in before if name not in after]
    found += [
        f"{name}: it is new{', and required' if name in needed_after else ''}" for name in after if name not in before
    ]
    for name in before.keys() & after.keys():
        if name in needed_after - needed_before:
            found.append(f"{name}: it is required now")
        elif name in needed_before - needed_after:
            found.append(f"{name}: it is no longer required")
        found += [f"{name}: {change}" for change in _changes(before[name], after[name])]
    return sorted(found)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    for keyword in sorted(old.keys() | new.keys()):
        before, after = old.get(keyword), new.get(keyword)
        if before == after and type(before) is type(after):
            continue
        if keyword == "enum" and isinstance(before, list) and isinstance(after, list):
            gone, added = [each for each in before if each not in after], [each for each in after if each not in before]
            found += [f"no longer accepts {_shown(each)}" for each in gone]
            found += [f"accepts {_shown(each)} as well" for each in added]
        elif keyword not in old:
            found.append(f"{keyword} is {_shown(after)} now")
        elif keyword not in new:
            found.append(f"{keyword} was {_shown(before)}, and is gone")
        else:
            found.append(f"{keyword} was {_shown(before)}, and is {_shown(after)}")
    return found


def _properties(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = schema.get("properties")
    own = found.items() if isinstance(found, dict) else ()
    return {name: rules for name, rules in own if isinstance(rules, dict)}


def _list(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
