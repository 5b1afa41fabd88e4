"""What people, scripts, automations and dashboards rely on, as the present code offers it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from ruamel.yaml import YAML

from blocks import MediaStore, RunComfyCredentials
from runcomfy import errors
from runcomfy.archive.provenance import Provenance
from runcomfy.catalogue import SCHEMA
from runcomfy.cli import output
from runcomfy.cli.output import exit_code
from runcomfy.journal import Entry
from runcomfy.telemetry.metrics import METRICS
from tasks.runtime.events import ASSET_MADE, ASSET_READ, EVENTS, SET_ASIDE
from tests.golden.comparing import schema_of

__all__ = ["OFFERED", "ROOT"]

ROOT = Path(__file__).parents[2]


def deployments() -> dict[str, Any]:
    """Deployments by their names: where their flow is, what they give it, and what starts them."""
    described: list[dict[str, Any]] = YAML(typ="safe").load(ROOT / "deployments" / "prefect.yaml")["deployments"]
    return {
        each["name"]: {
            "entrypoint": each["entrypoint"],
            "tags": each["tags"],
            "parameters": list(each["parameters"]),
            "schedules": {
                schedule["slug"]: list(schedule.get("parameters", {})) for schedule in each.get("schedules", [])
            },
            "triggers": {
                trigger["name"]: {"expect": trigger["expect"], "parameters": list(trigger["parameters"])}
                for trigger in each.get("triggers", [])
                if "parameters" in trigger
            },
        }
        for each in described
    }


def parameters() -> dict[str, Any]:
    """The schema of each deployed flow's parameters, and of what they are made of."""
    flows: list[Flow[..., Any]] = [
        load_flow_from_entrypoint(str(ROOT / each["entrypoint"])) for each in deployments().values()
    ]
    schemas = {flow.name: schema_of(flow.parameters.model_dump(mode="json")) for flow in flows}
    parts: dict[str, Any] = {}
    for schema in schemas.values():
        parts |= _ours(schema.pop("definitions"))
    return {"flows": schemas, "definitions": parts}


def blocks() -> dict[str, Any]:
    """The types of blocks by their slugs, and the schema of each."""
    found = {}
    for block in (RunComfyCredentials, MediaStore):
        schema = schema_of(block.model_json_schema())
        schema["definitions"] = _ours(schema.get("definitions", {}))
        found[block.get_block_type_slug()] = {"name": block.get_block_type_name(), "schema": schema}
    return found


def _ours(definitions: dict[str, Any]) -> dict[str, Any]:
    """Leave out the blocks of prefect-aws, and their parts."""
    return {name: schema for name, schema in definitions.items() if not name.startswith(("Aws", "MinIO"))}


def events() -> dict[str, Any]:
    """The events of a generation by its state, that of a file that was set aside, and those of its assets."""
    return {
        "generations": {str(state): name for state, name in EVENTS.items()},
        "set_aside": SET_ASIDE,
        "assets": [ASSET_MADE, ASSET_READ],
    }


def artifacts() -> list[str]:
    """The keys of all artifacts, as the calls that make them say."""
    calls = [
        node
        for path in sorted((ROOT / "tasks").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("_artifact")
    ]
    keys = [word.value for call in calls for word in call.keywords if word.arg == "key"]
    return sorted({str(key.value) for key in keys if isinstance(key, ast.Constant)})


def metrics() -> dict[str, Any]:
    """Metrics by their names: their kinds, units and labels."""
    return {
        metric.name: {"kind": metric.kind, "unit": metric.unit, "labels": sorted(metric.attributes)}
        for metric in METRICS
    }


def exit_codes_of_errors() -> dict[str, int]:
    """The command line's exit code for each class of error, and for other ends."""
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.RunComfyError)]
    codes = {one.__name__: exit_code(one("It broke.")) for one in classes}
    words = ("UNEXPECTED", "INTERRUPTED", "STOPPED")
    return codes | {word: int(getattr(output, word)) for word in words}


def catalogue() -> dict[str, str]:
    """The catalogue's columns in their order, each with its type."""
    return {field.name: f"{field.type}{'' if field.nullable else ' not null'}" for field in SCHEMA}


def documents() -> dict[str, Any]:
    """The schemas of what is kept as JSON beside the videos."""
    return {model.__name__: schema_of(model.model_json_schema()) for model in (Entry, Provenance)}


OFFERED: dict[str, Callable[[], Any]] = {
    "deployments": deployments,
    "parameters": parameters,
    "blocks": blocks,
    "events": events,
    "artifacts": artifacts,
    "metrics": metrics,
    "exit_codes": exit_codes_of_errors,
    "catalogue": catalogue,
    "documents": documents,
}
"""By the name of the file below `offered/` that has it as it was recorded."""
