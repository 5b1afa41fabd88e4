"""Where a journal is kept, in one word of a setting: the bucket, another bucket, a folder, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runcomfy.errors import ConfigurationError
from runcomfy.journal.bucket import BucketPlace
from runcomfy.journal.folder import FolderPlace
from runcomfy.journal.places import Place, memory_place
from runcomfy.store import Store

__all__ = ["check_choice", "open_place"]


def check_choice(choice: str) -> str:
    """Return the choice without blanks around it.

    Raises:
        ConfigurationError: it is none of those that there are.
    """
    choice = choice.strip()
    scheme, separator, _ = choice.partition("://")
    if choice not in ("bucket", "none") and ("/" not in choice or (separator and scheme not in ("s3", "file"))):
        raise ConfigurationError(
            "The journal is 'bucket', 'none', s3://bucket/prefix, or a folder such as /srv/journal."
        )
    return choice


def open_place(
    choice: str, store: Callable[[], Store], store_at: Callable[[str, str], Store], *, conditional_writes: bool = True
) -> Place:
    """Return the place that is chosen; nothing is read or written yet.

    Args:
        choice: `bucket`, `s3://bucket/prefix`, a folder with a slash in its path, or `none`: this process's memory.
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
    if choice == "bucket" or choice.startswith("s3://"):
        if not conditional_writes:
            raise ConfigurationError(
                "The journal in a bucket needs conditional writes, and they are turned off. Keep it in a folder "
                "that all workers share, or set journal to 'none' and go on without its promise."
            )
        bucket, _, prefix = choice.removeprefix("s3://").partition("/")
        return BucketPlace(store() if choice == "bucket" else store_at(bucket, prefix))
    return FolderPlace(Path(choice.removeprefix("file://")))
