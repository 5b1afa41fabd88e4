"""Whether the store of the journal keeps its promises, tried out as the first run would; nothing is left behind."""

from __future__ import annotations

import copy

from runcomfy.doctor.findings import Diagnosis, ok, refused, warning
from runcomfy.errors import ConfigurationError
from runcomfy.journal import Journal, open_journal_store
from runcomfy.storage.store import Store

__all__ = ["journal_at", "journal_serves"]

_PATIENCE_SECONDS = 5.0  # a person waits for the answer


def journal_at(store: Store, choice: str, conditional_writes: bool) -> Journal:
    """Return the journal itself, to read what is beside it.

    Args:
        store: The bucket that the videos go to.
        choice: Where the journal is kept, as `runcomfy.journal.open_journal_store` takes it.
        conditional_writes: Whether the server is said to have them.

    Raises:
        ConfigurationError: it cannot be kept there.
    """

    def at(bucket: str, prefix: str) -> Store:
        other = copy.copy(store)
        other.bucket, other.prefix = bucket, prefix
        return other

    kept = open_journal_store(choice, lambda: store, at, conditional_writes=conditional_writes)
    return Journal(kept, retry_seconds=_PATIENCE_SECONDS)


def journal_serves(store: Store, name: str, choice: str, conditional_writes: bool) -> Diagnosis:
    """Try out the journal's store. Blocks.

    Args:
        store: The bucket that the videos go to.
        name: The folder below a prefix where it is tried out; it begins with `runcomfy.storage.keys.PROBES`.
        choice: Where the journal is kept, as `runcomfy.journal.open_journal_store` takes it.
        conditional_writes: Whether the server is said to have them.
    """
    if choice == "none":
        return warning(
            "none: only one process knows what was paid for, and after a crash it is paid for again.",
            "Keep it in the bucket.",
        )

    def probe_at(bucket: str, prefix: str) -> Store:
        """Return the same store with everything below the name that belongs to no generation."""
        probe = copy.copy(store)
        probe.bucket = bucket
        probe.prefix = f"{prefix.strip('/')}/{name}/".lstrip("/")
        return probe

    journal_store = open_journal_store(
        choice, lambda: probe_at(store.bucket, store.prefix), probe_at, conditional_writes=conditional_writes
    )
    shown = journal_store.where.replace(f"{name}/journal", "journal")
    try:
        journal_store.check()
    except ConfigurationError as error:
        return refused(ConfigurationError(error.message.replace(journal_store.where, shown)))
    return ok(f"{shown}; conditional writes hold")
