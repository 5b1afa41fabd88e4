"""Read the command line's surroundings once, and hand them on as blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from runcomfy.cli.environment import base_url, bucket_and_prefix, host_policy, token
from runcomfy.errors import ConfigurationError
from runcomfy.models import violations

if TYPE_CHECKING:
    from blocks import MediaStore, RunComfyCredentials

__all__ = ["credentials", "media_store"]


def credentials() -> RunComfyCredentials:
    """Return the account that the environment names.

    Raises:
        ConfigurationError: there is no token, or a setting cannot be used.
    """
    found = token()  # a missing one is said at once; what is imported below takes seconds
    from blocks import RunComfyCredentials

    return RunComfyCredentials(api_token=found, base_url=base_url(), output_hosts=list(host_policy().allowed))


def media_store(bucket: str, archive_key: str | None = None, journal: str = "bucket") -> MediaStore:
    """Return the bucket that an option names, with boto3's own environment, profile or role.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        archive_key: How archived files are named, if not as by default.
        journal: Where the journal is kept.

    Raises:
        ConfigurationError: it names no bucket, or the archive key or the journal cannot be used.
    """
    name, prefix = bucket_and_prefix(bucket)
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
