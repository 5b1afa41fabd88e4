"""Read the command line's surroundings once, and hand them on as blocks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from runcomfy.commands import StoreOptions
from runcomfy.errors import ConfigurationError
from runcomfy.models import violations

if TYPE_CHECKING:
    from blocks import MediaStore, RunComfyCredentials
    from runcomfy.client import RunComfyClient
    from runcomfy.journal import Journal

__all__ = ["client", "credentials", "journal", "media_store", "store_options"]


def credentials() -> RunComfyCredentials:
    """Return the account that the environment names.

    `RUNCOMFY_API_TOKEN` (or `RUNCOMFY_TOKEN`), `RUNCOMFY_BASE_URL`, and `RUNCOMFY_OUTPUT_HOSTS`, separated by commas.

    Raises:
        ConfigurationError: there is no token.
    """
    token = _token()  # a missing one is said at once; what is imported below takes seconds
    from blocks import RunComfyCredentials

    hosts = [host.strip() for host in os.environ.get("RUNCOMFY_OUTPUT_HOSTS", "").split(",") if host.strip()]
    named = {"output_hosts": hosts} if hosts else {}
    try:
        return RunComfyCredentials(api_token=token, base_url=_base_url(), **named)
    except ValidationError as error:
        said = "; ".join(message.removeprefix("Value error, ") for _, message in violations(error))
        raise ConfigurationError(f"RUNCOMFY_OUTPUT_HOSTS cannot be used: {said}") from None


def client() -> RunComfyClient:
    """Return a client for the account that the environment names.

    Raises:
        ConfigurationError: there is no token, or the base URL cannot be used.
    """
    from runcomfy.client import RunComfyClient

    return RunComfyClient(_token(), base_url=_base_url())


def media_store(bucket: str, archive_key: str | None = None, journal: str = "bucket") -> MediaStore:
    """Return the bucket that an option names, with boto3's own environment, profile or role.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        archive_key: How archived files are named, if not as by default.
        journal: Where the journal is kept.

    Raises:
        ConfigurationError: it names no bucket, or the archive key or the journal cannot be used.
    """
    name, prefix = _bucket(bucket)
    from blocks import MediaStore

    named = {"archive_key": archive_key} if archive_key else {}
    try:
        store = MediaStore(bucket=name, prefix=prefix, journal=journal, **named)
    except ValidationError as error:
        said = "; ".join(
            f"--{field.replace('_', '-')}: {message.removeprefix('Value error, ')}"
            for field, message in violations(error)
        )
        raise ConfigurationError(f"The bucket cannot be used as given: {said}") from None
    store.check_settings()
    return store


def journal(bucket: str, choice: str = "bucket") -> Journal:
    """Return the journal of that bucket, as `media_store` has it, without loading Prefect.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        choice: Where the journal is kept.

    Raises:
        ConfigurationError: it names no bucket, or there is no journal that outlives a process.
    """
    name, prefix = _bucket(bucket)
    from runcomfy.journal import Journal, check_choice, open_place
    from runcomfy.store import Store

    if check_choice(choice) == "none":
        raise ConfigurationError(
            "The journal is 'none': each process keeps its own, in its memory, and there is nothing to look at."
        )
    # A person waits for the answer, and can ask again.
    return Journal(open_place(choice, lambda: Store(name, prefix), Store), retry_seconds=5.0)


def store_options(bucket: str, journal: str = "bucket") -> StoreOptions:
    """Return the options that name that bucket and its journal in other commands.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        journal: Where the journal is kept.

    Raises:
        ConfigurationError: it names no bucket.
    """
    return StoreOptions(f"s3://{'/'.join(filter(None, _bucket(bucket)))}".rstrip("/"), journal.strip())


def _bucket(option: str) -> tuple[str, str]:
    place = option.removeprefix("s3://")
    name, _, prefix = place.partition("/")
    if not name or "://" in place:
        raise ConfigurationError("--bucket takes s3://bucket/prefix or a bucket's name.")
    return name, prefix


def _token() -> str:
    token = os.environ.get("RUNCOMFY_API_TOKEN") or os.environ.get("RUNCOMFY_TOKEN")
    if not token:
        raise ConfigurationError("No RunComfy token: set RUNCOMFY_API_TOKEN (from the profile page of your account).")
    return token


def _base_url() -> str:
    from runcomfy.client import DEFAULT_BASE_URL

    return os.environ.get("RUNCOMFY_BASE_URL") or DEFAULT_BASE_URL
