"""What a page says to type, word for word: commands of `python -m flows`, as a shell takes them."""

from __future__ import annotations

import shlex

__all__ = ["store_options", "typed"]

_USUAL_JOURNAL = "bucket"


def typed(*words: object) -> str:
    """Return a command of `python -m flows` as a shell takes it."""
    return shlex.join(["python", "-m", "flows", *map(str, words)])


def store_options(bucket_uri: str, journal: str) -> list[str]:
    """Return the options that name a store and its journal; what is as by default is left out.

    Args:
        bucket_uri: `s3://bucket/prefix`.
        journal: Where the journal is kept.
    """
    return ["--bucket", bucket_uri, *(["--journal", journal] if journal != _USUAL_JOURNAL else [])]
