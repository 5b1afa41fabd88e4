"""The two blocks: what exists, what is wanted, and the difference, without a secret in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from prefect_aws import AwsCredentials
from pydantic import SecretStr, ValidationError

from blocks import MediaStore, RunComfyCredentials
from deployments.setup.steps import Allowed, Step
from runcomfy.errors import ConfigurationError
from runcomfy.models import violations

__all__ = ["BlockPlan", "Kind"]

Kind: TypeAlias = type[RunComfyCredentials] | type[MediaStore]


@dataclass(frozen=True)
class BlockPlan:
    """A block as it is, and as it is wanted.

    Args:
        kind: The type of the block.
        name: Its name.
        stored: The stored block; `None` if there is none.
    """

    kind: Kind
    name: str
    stored: RunComfyCredentials | MediaStore | None

    @classmethod
    async def read(cls, client: PrefectClient, kind: Kind, name: str) -> BlockPlan:
        """Read whether the block exists."""
        try:
            await client.read_block_document_by_name(name, kind.get_block_type_slug(), include_secrets=False)
        except ObjectNotFound:
            return cls(kind, name, None)
        return cls(kind, name, await kind.aload(name, client=client))

    @property
    def title(self) -> str:
        """Its type and its name."""
        return f"{self.kind.get_block_type_slug()}/{self.name}"

    def wanted(self, given: Mapping[str, Any]) -> RunComfyCredentials | MediaStore:
        """Return the block with the given values, and the others unchanged.

        Raises:
            ConfigurationError: they cannot be used.
        """
        try:
            wanted = self.kind(**self._present() | dict(given))
            if isinstance(wanted, RunComfyCredentials):
                wanted.get_client()
            else:
                wanted.check_settings()
        except ValidationError as error:  # without the values: there are secrets among them
            said = "; ".join(f"{field}: {text.removeprefix('Value error, ')}" for field, text in violations(error))
            raise ConfigurationError(f"The block {self.title} cannot be made of this. {said}") from None
        return wanted

    async def carry_out(self, client: PrefectClient, given: Mapping[str, Any], allowed: Allowed) -> Step:
        """Make the block, or change what is given and differs, if that is confirmed."""
        if self.stored is None and not allowed.make:
            return Step("block", self.title, "missing")
        wanted = self.wanted(given)
        if self.stored is None:
            await wanted.asave(self.name, client=client)
            values = ", ".join(f"{field}: {_shown(getattr(wanted, field))}" for field in given)
            return Step("block", self.title, "created", values)
        changes = {
            field: f"{field}: {_shown(getattr(self.stored, field))} → {_shown(getattr(wanted, field))}"
            for field in given
            if _value(getattr(wanted, field)) != _value(getattr(self.stored, field))
        }
        if not changes:
            return Step("block", self.title, "unchanged")
        change = ", ".join(changes.values())
        if not allowed.change(f"Block {self.title}: {change}"):
            return Step("block", self.title, "differs", change)
        for field in changes:  # in the stored one, which keeps its references to other blocks
            setattr(self.stored, field, getattr(wanted, field))
        await self.stored.asave(self.name, overwrite=True, client=client)
        return Step("block", self.title, "updated", change)

    def _present(self) -> dict[str, Any]:
        return {field: getattr(self.stored, field) for field in self.kind.model_fields} if self.stored else {}


def _value(value: Any) -> Any:
    """Return what two values of a field are compared by; stored credentials have more fields than new ones."""
    if isinstance(value, AwsCredentials):
        secret = value.aws_secret_access_key
        return value.aws_access_key_id, secret.get_secret_value() if secret else None
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _shown(value: Any) -> str:
    """Return a value as it may be shown."""
    if isinstance(value, SecretStr | Block):
        return "(secret)"
    return " ".join(value) if isinstance(value, list) else str(value or "(none)")
