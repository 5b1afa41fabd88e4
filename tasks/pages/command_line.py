"""Commands of `prefect-runcomfy` on Prefect's pages: those of an advice, and the options that mean the same store."""

from __future__ import annotations

import re

from blocks import MediaStore
from runcomfy.journal.advice import Advice
from runcomfy.storage.commands import StoreOptions
from tasks.pages.markdown import console, text

__all__ = ["advised", "store_options"]

_ESCAPED_CODE = re.compile(r"\\`(\w+)\\`")


def store_options(store: MediaStore) -> StoreOptions:
    """Return the options that name a block's store, its journal and its names of files."""
    named = store.archive_key != MediaStore.model_fields["archive_key"].default
    uri = store.get_store().uri(store.get_store().prefix).rstrip("/")
    return StoreOptions(uri, store.journal.strip(), store.archive_key if named else None)


def advised(advice: Advice) -> str:
    """Return in Markdown what to do now; each command is a block of its own, since a block is copied as a whole."""
    now = _ESCAPED_CODE.sub(r"`\1`", text(advice.now))
    return "\n\n".join([now, *(f"{command.does}:\n\n{console(command.shell)}" for command in advice.commands)])
