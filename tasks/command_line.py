"""What a page says to type, word for word: options of `python -m flows` that mean the same store as a block."""

from __future__ import annotations

import shlex

from blocks import MediaStore

__all__ = ["archive_options", "journal_options", "typed"]


def typed(*words: object) -> str:
    """Return a command of `python -m flows` as a shell takes it."""
    return shlex.join(["python", "-m", "flows", *map(str, words)])


def journal_options(store: MediaStore) -> list[str]:
    """Return the options that name a store's journal; what is as by default is left out."""
    bucket = store.get_store().uri(store.get_store().prefix).rstrip("/")
    elsewhere = store.journal != MediaStore.model_fields["journal"].default
    return ["--bucket", bucket, *(["--journal", store.journal] if elsewhere else [])]


def archive_options(store: MediaStore) -> list[str]:
    """Return the options that name a store with its journal and its names of files."""
    named = store.archive_key != MediaStore.model_fields["archive_key"].default
    return [*journal_options(store), *(["--archive-key", store.archive_key] if named else [])]
