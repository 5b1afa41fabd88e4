"""Blocks as a Prefect server stores them, and a server with blocks that an older version saved."""

from __future__ import annotations

from typing import Any

from prefect import get_client
from prefect.blocks.core import Block
from prefect.client.schemas.actions import BlockDocumentCreate, BlockSchemaCreate
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials

__all__ = ["BLOCKS", "put_saved", "saved", "with_secrets"]

BLOCKS: dict[str, Block] = {
    "runcomfy-credentials": RunComfyCredentials(
        api_token=SecretStr("a-token"), base_url="https://service.example", output_hosts=["files.example"]
    ),
    "media-store": MediaStore(
        bucket="videos", prefix="marketing", endpoint_url="https://minio.example", region_name="eu-central-1",
        public_endpoint_url="https://files.example", addressing_style="path",
        archive_key="{model}/{request_id}-{index}.{ext}",
        mark_ai_generated=False, conditional_writes=False, journal="none", journal_patience_seconds=240,
        credentials=AwsCredentials(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key=SecretStr("a-secret")),
    ),
}  # fmt: skip
"""One of each type by its slug; no setting has its default."""


async def saved(block: Block, name: str) -> dict[str, Any]:
    """Save a block, and return what the server keeps of it and of its type."""
    await block.save(name)
    async with get_client() as client:
        document = await client.read_block_document_by_name(name, block.get_block_type_slug(), include_secrets=True)
    assert document.block_schema is not None
    schema = document.block_schema
    return {
        "data": document.data,
        "schema": {"fields": schema.fields, "capabilities": schema.capabilities, "version": schema.version},
    }


async def put_saved(kind: type[Block], name: str, document: dict[str, Any]) -> None:
    """Put a block onto the server as the version that saved it did, under its schema."""
    await kind.register_type_and_schema()  # all of its parts have to be registered there
    async with get_client() as client:
        block_type = await client.read_block_type_by_slug(kind.get_block_type_slug())
        schema = await client.create_block_schema(BlockSchemaCreate(block_type_id=block_type.id, **document["schema"]))
        await client.create_block_document(
            BlockDocumentCreate(
                name=name, data=document["data"], block_schema_id=schema.id, block_type_id=block_type.id
            )
        )


def with_secrets(block: Block) -> dict[str, Any]:
    """Return a block's own fields, secrets in clear text."""
    return {name: _clear(getattr(block, name)) for name in type(block).model_fields}


def _clear(value: Any) -> Any:
    if isinstance(value, Block):
        return with_secrets(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else value
