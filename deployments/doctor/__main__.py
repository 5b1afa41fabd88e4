"""Check a set-up as the deployments use it: `python -m deployments.doctor`.

It checks what `prefect-runcomfy doctor` checks (account, bucket, signing, journal, clock), of stored blocks if they are
named, and what the deployments need of the Prefect server.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import App, Parameter

from runcomfy.cli.__main__ import main as run_command
from runcomfy.cli.doctor import BucketOption, JournalOption, Sources, conclude, engine_checks, find
from runcomfy.cli.options import Json
from runcomfy.cli.streams import as_process
from runcomfy.errors import ConfigurationError
from runcomfy.models import violations
from runcomfy.policy import Deadlines

if TYPE_CHECKING:
    from prefect.blocks.core import Block

    from runcomfy.content_credentials import Signing
    from runcomfy.doctor.bucket import BucketUnderTest
    from runcomfy.doctor.service import AccountUnderTest

__all__ = ["BlockSources", "app", "main"]

_B = TypeVar("_B", bound="Block")

app = App(name="python -m deployments.doctor", help=__doc__, version_flags=())


@app.default
def doctor(
    *,
    bucket: BucketOption = None,
    journal: JournalOption = "bucket",
    credentials_block: Annotated[
        str | None, Parameter(help="Check the account of this RunComfyCredentials block, and not the environment's.")
    ] = None,
    store_block: Annotated[
        str | None, Parameter(help="Check the bucket of this MediaStore block, and not --bucket.")
    ] = None,
    pool: Annotated[
        str | None,
        Parameter(
            env_var="RUNCOMFY_WORK_POOL", help="The work pool that has to be there; without it, the deployments'."
        ),
    ] = None,
    deadlines: Annotated[Deadlines, Parameter(name="*")] = Deadlines(),
    json: Json = False,
) -> None:
    """Check account, bucket, clock and Prefect server, and say what to fix (exit code 3 if anything is broken)."""
    from deployments.doctor.checks import BLOCK_CHECKS, prefect_checks
    from deployments.doctor.server import has_server

    if (credentials_block or store_block) and not has_server():
        raise ConfigurationError("Blocks are kept by a Prefect server: set PREFECT_API_URL, or name no block.")
    checks = engine_checks(
        BlockSources(bucket, journal, credentials_block, store_block),
        deadlines.signed_for,
        account_needs=BLOCK_CHECKS[:1] if credentials_block else (),
        bucket_needs=BLOCK_CHECKS[1:] if store_block else (),
    )
    conclude(find([*checks, *prefect_checks(credentials_block, store_block, pool)], quiet=json), as_json=json)


class BlockSources(Sources):
    """The account and the bucket: of stored blocks, or from environment and options.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        journal: Where the journal is kept.
        credentials_block: The name of a `RunComfyCredentials` block, which is used instead of the environment.
        store_block: The name of a `MediaStore` block, which is used instead of `bucket` and `journal`.
    """

    def __init__(
        self, bucket: str | None, journal: str, credentials_block: str | None, store_block: str | None
    ) -> None:
        super().__init__(bucket, journal)
        self._credentials_block, self._store_block = credentials_block, store_block

    async def account(self) -> AccountUnderTest:
        """Return the account.

        Raises:
            ConfigurationError: it is not set, or cannot be used.
        """
        name = self._credentials_block
        if not name:
            return await super().account()
        from blocks import RunComfyCredentials
        from runcomfy.api.client import is_local
        from runcomfy.doctor.service import AccountUnderTest

        block = await _load(RunComfyCredentials, name)
        self.is_sandbox = is_local(block.base_url)
        return AccountUnderTest(block.get_client, block.host_policy(), _source(block, name))

    async def bucket(self) -> BucketUnderTest:
        """Return the bucket.

        Raises:
            ConfigurationError: none is named, or it cannot be used.
        """
        name = self._store_block
        if not name:
            return await super().bucket()
        from blocks import MediaStore
        from runcomfy.doctor.bucket import BucketUnderTest

        block = await _load(MediaStore, name)
        return BucketUnderTest(block.get_store, block.journal, block.conditional_writes, _source(block, name))

    async def signing(self) -> Signing | None:
        """Return what signs files.

        Raises:
            ConfigurationError: its settings contradict each other, or there is no such block.
        """
        if not self._store_block:
            return await super().signing()
        from blocks import MediaStore

        return (await _load(MediaStore, self._store_block)).signing()


async def _load(kind: type[_B], name: str) -> _B:
    from pydantic import ValidationError

    try:
        return await kind.aload(name)
    except ValidationError as error:  # without the values: there are secrets among them
        said = "; ".join(f"{field}: {message}" for field, message in violations(error))
        raise ConfigurationError(f"The block {kind.get_block_type_slug()}/{name} cannot be used. {said}") from None


def _source(block: Block, name: str) -> str:
    return f"the block {block.get_block_type_slug()}/{name}"


def main(arguments: list[str] | None = None) -> int:
    """Check, and return the process's exit code, as `prefect-runcomfy` has them."""
    return run_command(arguments, app)


if __name__ == "__main__":
    sys.exit(as_process(main))
