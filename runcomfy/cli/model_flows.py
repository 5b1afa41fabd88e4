"""What `init --model` writes for a model: a flow with the model's own form, its pin, and its deployment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runcomfy.cli import environment
from runcomfy.errors import InvalidInput
from runcomfy.models import MODELS, model_id_of, short_name

if TYPE_CHECKING:
    from runcomfy.models.pins import Pin

__all__ = ["model_flows"]

_OWN = "my_video"
_OF_THE_ENTRY = {
    "model_id", "display_name", "description", "output", "base_price_usd", "price_unit", "pricing_note", "input_schema",
}  # fmt: skip


def model_flows(models: Sequence[str], template: str) -> tuple[dict[str, str], str]:
    """Return the files of the models' flows by their names, and their deployments for prefect.yaml.

    Args:
        models: Their ids, or names of `.json` files with catalogue entries.
        template: The flow's file.

    Raises:
        InvalidInput: There is no such model, it has a form already, or two would have one file.
        ServiceError: The catalogue could not be read.
    """
    from runcomfy.models.forms import deployment_name, form_of

    contents: dict[str, str] = {}
    deployments, owners = "", {_OWN: "the flow to start from"}
    for named in dict.fromkeys(models):
        pin = _pin(named)
        form_of(pin)
        function = _identifier(pin.model_id)
        if (other := owners.setdefault(function, pin.model_id)) != pin.model_id:
            raise InvalidInput(
                f"--model: {other} and {pin.model_id} would both be flows/{function}.py. Give one of them, and run the "
                "other with the deployment generate."
            )
        if f"flows/{function}.py" in contents:  # named twice, by its id and as a file
            continue
        filled_in = template.replace("{{ model_id }}", pin.model_id).replace("{{ function }}", function)
        contents[f"flows/{function}.py"] = filled_in
        entry = pin.model_dump(mode="json", include=_OF_THE_ENTRY)  # without the day: the same model is the same file
        contents[f"flows/{function}.json"] = json.dumps(entry, indent=1, ensure_ascii=False) + "\n"
        deployments += _deployment(deployment_name(pin.model_id), function, pin.model_id)
    return contents, deployments


def _pin(named: str) -> Pin:
    from runcomfy.cli.models import read_entry
    from runcomfy.models.pins import Pin

    if named.endswith(".json"):
        pin = Pin.from_entry(read_entry(Path(named)), Path(named).name)
        model_id = model_id_of(pin.model_id, "--model")
    else:
        pin, model_id = None, model_id_of(named, "--model")
    if model_id in MODELS:
        raise InvalidInput(f"--model: {model_id} has a deployment with its own form already, {short_name(model_id)}.")
    return pin or asyncio.run(_fetched(model_id))


async def _fetched(model_id: str) -> Pin:
    from runcomfy.models.pins import Pin

    async with environment.client() as client:
        return Pin.from_entry(await client.model(model_id), client.base_url)


def _identifier(model_id: str) -> str:
    """Return a name for a module and its function; a model's id begins with a letter or a digit."""
    plain = "".join(letter if letter.isalnum() else "_" for letter in model_id.lower())
    return f"model_{plain}" if plain[0].isdigit() else plain


def _deployment(name: str, function: str, model_id: str) -> str:
    return (
        f"  - name: {name}\n"
        "    tags: [runcomfy, media]\n"
        f"    entrypoint: flows/{function}.py:{function}\n"
        "    work_pool: *pool\n"
        f"    parameters: {{ <<: *blocks, model: {json.dumps(model_id)} }}\n"
        "    concurrency_limit: { limit: 20, collision_strategy: ENQUEUE }\n\n"
    )
