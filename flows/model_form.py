"""The flow `generate` for one model, with the model's own form in Prefect's UI."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated, Any

from prefect import Flow
from pydantic import BeforeValidator, WithJsonSchema

from flows.generate import generate
from flows.parameters import GivenInputs, json_object, model_run_name
from runcomfy.errors import ConfigurationError
from runcomfy.models.forms import form_of
from runcomfy.models.pins import Pin
from tasks.runtime.flow import flow

__all__ = ["flow_of", "flow_of_file"]


def flow_of(pin: Pin) -> Flow[..., Any]:
    """Return `generate` with the inputs of one model as its form: fields, bounds, choices, help, media.

    It is the same flow: its runs read the pin beside the journal, have the same keys, and pay once. Only what Prefect
    is told of its parameters differs: `inputs` is the model's own, and `model` has one choice.

    Args:
        pin: The model.

    Raises:
        InvalidInput: No form can be made of its schema.
    """

    async def one_model(*given: Any, **named: Any) -> Any:
        return await generate.fn(*given, **named)

    signature = inspect.signature(generate.fn, eval_str=True)
    form = form_of(pin)
    own: dict[str, Any] = {
        "model": Annotated[str, WithJsonSchema({"type": "string", "enum": [pin.model_id]})],
        "inputs": Annotated[GivenInputs, BeforeValidator(json_object), WithJsonSchema(form)],
    }
    parameters = [
        each.replace(annotation=own.get(name, each.annotation)) for name, each in signature.parameters.items()
    ]
    one_model.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    one_model.__annotations__ = {each.name: each.annotation for each in parameters}
    one_model.__doc__ = generate.fn.__doc__
    return flow(name=generate.name, flow_run_name=model_run_name)(one_model)


def flow_of_file(path: Path) -> Flow[..., Any]:
    """Return the flow of a model whose catalogue entry is in a file beside the project's flows.

    Args:
        path: A JSON file, as `prefect-runcomfy init --model` writes it.

    Raises:
        ConfigurationError: It is not there, or cannot be read.
        InvalidInput: No form can be made of its schema.
    """
    try:
        entry = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{path.name}, with the model of {path.stem}, cannot be read: {error.strerror}. It belongs beside the "
            "flow's own file; `prefect-runcomfy init --model` writes both."
        ) from None
    except (ValueError, RecursionError):
        raise ConfigurationError(
            f"{path.name} is no JSON document: `prefect-runcomfy init --model` writes it."
        ) from None
    return flow_of(Pin.from_entry(entry if isinstance(entry, dict) else {}, path.name))
