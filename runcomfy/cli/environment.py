"""Read the command's surroundings once, and hand them on as the engine takes them.

What is missing or wrong is said before anything is imported that takes time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.storage.address import bucket_and_prefix as _bucket_and_prefix
from runcomfy.storage.bucket_settings import PLAIN, BucketSettings
from runcomfy.storage.commands import StoreOptions
from runcomfy.texts import unwritable

if TYPE_CHECKING:
    from runcomfy.api.client import RunComfyClient
    from runcomfy.download.hosts import HostPolicy
    from runcomfy.generation.destination import Destination, OnDefect
    from runcomfy.journal import Journal
    from runcomfy.storage.keys import KeyTemplate
    from runcomfy.storage.store import Store

__all__ = [
    "base_url",
    "bucket_and_prefix",
    "check",
    "check_texts",
    "client",
    "destination",
    "host_policy",
    "journal",
    "store",
    "store_options",
    "token",
]


_OURS = ("RUNCOMFY_", "AWS_", "PREFECT_API_")
_CALLS_PER_SECOND = 50.0  # as the block has it by default; submissions do not count


def check_texts(words: Iterable[str]) -> None:
    """Check that what this process was given is text: bytes in another encoding would fail later, after paying too.

    Args:
        words: What follows the command's name.

    Raises:
        InvalidInput: a word is not.
        ConfigurationError: a variable of the environment that is read here is not.
    """
    for word in words:
        if reason := unwritable(word):
            shown = os.fsencode(word).decode("utf-8", "backslashreplace")[:80]
            raise InvalidInput(f"{shown} on the command line cannot be used: {reason}. Nothing was paid for.")
    for name, value in os.environ.items():
        if name.startswith(_OURS) and (reason := unwritable(value)):
            raise ConfigurationError(f"The variable {name} cannot be used: {reason}. Nothing was paid for.")


def token() -> str:
    """Return the account's token: `RUNCOMFY_API_TOKEN`, or `RUNCOMFY_TOKEN`.

    Raises:
        ConfigurationError: there is none.
    """
    found = os.environ.get("RUNCOMFY_API_TOKEN") or os.environ.get("RUNCOMFY_TOKEN")
    if not found:
        raise ConfigurationError("No RunComfy token: set RUNCOMFY_API_TOKEN (from the profile page of your account).")
    return found


def base_url() -> str:
    """Return the address of the service: `RUNCOMFY_BASE_URL`, or RunComfy's own."""
    from runcomfy.api.client import DEFAULT_BASE_URL

    return os.environ.get("RUNCOMFY_BASE_URL") or DEFAULT_BASE_URL


def client() -> RunComfyClient:
    """Return a client for the account that the environment names.

    Raises:
        ConfigurationError: there is no token, or the base URL cannot be used.
    """
    found = token()
    from runcomfy.api.client import RunComfyClient
    from runcomfy.api.rate_limit import shared_rate_limiter

    return RunComfyClient(
        found, base_url=base_url(), rate_limiter=shared_rate_limiter("environment", _CALLS_PER_SECOND)
    )


def host_policy() -> HostPolicy:
    """Return where files may come from: `RUNCOMFY_OUTPUT_HOSTS`, separated by commas, or RunComfy's own.

    Raises:
        ConfigurationError: what it says is no host.
    """
    from runcomfy.download.hosts import HostPolicy

    hosts = tuple(filter(None, (host.strip() for host in os.environ.get("RUNCOMFY_OUTPUT_HOSTS", "").split(","))))
    try:
        return HostPolicy(allowed=hosts) if hosts else HostPolicy()
    except ConfigurationError as error:
        raise ConfigurationError(f"RUNCOMFY_OUTPUT_HOSTS cannot be used: {error.message}") from None


def bucket_and_prefix(option: str) -> tuple[str, str]:
    """Return what `--bucket` names.

    Args:
        option: `s3://bucket/prefix`, or a bucket's name.

    Raises:
        ConfigurationError: it names no bucket.
    """
    if not option.strip():
        raise ConfigurationError("No bucket is named: give --bucket s3://bucket/prefix, or set RUNCOMFY_BUCKET.")
    return _bucket_and_prefix(option, "--bucket")


def store(bucket: str, settings: BucketSettings = PLAIN) -> Store:
    """Return the bucket that an option names, with boto3's own environment, profile or role.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        settings: What the bucket's rules want.

    Raises:
        ConfigurationError: it names no bucket.
        StorageError: there are no usable credentials.
    """
    return _store_at(settings, *bucket_and_prefix(bucket))


def check(bucket: str, journal: str, archive_key: str | None) -> None:
    """Check all that can be known of account and bucket without a call.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        journal: Where the journal is kept.
        archive_key: How archived files are named, if not as by default.

    Raises:
        ConfigurationError: there is no token, or a setting cannot be used.
    """
    token()
    _on_defect()
    name, prefix = bucket_and_prefix(bucket)
    host_policy()
    _lease_seconds()
    template = _template(archive_key)
    from runcomfy.generation.destination import check_place
    from runcomfy.journal import check_choice

    check_place(template, name, prefix, check_choice(journal))


def destination(
    bucket: str,
    journal: str,
    archive_key: str | None,
    settings: BucketSettings = PLAIN,
    on_defect: OnDefect | None = None,
    *,
    contact_sheets: bool = False,
) -> Destination:
    """Return where a generation goes; see `check`, and `store` for the bucket's settings.

    `on_defect` is what the command says; without it, `RUNCOMFY_ON_DEFECT` does.

    Raises:
        ConfigurationError: a setting cannot be used.
        StorageError: there are no usable credentials.
    """
    here, store_at = store(bucket, settings), partial(_store_at, settings)
    from runcomfy.archive.signing import environment_signing
    from runcomfy.generation.destination import Destination
    from runcomfy.journal import Journal, check_choice, open_journal_store
    from runcomfy.journal.journal import LEASE_SECONDS

    choice = check_choice(journal)
    kept = Journal(open_journal_store(choice, lambda: here, store_at), lease_seconds=_lease_seconds() or LEASE_SECONDS)
    return Destination(
        here, kept, choice, _template(archive_key),
        on_defect=on_defect or _on_defect(), contact_sheets=contact_sheets, open_store=store_at,
        signing=environment_signing(),
    )  # fmt: skip


def journal(bucket: str, choice: str = "bucket", settings: BucketSettings = PLAIN) -> Journal:
    """Return the journal of that bucket, for a command that reads or changes what is in it.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        choice: Where the journal is kept.
        settings: What the bucket's rules want.

    Raises:
        ConfigurationError: it names no bucket, or there is no journal that outlives a process.
    """
    name, prefix = bucket_and_prefix(bucket)
    from runcomfy.journal import Journal, check_choice, open_journal_store

    if check_choice(choice) == "none":
        raise ConfigurationError(
            "The journal is 'none': each process keeps its own, in its memory, and there is nothing to show."
        )
    # A person waits for the answer, and can ask again.
    store_at = partial(_store_at, settings)
    return Journal(open_journal_store(choice, lambda: store_at(name, prefix), store_at), retry_seconds=5.0)


def store_options(bucket: str, journal: str = "bucket", settings: BucketSettings = PLAIN) -> StoreOptions:
    """Return the options that name that bucket and its journal in other commands.

    Args:
        bucket: `s3://bucket/prefix`, or a bucket's name.
        journal: Where the journal is kept.
        settings: What the bucket's rules want.

    Raises:
        ConfigurationError: it names no bucket.
    """
    place = f"s3://{'/'.join(filter(None, bucket_and_prefix(bucket)))}".rstrip("/")
    return StoreOptions(place, journal.strip(), settings=settings)


def _store_at(settings: BucketSettings, bucket: str, prefix: str) -> Store:
    from runcomfy.storage.store import Store

    public = os.environ.get("RUNCOMFY_PUBLIC_ENDPOINT_URL") or None
    return Store(bucket, prefix, public_endpoint_url=public, settings=settings)


def _lease_seconds() -> float | None:
    text = os.environ.get("RUNCOMFY_JOURNAL_PATIENCE_SECONDS")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < inf:
        raise ConfigurationError(f"RUNCOMFY_JOURNAL_PATIENCE_SECONDS is {text!r}: give seconds, above 0.")
    return seconds


def _on_defect() -> OnDefect:
    known: dict[str, OnDefect] = {"": "keep", "keep": "keep", "set_aside": "set_aside", "fail": "fail"}
    text = os.environ.get("RUNCOMFY_ON_DEFECT", "").strip().lower().replace("-", "_")
    if text not in known:
        raise ConfigurationError(f"RUNCOMFY_ON_DEFECT is {text!r}: give keep, set_aside or fail.")
    return known[text]


def _template(archive_key: str | None) -> KeyTemplate:
    from runcomfy.storage.keys import KeyTemplate

    try:
        return KeyTemplate(archive_key) if archive_key else KeyTemplate()
    except ConfigurationError as error:
        raise ConfigurationError(f"The bucket cannot be used as given: --archive-key: {error.message}") from None
