"""The values that setup is given for the two blocks: by options, by the environment, or by a person who is asked."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from typing import Any

from runcomfy.errors import ConfigurationError
from runcomfy.storage.address import bucket_and_prefix

__all__ = ["KEYS", "Person", "account_values", "store_values"]

KEYS = ("RUNCOMFY_STORE_ACCESS_KEY_ID", "RUNCOMFY_STORE_SECRET_ACCESS_KEY")
"""Names of their own: keys in a person's environment are not meant for every worker."""
_TOKENS = ("RUNCOMFY_API_TOKEN", "RUNCOMFY_TOKEN")


@dataclass(frozen=True)
class Person:
    """The person who may be asked, if there is one.

    Args:
        is_there: Whether there is a terminal, and asking is wanted.
        update: Whether every change is confirmed beforehand.
    """

    is_there: bool
    update: bool

    def confirm(self, change: str) -> bool:
        """Ask whether something may be changed; if nobody can be asked, it may not."""
        return self.update or (self.is_there and _ask(f"{change}? [y/N] ").lower() in ("y", "yes"))

    def ask(self, for_what: str, variable: str, *, secret: bool = False) -> str:
        """Ask for a value.

        Raises:
            ConfigurationError: There is no terminal, or no answer.
        """
        answer = ""
        if self.is_there:
            answer = (getpass.getpass(f"{for_what}: ", sys.stderr) if secret else _ask(f"{for_what}: ")).strip()
        if not answer:
            raise ConfigurationError(f"Missing: {for_what}. Set {variable}. Nothing was made.")
        return answer


def account_values(base_url: str | None, output_hosts: str | None) -> dict[str, Any]:
    """Return what is given of the account."""
    hosts = [host.strip() for host in (output_hosts or "").split(",") if host.strip()]
    token = next((os.environ[name] for name in _TOKENS if os.environ.get(name)), None)
    return _given(api_token=token, base_url=base_url, output_hosts=hosts)


def store_values(place: str | None, **fields: str | bool | None) -> dict[str, Any]:
    """Return what is given of the store.

    Args:
        place: `s3://bucket/prefix`, or a bucket's name.
        fields: Fields of a `MediaStore` by their names.

    Raises:
        ConfigurationError: it names no bucket, or one of two keys is missing.
    """
    values = _given(**fields)
    if place:
        bucket, prefix = bucket_and_prefix(place.strip(), "The bucket")
        values |= {"bucket": bucket, "prefix": prefix}
    key, secret = (os.environ.get(name) for name in KEYS)
    if bool(key) != bool(secret):
        raise ConfigurationError(f"Give both of {KEYS[0]} and {KEYS[1]}, or none.")
    if key and secret:
        from prefect_aws import AwsCredentials

        values["credentials"] = AwsCredentials(aws_access_key_id=key, aws_secret_access_key=secret)
    return values


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
