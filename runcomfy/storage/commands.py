"""Commands of `prefect-runcomfy` to paste, word for word, and the options that name their store."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Self

from runcomfy.redaction import redact
from runcomfy.storage.address import normalized
from runcomfy.storage.bucket_settings import PLAIN, BucketSettings

__all__ = ["StoreOptions", "shell_command"]

_PROGRAM = ("prefect-runcomfy",)
_USUAL_JOURNAL, _FOLDER = "bucket", "/journal"


def shell_command(*words: object) -> str:
    """Return a command of `prefect-runcomfy`, quoted for a shell."""
    return str(redact(shlex.join([*_PROGRAM, *map(str, words)])))


@dataclass(frozen=True)
class StoreOptions:
    """A store and its journal, as options of a command name them; defaults are left out.

    The server, its credentials and the account's token are not among them: a shell has those in its environment.
    """

    bucket: str
    """`s3://bucket/prefix`."""
    journal: str = _USUAL_JOURNAL
    """Where the journal is kept: `bucket`, `s3://bucket/prefix`, or `none`."""
    archive_key: str | None = None
    """How archived files are named, if not by the default."""
    settings: BucketSettings = PLAIN
    """What the bucket's rules want with each request."""

    @classmethod
    def of(cls, store: str, journal: str) -> Self:
        """Return the options of the store and journal that a generation was requested with.

        Args:
            store: Where it is to be archived, `s3://bucket/prefix/`; empty if an older version did not record it.
            journal: Where the journal's entries are: `s3://bucket/prefix/journal`, or no address.
        """
        named = store.rstrip("/")
        journal = normalized(journal)
        if not journal.startswith("s3://"):
            return cls(named or "BUCKET", "none")
        above = journal.rstrip("/").removesuffix(_FOLDER)
        return cls(named or above, _USUAL_JOURNAL if named in ("", above) else above)

    @property
    def has_journal(self) -> bool:
        """Whether a command can reach the journal; it cannot reach one in a process's memory."""
        return self.journal != "none"

    @property
    def for_journal(self) -> list[str]:
        """The options that name the journal."""
        journal = ["--journal", self.journal] if self.journal != _USUAL_JOURNAL else []
        return ["--bucket", self.bucket, *journal, *self.settings.words]

    @property
    def for_archive(self) -> list[str]:
        """The same, with how archived files are named."""
        return [*self.for_journal, *(["--archive-key", self.archive_key] if self.archive_key else [])]

    @property
    def journal_list(self) -> list[str]:
        """The command that lists what is open in the journal, if a command can reach it."""
        return [shell_command("journal", "list", *self.for_journal)] if self.has_journal else []
