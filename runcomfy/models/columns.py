"""What columns of a manifest, fields of a sidecar file and names in an object's metadata are called."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from runcomfy.models.inputs import ModelInputs
from runcomfy.models.registry import MODELS, short_names

__all__ = [
    "FIELDS",
    "INPUT",
    "OF_ANY_MODEL",
    "OWN",
    "TEXTS",
    "column_of",
    "field_names",
    "input_of",
    "named_model",
    "suggested",
    "unknown_field",
]

OF_ANY_MODEL = ("model", "variation")
"""What an order of any model may give beside the model's inputs."""
INPUT = "input."
"""Before an input's name, it means the input: for one that is called like something else, such as `model`."""
OWN = ("image", "prompt", *OF_ANY_MODEL)
"""The names that are not settings of a typed model."""
_NOT_INPUTS = frozenset((*OF_ANY_MODEL, "error", "line"))  # the last two are not read: a list of what failed has them
FIELDS = (*OWN, *sorted(frozenset().union(*(kind.setting_names() for kind in MODELS.values()))))
"""Every name that an order may give."""
TEXTS = tuple(sorted({"model", "prompt", "variation"}.union(*(kind.text_settings() for kind in MODELS.values()))))
"""The names whose values are texts in every model; a number there is a mistake."""


def field_names(kinds: Iterable[type[ModelInputs]], *, typed: bool) -> tuple[str, ...]:
    """Return every name that orders of these models may give.

    Args:
        kinds: The classes of models of the catalogue.
        typed: Whether the two typed models are among them.
    """
    names = dict.fromkeys(FIELDS if typed else ())
    for kind in kinds:
        names |= dict.fromkeys(map(column_of, kind.properties))
        names |= dict.fromkeys(["image"] if _image_input(kind) else ())
    return tuple(names | dict.fromkeys(OF_ANY_MODEL))


def input_of(kind: type[ModelInputs], name: str) -> str | None:
    """Return the input of a model of the catalogue that a name in an order means; `None` if it means none."""
    if name.startswith(INPUT):
        return name.removeprefix(INPUT) if name.removeprefix(INPUT) in kind.properties else None
    if name in _NOT_INPUTS:
        return None
    if name in kind.properties:
        return name
    return _image_input(kind) if name == "image" else None


def column_of(name: str) -> str:
    """Return what an input is called in an order: its name, unless that means something else there."""
    return f"{INPUT}{name}" if name in _NOT_INPUTS else name


def _image_input(kind: type[ModelInputs]) -> str | None:
    """Return the input that `image` means: the only image of a model that has no input of that name."""
    images = [name for name, medium in kind.media.items() if medium.kind == "image"]
    return images[0] if len(images) == 1 and "image" not in kind.properties else None


def named_model(value: Any) -> str:
    """Return the id of the model that an order names; empty if it names none."""
    named = "" if value is None else str(value).strip()
    return short_names().get(named, named)


def unknown_field(name: str, fields: Collection[str] = FIELDS) -> str:
    """Say that there is no such field, and suggest one."""
    return f"there is no such field{suggested(name, fields)}"


def suggested(name: str, fields: Collection[str]) -> str:
    """Return the end of a sentence about an unknown name: the one that may be meant, or all that there are."""
    near = difflib.get_close_matches(name.lower().replace(" ", "_"), fields, n=1)
    return f"; did you mean {near[0]}?" if near else f"; take it out, or rename it: there are {', '.join(fields)}"
