"""A manifest to begin with: a row with samples, and above it a comment about each column, which is not read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Literal

from runcomfy.manifest.delimited import write_delimited
from runcomfy.manifest.json_lines import write_json_lines
from runcomfy.manifest.table import TEMPLATE
from runcomfy.models import ModelInputs, short_name
from runcomfy.models.cells import text_of
from runcomfy.models.columns import column_of
from runcomfy.models.media_fields import types_of
from runcomfy.models.samples import sample_of
from runcomfy.texts import in_digits

__all__ = ["manifest_template"]

_LONGEST = 160
_SHOWN_CHOICES = 12
_WORDS = {
    "array": "a list (a|b or JSON)",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "JSON",
    "string": "text",
}
_ABOUT_VARIATION = "text. Any other one makes another generation of the same inputs"
_SAMPLE = {"prompt": "A fox in the snow", "image": "photo.jpg"}


def manifest_template(kind: type[ModelInputs], format: Literal["csv", "jsonl"] = "csv") -> bytes:
    """Return a manifest for one model, in UTF-8, whose sample row is to be replaced.

    Every input has a column in CSV; JSON Lines names what has to be given. What a row leaves empty has the model's
    default.

    Args:
        kind: The model's class.
        format: `csv` or `jsonl`.
    """
    columns = dict(_columns(kind))
    row: dict[str, Any] = {"model": short_name(kind.model_id)}
    for name, own in columns.items():
        if own.needed:
            row[name] = own.sample if format == "jsonl" or not kind.properties else text_of(kind, own.name, own.sample)
    comments = [
        f"{TEMPLATE}{kind.model_id}. Lines like this one, above all others, are not read.",
        "model: the model of the row; needed, unless one is named for the whole file",
        *(f"{name}: {own.about}" for name, own in columns.items()),
        f"variation: {_ABOUT_VARIATION}",
    ]
    if format == "jsonl":
        return "".join(f"# {comment}\n" for comment in comments).encode() + write_json_lines([row])
    file = io.StringIO(newline="")
    csv.writer(file).writerows([f"# {comment}"] for comment in comments)
    rows = write_delimited([row], ["model", *columns, "variation"], ",").removeprefix(b"\xef\xbb\xbf")
    return file.getvalue().encode() + rows


class _Column:
    def __init__(self, name: str, about: str, sample: Any, *, needed: bool) -> None:
        self.name, self.sample, self.needed = name, sample, needed
        self.about = " ".join(about.split())[:_LONGEST]


def _columns(kind: type[ModelInputs]) -> Iterator[tuple[str, _Column]]:
    """Yield what a manifest may give for a model, what has to be given first."""
    required = {field.alias or name: field for name, field in kind.model_fields.items()}
    for name, field in sorted(required.items(), key=lambda each: not each[1].is_required()):
        column = "image" if not kind.properties and name == kind.image_field else column_of(name)
        sample = sample_of(kind, name) if kind.properties else _SAMPLE.get(column)
        about = _about(kind, name, field.description or "", needed=field.is_required())
        default = None if field.is_required() else field.default
        about += "" if default is None else f"; {json.dumps(default, ensure_ascii=False)} if empty"
        yield column, _Column(name, about, sample, needed=field.is_required())


def _about(kind: type[ModelInputs], name: str, description: str, *, needed: bool) -> str:
    schema = kind.properties.get(name) or kind.model_json_schema()["properties"].get(name, {})
    if name in kind.media:
        medium = kind.media[name]
        what = f"{medium.kind}{'s, a.x|b.x or JSON' if medium.many else ''}: a path, https:// or s3://"
    elif isinstance(choices := schema.get("enum"), list) and choices:
        more = " …" if len(choices) > _SHOWN_CHOICES else ""
        what = "one of " + ", ".join(str(choice) for choice in choices[:_SHOWN_CHOICES]) + more
    else:
        what = " or ".join(_WORDS[each] for each in sorted(types_of(schema) - {"null"})) or "JSON"
        least, most = schema.get("minimum"), schema.get("maximum")
        what += f", {in_digits(least)} or more" if least is not None and most is None else ""
        what += f", {in_digits(most)} or less" if most is not None and least is None else ""
        what += f", {in_digits(least)} to {in_digits(most)}" if least is not None and most is not None else ""
    description = description.rstrip(" .")
    return ". ".join(filter(None, (f"{what}; needed" if needed else what, description)))
