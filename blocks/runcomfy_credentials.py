"""Who pays for generations, and which service makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from prefect.blocks.abstract import CredentialsBlock
from prefect.blocks.core import Block
from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from blocks.prefect_api import LoadedInWords
from blocks.travelling import MASK, SecretOrigin, environment_token, find_block, origin_of, refusal
from runcomfy.api.client import DEFAULT_BASE_URL, RunComfyClient
from runcomfy.api.rate_limit import shared_rate_limiter
from runcomfy.download.hosts import DEFAULT_HOSTS, HostPolicy
from runcomfy.errors import ConfigurationError

__all__ = ["RunComfyCredentials"]


class RunComfyCredentials(LoadedInWords, CredentialsBlock):
    """Your RunComfy account.

    Args:
        api_token: The API token, from the profile page of your RunComfy account.
        base_url: The service. Change it to test against the sandbox: `python -m runcomfy.sandbox`.
        output_hosts: The hosts that generated files may be downloaded from. The token is never sent to them.
        concurrency_limit: The name of one of Prefect's global concurrency limits. Every flow run takes one of its slots
            for each generation that it may have in progress, so that all workers together keep within it.
        calls_per_second: How often each process may poll, however many requests it waits for. RunComfy does not publish
            its limit; if several workers run, divide the limit of your account by their number.

    Example:
        Load a stored account and use it in a flow:
        ```python
        from prefect_runcomfy import RunComfyCredentials

        credentials = RunComfyCredentials.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "RunComfy Credentials"
    _block_type_slug = "runcomfy-credentials"
    _logo_url = "https://github.com/runcomfy-com.png?size=200"  # type: ignore[assignment]
    _documentation_url = "https://www.runcomfy.com/"  # type: ignore[assignment]
    _description = "The RunComfy account that pays for generations: API token, service, and where its files come from."

    api_token: SecretStr = Field(title="API token", description="From the profile page of your RunComfy account.")
    base_url: str = Field(
        default=DEFAULT_BASE_URL, title="Base URL", description="Change it only to test against the sandbox."
    )
    output_hosts: list[str] = Field(
        default=list(DEFAULT_HOSTS),
        min_length=1,
        title="Output hosts",
        description="Hosts that generated files may be downloaded from, such as *.runcomfy.net.",
    )

    concurrency_limit: str = Field(
        default="",
        title="Concurrency limit",
        description="Name of a global concurrency limit in Prefect that all flow runs of this account share; or empty.",
    )

    calls_per_second: float = Field(
        default=50.0,
        gt=0,
        le=10_000,
        title="Calls per second",
        description="How often each process may poll the service for its requests; submissions do not count.",
    )

    _first_token: SecretStr | None = PrivateAttr(default=None)
    _origin: SecretOrigin | None = PrivateAttr(default=None)
    """Where the token can be loaded from, in a process that the block was sent to."""

    def block_initialization(self) -> None:
        """Remember the token that this block was made with: if it is saved, its document holds that."""
        self._first_token = self.api_token

    @model_serializer(mode="wrap")
    def ser_model(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """Return the block as Prefect serialises it; with its token only where a document is saved (by alias).

        Prefect sends the parameters of a flow with their secrets to other processes, for information only
        (`EngineContext.serialize`, Prefect 3.9).
        """
        data = Block.ser_model(self, handler, info)
        if (info.context or {}).get("include_secrets") and not info.by_alias and "api_token" in data:
            data["api_token"] = MASK
        return data

    def __getattribute__(self, name: str) -> Any:
        if name == "api_token":
            self._load_token()
        return super().__getattribute__(name)

    def __reduce_ex__(self, protocol: object) -> tuple[Callable[..., RunComfyCredentials], tuple[Any, ...]]:
        state = self.__getstate__()
        state["__dict__"] = state["__dict__"] | {"api_token": SecretStr(MASK)}
        private = {"_first_token": None, "_origin": self._origin or self._origin_of_token()}
        state["__pydantic_private__"] = state["__pydantic_private__"] | private
        return _restored, (type(self), state)

    def _origin_of_token(self) -> SecretOrigin:
        saved = origin_of(self)
        if saved is not None and self.api_token == self._first_token:
            return saved
        if self.api_token == environment_token():
            return SecretOrigin("environment")
        raise refusal(self, "set RUNCOMFY_API_TOKEN, here and there, to the token that it has")

    def _load_token(self) -> None:
        """Load the token of a block that was sent to this process.

        Raises:
            ConfigurationError: there is none.
        """
        origin = self._origin
        if origin is None:
            return
        token = environment_token() if origin.kind == "environment" else find_block(origin).api_token
        if token is None:
            raise ConfigurationError(
                "This process was sent an account whose token is in RUNCOMFY_API_TOKEN: set it here as well."
            )
        self.__dict__["api_token"] = self._first_token = token
        self._origin = None

    @field_validator("api_token")
    @classmethod
    def _check_token(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value()
        if token and not token.strip("*"):
            raise ValueError(
                "this is no token, but what Prefect shows of one: parameters carry no secrets. Save the block, and "
                "pass the saved one"
            )
        return value

    @field_validator("output_hosts")
    @classmethod
    def _check_output_hosts(cls, value: list[str]) -> list[str]:
        try:
            HostPolicy(allowed=tuple(value))
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    def get_client(self) -> RunComfyClient:
        """Return a client of the service, to be used as an asynchronous context manager.

        Raises:
            ConfigurationError: the token or the base URL cannot be used.
        """
        token = self.api_token.get_secret_value()
        account = hashlib.sha256(f"{self.base_url} {token}".encode()).hexdigest()
        rate_limiter = shared_rate_limiter(account, self.calls_per_second)
        return RunComfyClient(self.api_token, base_url=self.base_url, rate_limiter=rate_limiter)

    def host_policy(self) -> HostPolicy:
        """Return which hosts generated files may be downloaded from."""
        return HostPolicy(allowed=tuple(self.output_hosts))


def _restored(kind: type[RunComfyCredentials], state: Mapping[str, Any]) -> RunComfyCredentials:
    block = kind.__new__(kind)
    block.__setstate__(dict(state))
    return block


_arrived = _restored  # its name in what earlier versions have sent
