"""Where `doctor` finds the account and the bucket: in the environment and options, or in stored blocks."""

from __future__ import annotations

from typing import TypeVar

from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks import MediaStore, RunComfyCredentials
from flows import environment
from runcomfy.checkup import Account, Bucket
from runcomfy.client import is_local
from runcomfy.errors import ConfigurationError
from runcomfy.models import violations

__all__ = ["Sources"]

_B = TypeVar("_B", bound=Block)


class Sources:
    """The account and the bucket, looked up when they are asked for.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        journal: Where the journal is kept.
        credentials_block: The name of a `RunComfyCredentials` block, which then counts instead of the environment.
        store_block: The name of a `MediaStore` block, which then counts instead of `bucket` and `journal`.
    """

    is_sandbox = False
    """Whether the account that was found is one of a service on this machine."""

    def __init__(
        self, bucket: str | None, journal: str, credentials_block: str | None, store_block: str | None
    ) -> None:
        self._bucket, self._journal = bucket, journal
        self._credentials_block, self._store_block = credentials_block, store_block

    async def account(self) -> Account:
        """Return the account.

        Raises:
            ConfigurationError: it is not set, or cannot be used.
        """
        name = self._credentials_block
        block = await _load(RunComfyCredentials, name) if name else environment.credentials()
        self.is_sandbox = is_local(block.base_url)
        return Account(block.get_client, block.host_policy(), _source(block, name))

    async def bucket(self) -> Bucket:
        """Return the bucket.

        Raises:
            ConfigurationError: none is named, or it cannot be used.
        """
        name = self._store_block
        if name:
            block = await _load(MediaStore, name)
        elif self._bucket:
            block = environment.media_store(self._bucket, journal=self._journal)
        else:
            raise ConfigurationError("No bucket is named. Give --bucket (or RUNCOMFY_BUCKET), or --store-block.")
        return Bucket(block.get_store, block.journal, block.conditional_writes, _source(block, name))


async def _load(kind: type[_B], name: str) -> _B:
    try:
        return await kind.aload(name)
    except ValidationError as error:  # without the values: there are secrets among them
        said = "; ".join(f"{field}: {message}" for field, message in violations(error))
        raise ConfigurationError(f"The block {kind.get_block_type_slug()}/{name} cannot be used. {said}") from None


def _source(block: Block, name: str | None) -> str:
    return f"the block {block.get_block_type_slug()}/{name}" if name else "the environment"
