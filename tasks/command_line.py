"""Options of `python -m flows` that mean the same store as a block."""

from __future__ import annotations

from blocks import MediaStore
from runcomfy.commands import store_options

__all__ = ["archive_options", "journal_options"]


def journal_options(store: MediaStore) -> list[str]:
    """Return the options that name a store's journal; what is as by default is left out."""
    return store_options(store.get_store().uri(store.get_store().prefix).rstrip("/"), store.journal)


def archive_options(store: MediaStore) -> list[str]:
    """Return the options that name a store with its journal and its names of files."""
    named = store.archive_key != MediaStore.model_fields["archive_key"].default
    return [*journal_options(store), *(["--archive-key", store.archive_key] if named else [])]
