"""How a block is sent to another process: without its secrets, which are loaded again there.

Prefect pickles parameters into its storage (`.delay()`), to other processes (process pools, Dask), and with results
that are persisted. So a pickle holds where a secret can be loaded from instead of the secret: the name of the block's
document in Prefect, or the environment. A block with neither is refused before anything is submitted.

The secret is loaded when it is first used, not when the block is unpickled: Prefect unpickles a task's parameters
before it has connected to the server that they come from (`_run_task_in_subprocess`, Prefect 3.9).
"""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

from prefect.blocks.core import Block
from pydantic import SecretStr

from runcomfy.errors import ConfigurationError

__all__ = ["MASK", "TOKEN_VARIABLES", "SecretOrigin", "environment_token", "find_block", "origin_of", "refusal"]

MASK = "**********"
"""What Prefect shows, and stores, of a secret."""

TOKEN_VARIABLES = ("RUNCOMFY_API_TOKEN", "RUNCOMFY_TOKEN")


class SecretOrigin(NamedTuple):
    """Where a secret can be loaded from."""

    kind: Literal["document", "environment"]
    """In a block's document in Prefect, or in the environment."""
    block: type[Block] | None = None
    name: str | None = None


Origin = SecretOrigin  # its name in what earlier versions have sent


def origin_of(block: Block) -> SecretOrigin | None:
    """Return the document that holds the block, `None` if it is not saved."""
    if block._block_document_id is None or block._block_document_name is None:
        return None
    return SecretOrigin("document", type(block), block._block_document_name)


def find_block(origin: SecretOrigin) -> Any:
    """Load the block of a document.

    Raises:
        ConfigurationError: this process's Prefect server has none of that name.
    """
    if origin.block is None or origin.name is None:
        raise ValueError("a document has a type and a name")
    try:
        return origin.block.load(origin.name, _sync=True)  # type: ignore[call-arg]  # known to Prefect's dispatcher only
    except ValueError as error:
        raise ConfigurationError(
            f"This process was sent the {origin.block.__name__} {origin.name!r} without its secrets, and could not "
            f"load it from its Prefect server: {error}"
        ) from None


def environment_token() -> SecretStr | None:
    """Return the RunComfy token from the environment, if any."""
    token = next((os.environ[name] for name in TOKEN_VARIABLES if os.environ.get(name)), None)
    return SecretStr(token) if token else None


def refusal(block: Block, otherwise: str) -> ConfigurationError:
    """Return the error for a block whose secrets cannot be loaded by another process."""
    kind = type(block).__name__
    return ConfigurationError(
        f"This {kind} cannot be sent to another process or stored: its secrets would be written in clear. Nothing "
        f'was submitted. Save it once (`block.save("NAME")`) and pass the saved one, `{kind}.load("NAME")`; or '
        f"{otherwise}."
    )
