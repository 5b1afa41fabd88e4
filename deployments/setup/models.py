"""A deployment for one model: `generate`'s, with the model's own form, so that Prefect refuses a bad run by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from blocks import MediaStore, RunComfyCredentials
from deployments.setup.steps import Allowed, Step
from deployments.steps import refer_to_blocks
from flows.generate import generate
from flows.model_form import flow_of
from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.generation.models import pin_of
from runcomfy.models import MODELS, model_id_of, short_name
from runcomfy.models.differences import differences
from runcomfy.models.forms import deployment_name, description_of
from runcomfy.models.pins import Pin, note_of
from tasks.runtime.hooks import open_service
from tasks.runtime.naming import function_name
from tasks.upkeep.deployments import our_deployments

__all__ = ["ensure_models", "models_of"]

_SHOWN = 5  # changes of a form; `models diff` shows them all


def models_of(names: Sequence[str]) -> list[str]:
    """Return the ids of the models that were named, each once.

    Raises:
        InvalidInput: One is no model's id, has its form already, or would be deployed under another one's name.
    """
    found = list(dict.fromkeys(model_id_of(name, "--add-model") for name in names))
    if typed := [each for each in found if each in MODELS]:
        raise InvalidInput(
            f"--add-model: {typed[0]} has a deployment with its own form already, {short_name(typed[0])}."
        )
    called: dict[str, str] = {}
    for each in found:
        if (other := called.setdefault(deployment_name(each), each)) != each:
            raise InvalidInput(
                f"--add-model: {other} and {each} would both be the deployment {deployment_name(each)}. "
                f"Add one of them, and run the other with the deployment {generate.name}."
            )
    return found


async def ensure_models(
    client: PrefectClient, models: Sequence[str], pool: str, blocks: tuple[str, str], allowed: Allowed
) -> list[Step]:
    """Make sure of a deployment for each model, which is that of `generate` but for its form.

    Args:
        client: Speaks to the server.
        models: Their ids, as `models_of` returns them.
        pool: The work pool; `generate` has to be deployed to it.
        blocks: The names of the blocks of the account and of the bucket, which the runs use; the pins are beside the
            journal there.
        allowed: Whether a deployment, or a pin, may be made, or a deployment be changed.

    Raises:
        ConfigurationError: A deployment of another model has the name.
        RunComfyError: A model could not be pinned; `runcomfy.generation.models.pin_of` says why.
    """
    ours = await our_deployments(client)
    base = next((each for each in ours.values() if _is_base(each, pool)), None)
    if base is None:
        detail = f"deploy {generate.name} to the work pool {pool} first, and run this again"
        return [Step("deployment", deployment_name(each), "skipped", detail) for each in models]
    account = await _loaded(client, RunComfyCredentials, blocks[0])
    store = await _loaded(client, MediaStore, blocks[1])
    if not isinstance(account, RunComfyCredentials) or not isinstance(store, MediaStore):
        return [Step("deployment", deployment_name(each), "missing", "and so is a block") for each in models]
    references = await refer_to_blocks(
        credentials=f"{RunComfyCredentials.get_block_type_slug()}/{blocks[0]}",
        store=f"{MediaStore.get_block_type_slug()}/{blocks[1]}",
    )
    given = {**base.parameters, **references}
    pins: list[Pin | None] = []
    async with open_service(account, store) as engine:
        for model in models:
            if allowed.make:
                pins.append(await pin_of(model, engine.client, engine.journal))
            else:
                document = await engine.journal.read_note(note_of(model))
                pins.append(None if document is None else Pin.from_json(document, note_of(model)))
    return [
        Step("deployment", deployment_name(model), "missing", "the model is not pinned yet")
        if pin is None
        else await _ensure(client, pin, base, ours.get(f"{generate.name}/{deployment_name(model)}"), given, allowed)
        for model, pin in zip(models, pins, strict=True)
    ]


async def _ensure(
    client: PrefectClient,
    pin: Pin,
    base: DeploymentResponse,
    current: DeploymentResponse | None,
    given: dict[str, Any],
    allowed: Allowed,
) -> Step:
    name = deployment_name(pin.model_id)
    schema = parameter_schema(flow_of(pin)).model_dump(mode="json")
    parameters = {**given, "model": pin.model_id}
    if current is None:
        if not allowed.make:
            return Step("deployment", name, "missing", pin.model_id)
        limit = base.global_concurrency_limit
        await client.create_deployment(
            base.flow_id,
            name,
            description=description_of(pin),
            tags=base.tags,
            parameters=parameters,
            parameter_openapi_schema=schema,
            enforce_parameter_schema=True,
            entrypoint=base.entrypoint,
            path=base.path,
            pull_steps=base.pull_steps,
            work_pool_name=base.work_pool_name,
            work_queue_name=base.work_queue_name,
            job_variables=base.job_variables,
            concurrency_limit=limit.limit if limit else None,
            concurrency_options=base.concurrency_options if limit else None,
        )
        return Step("deployment", name, "created", pin.model_id)
    if (other := current.parameters.get("model")) != pin.model_id:
        raise ConfigurationError(
            f"The deployment {generate.name}/{name} is not that of {pin.model_id}: its model is {other!r}. Rename it, "
            "or delete it, and run this again."
        )
    changes = _changes(current, base, schema, parameters)
    if not changes:
        return Step("deployment", name, "unchanged")
    change = "; ".join([*changes[:_SHOWN], *([f"{len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else [])])
    if not allowed.change(f"Deployment {name}: {change}"):
        return Step("deployment", name, "differs", change)
    update = DeploymentUpdate(
        parameters=parameters,
        parameter_openapi_schema=schema,
        enforce_parameter_schema=True,
        description=description_of(pin),
        tags=current.tags,
        entrypoint=base.entrypoint,
        path=base.path,
        pull_steps=base.pull_steps,
        work_pool_name=base.work_pool_name,
        work_queue_name=base.work_queue_name,
    )
    await client.update_deployment(current.id, update)
    return Step("deployment", name, "updated", change)


def _changes(
    current: DeploymentResponse, base: DeploymentResponse, schema: dict[str, Any], parameters: dict[str, Any]
) -> list[str]:
    """Say how a model's deployment differs from what it is to be; what a person may set on its page is left alone."""
    known = current.parameter_openapi_schema or {}
    old, new = (each.get("properties", {}).get("inputs", {}) for each in (known, schema))
    changes = differences(old, new)
    if not changes and known != schema:
        changes = ["its form is another one"]
    if not current.enforce_parameter_schema:
        changes.append("bad runs are not refused → refused")
    changes += [
        f"{name}: {_shown(current.parameters.get(name))} → {_shown(value)}"
        for name, value in parameters.items()
        if current.parameters.get(name) != value
    ]
    for what in ("entrypoint", "path", "pull_steps", "work_pool_name", "work_queue_name"):
        if getattr(current, what) != getattr(base, what):
            changes.append(f"{what.replace('_', ' ')}: another one than that of {generate.name}")
    return changes


def _is_base(deployment: DeploymentResponse, pool: str) -> bool:
    """Whether it is the deployment of any model, run by workers of the pool."""
    return (
        function_name(deployment.entrypoint) == generate.fn.__name__
        and deployment.work_pool_name == pool
        and "model" not in deployment.parameters
    )


async def _loaded(client: PrefectClient, kind: type[RunComfyCredentials] | type[MediaStore], name: str) -> Any:
    try:
        await client.read_block_document_by_name(name, kind.get_block_type_slug(), include_secrets=False)
    except ObjectNotFound:
        return None
    return await kind.aload(name, client=client)


def _shown(value: Any) -> str:
    reference = value.get("$ref") if isinstance(value, dict) else None
    return str(next(iter(reference.values()), "")) if isinstance(reference, dict) else repr(value)
