"""The models that the sandbox offers: the typed ones, and any whose catalogue entry is in a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import referencing
from jsonschema import Draft202012Validator

from runcomfy import models
from runcomfy.errors import ConfigurationError, RunComfyError
from runcomfy.models.inputs import ModelInputs
from runcomfy.models.pins import Pin, class_of, output_of
from runcomfy.models.schema import standard
from runcomfy.models.sentences import sentence

__all__ = ["Model", "catalogue"]

_SCHEMAS = Path(__file__).parent / "schemas"
"""Word for word from the pages of the models, with the sample prompt and image that they give as defaults."""
_LARGEST_ENTRY_BYTES = 4_000_000


@dataclass(frozen=True)
class Model:
    """One model: its catalogue entry but for its price, and the class of its inputs."""

    entry: dict[str, Any]
    kind: type[ModelInputs]

    @property
    def makes(self) -> str:
        """What it makes: `video`, `image` or `audio`."""
        return self.kind.makes or "video"

    @cached_property
    def _schema(self) -> dict[str, Any]:
        return standard(self.entry["input_schema"])

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(self._schema, registry=referencing.Registry())

    def violations(self, inputs: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with inputs that have their defaults, one sentence each; unknown fields may pass."""
        missing = [name for name in self._schema.get("required", ()) if name not in inputs]
        if missing:
            return [f"{name} is required" for name in missing]
        errors = sorted(self._validator.iter_errors(dict(inputs)), key=lambda error: str(error.absolute_path))
        return [re.sub(r"^at (\w+): ", r"\1: ", sentence(error)) for error in errors]

    def with_defaults(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return `inputs` with the schema's defaults for what was left out, and 81.0 as 81.

        The defaults of texts and media are samples, and are never filled in.
        """
        fields = self._schema["properties"]
        given = {name: _whole(value) if name in fields else value for name, value in inputs.items()}
        samples = {*self.kind.media, *self.kind.texts, "prompt"}
        return {
            name: rules["default"] for name, rules in fields.items() if "default" in rules and name not in samples
        } | given


def catalogue(folder: Path | None = None) -> dict[str, Model]:
    """Return the models by id.

    Args:
        folder: Holds a JSON file for each further model: its catalogue entry, or a pin.

    Raises:
        ConfigurationError: A file in it is no such entry.
    """
    found = {model_id: Model(_entry(model_id, _schema(model_id)), kind) for model_id, kind in models.MODELS.items()}
    return found | dict(_read_all(folder) if folder is not None else ())


def _read_all(folder: Path) -> Iterator[tuple[str, Model]]:
    if not folder.is_dir():
        raise ConfigurationError(f"There is no folder {folder} with models.")
    for path in sorted(folder.glob("*.json")):
        try:
            if path.stat().st_size > _LARGEST_ENTRY_BYTES:
                raise ConfigurationError("it is too large")
            entry = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(entry, dict):
                raise ConfigurationError("it is no JSON object")
            pin = Pin.from_entry(entry, path.name, media=entry.get("media") or {})
        except (OSError, ValueError, RecursionError, RunComfyError) as error:
            reason = error.message if isinstance(error, RunComfyError) else type(error).__name__
            raise ConfigurationError(f"{path.name} is no entry of a catalogue: {reason}") from None
        model_id = re.sub(r"[^A-Za-z0-9_./-]+", "-", pin.model_id).strip("-./")
        if "/" not in model_id:
            model_id = f"local/{model_id}"
        known = {name: entry[name] for name in ("display_name", "description", "categories") if name in entry}
        made = output_of(entry) or "video"
        pin = pin.model_copy(update={"model_id": model_id, "output": made})
        yield model_id, Model(_entry(model_id, pin.input_schema) | {"output": made} | known, class_of(pin))


def _entry(model_id: str, schema: dict[str, Any]) -> dict[str, Any]:
    _, *words, category = re.sub(r"(\d)-(\d)", r"\1.\2", model_id).split("/")
    name = " ".join([*words, category]).replace("-", " ").capitalize()
    return {
        "model_id": model_id,
        "kind": "model",
        "display_name": name,
        "description": f"{name}, as a local sandbox imitates it.",
        "categories": [category],
        "model_url": f"https://www.runcomfy.com/models/{model_id}",
        "input_schema": schema,
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


def _whole(value: Any) -> Any:
    """Return 81 for 81.0: for JSON Schema, both are integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
