"""Where a journal is kept, in one word of a setting: the bucket, another bucket, or nowhere."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from runcomfy.errors import ConfigurationError
from runcomfy.journal.bucket import BucketPlace
from runcomfy.journal.places import Place, memory_place
from runcomfy.storage.store import Store

__all__ = ["check_choice", "names_folder", "open_place"]


def names_folder(choice: str) -> bool:
    """Whether it names a folder, where earlier versions could keep a journal."""
    scheme, separator, _ = choice.strip().partition("://")
    return ("/" in choice and not separator) or scheme.lower() == "file"


def check_choice(choice: str) -> str:
    """Return the choice without blanks around it.

    Raises:
        ConfigurationError: it is none of those that there are.
    """
    choice = choice.strip()
    if names_folder(choice):
        raise ConfigurationError(
            f"The journal cannot be kept in a folder any more ({choice}): a machine's own clock judged there whether "
            "another one is still submitting, and a wrong clock paid twice. Nothing was submitted. Stop all workers, "
            f"copy it with `aws s3 cp {shlex.quote(choice.removeprefix('file://'))} s3://BUCKET/PREFIX/journal/ "
            "--recursive --exclude '.*'`, and set journal to 'bucket' (docs/journal.md)."
        )
    if choice not in ("bucket", "none") and not choice.startswith("s3://"):
        raise ConfigurationError("The journal is 'bucket', 'none', or s3://bucket/prefix.")
    return choice


def open_place(
    choice: str, store: Callable[[], Store], store_at: Callable[[str, str], Store], *, conditional_writes: bool = True
) -> Place:
    """Return the place that is chosen; nothing is read or written yet.

    Args:
        choice: `bucket`, `s3://bucket/prefix`, or `none`: this process's memory.
        store: Returns the bucket that the videos go to.
        store_at: Returns another one at the same server, by its name and prefix.
        conditional_writes: Whether the server has them.

    Raises:
        ConfigurationError: it cannot be kept there.
        StorageError: there are no usable credentials.
    """
    choice = check_choice(choice)
    if choice == "none":
        return memory_place(store().uri(store().prefix))
    if not conditional_writes:
        raise ConfigurationError(
            "The journal in a bucket needs conditional writes, and they are turned off. Use a server that has them, or "
            "set journal to 'none' and go on without its promise."
        )
    bucket, _, prefix = choice.removeprefix("s3://").partition("/")
    return BucketPlace(store() if choice == "bucket" else store_at(bucket, prefix))
