"""Steps of `prefect deploy`: what `prefect.yaml` fills in of the server's blocks and of the environment."""

from __future__ import annotations

import os

from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

__all__ = ["Reference", "read_environment", "refer_to_blocks"]

Reference = dict[str, dict[str, str]]


async def refer_to_blocks(**blocks: str) -> dict[str, Reference]:
    """Return a reference to each block: by id where it exists, so that Prefect's forms show it, else by its name.

    A name is looked up when a run starts, so a block may be made after the deployments. An id may not be in
    `prefect.yaml` itself: `prefect deploy` would replace it by the block's content, secrets in clear text. What a step
    returns is filled in after that, and stays a reference.

    Args:
        blocks: Block types and names, such as `store="media-store/videos"`.
    """
    async with get_client() as client:
        return {name: await _reference(client, slug) for name, slug in blocks.items()}


def read_environment(**variables: str) -> dict[str, str | bool]:
    """Return the values of environment variables, an empty text for one that is not set, and whether the first is set.

    Args:
        variables: Their names, such as `source="RUNCOMFY_INBOX"`. The answer is under `given`.
    """
    values = {name: os.environ.get(variable, "") for name, variable in variables.items()}
    return values | {"given": any(list(values.values())[:1])}


async def _reference(client: PrefectClient, slug: str) -> Reference:
    type_slug, _, name = slug.partition("/")
    try:
        found = await client.read_block_document_by_name(name, type_slug, include_secrets=False)
    except ObjectNotFound:
        return {"$ref": {"block_document_slug": slug}}
    return {"$ref": {"block_document_id": str(found.id)}}
