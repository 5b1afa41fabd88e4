"""What should not be in a deployment's parameters: secrets in clear text, and blocks that are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.exceptions import ObjectNotFound

from runcomfy.redaction import redact

__all__ = ["clear_secrets", "lost_blocks"]

_PARTS_OF_NAMES = ("api_token", "password", "runcomfy_token", "secret", "session_token")
_NAMES = ("aws_access_key_id", "token")


def clear_secrets(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of values that should be secret."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from clear_secrets(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from clear_secrets(inner, f"{path}[{number}]")
    elif isinstance(value, str) and value.strip("*") and "{{" not in value:
        last = path.rpartition(".")[2].lower()
        if any(word in last for word in _PARTS_OF_NAMES) or last in _NAMES or redact(value) != value:
            yield path


async def lost_blocks(parameters: dict[str, Any]) -> AsyncIterator[str]:
    """Yield the names of parameters that refer to a block, by its id or by type/name, that does not exist."""
    async with get_client() as client:
        for name, value in parameters.items():
            reference = value.get("$ref") if isinstance(value, dict) else None
            if isinstance(reference, str):
                reference = {"block_document_id": reference}
            if not isinstance(reference, dict):
                continue
            try:
                if "block_document_slug" in reference:
                    kind, _, block = str(reference["block_document_slug"]).partition("/")
                    await client.read_block_document_by_name(block, kind, include_secrets=False)
                elif "block_document_id" in reference:
                    await client.read_block_document(UUID(str(reference["block_document_id"])), include_secrets=False)
            except (ObjectNotFound, ValueError):
                yield name
