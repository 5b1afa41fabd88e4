"""Who pays for generations, and which service makes them."""

from __future__ import annotations

import hashlib

from prefect.blocks.abstract import CredentialsBlock
from pydantic import Field, SecretStr, field_validator

from runcomfy.client import DEFAULT_BASE_URL, RunComfyClient
from runcomfy.errors import ConfigurationError
from runcomfy.hosts import DEFAULT_HOSTS, HostPolicy
from runcomfy.pace import shared_pace

__all__ = ["RunComfyCredentials"]


class RunComfyCredentials(CredentialsBlock):
    """Your RunComfy account.

    Args:
        api_token: The API token, from the profile page of your RunComfy account.
        base_url: The service. Change it to test against the sandbox: `python -m runcomfy.sandbox`.
        output_hosts: The hosts that generated files may be downloaded from. The token is never sent to them.
        concurrency_limit: The name of one of Prefect's global concurrency limits. Every flow run takes one of its slots
            for each generation that it may have under way, so that all workers together keep within it.
        calls_per_second: How often each process may ask how its requests are, however many it waits for. RunComfy does
            not publish its limit; where several workers run, divide what you were told by their number.

    Example:
        Load a stored account and use it in a flow:
        ```python
        from blocks import RunComfyCredentials

        credentials = RunComfyCredentials.load("production")
        ```
    """

    _block_type_name = "RunComfy Credentials"
    _block_type_slug = "runcomfy-credentials"
    _logo_url = "https://github.com/runcomfy-com.png?size=200"  # type: ignore[assignment]
    _documentation_url = "https://docs.runcomfy.com"  # type: ignore[assignment]
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
        description="How often each process may ask the service how its requests are; submissions do not count.",
    )

    @field_validator("output_hosts")
    @classmethod
    def _check_output_hosts(cls, value: list[str]) -> list[str]:
        try:
            HostPolicy(allowed=tuple(value))
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    def get_client(self) -> RunComfyClient:
        """Return a client of the service; use it as an asynchronous context manager.

        Raises:
            ConfigurationError: the token or the base URL cannot be used.
        """
        token = self.api_token.get_secret_value()
        account = hashlib.sha256(f"{self.base_url} {token}".encode()).hexdigest()
        pace = shared_pace(account, self.calls_per_second)
        return RunComfyClient(self.api_token, base_url=self.base_url, pace=pace)

    def host_policy(self) -> HostPolicy:
        """Return which hosts generated files may be downloaded from."""
        return HostPolicy(allowed=tuple(self.output_hosts))
