"""Where generations are archived, how their files are named, and where the journal is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from runcomfy.content_credentials import Signing
from runcomfy.journal.journal import Journal
from runcomfy.storage.address import bucket_and_prefix, normalized
from runcomfy.storage.commands import StoreOptions
from runcomfy.storage.keys import DEFAULT_TEMPLATE, KeyTemplate
from runcomfy.storage.store import Store

OnDefect = Literal["keep", "set_aside", "fail"]

__all__ = ["Destination", "OnDefect", "check_place", "options_of"]


@dataclass(frozen=True)
class Destination:
    """A bucket with its journal, and how its files are named and marked."""

    store: Store
    journal: Journal
    journal_choice: str = "bucket"
    """Where the journal is kept, as a setting says it: `bucket`, `s3://bucket/prefix`, or `none`."""
    template: KeyTemplate = KeyTemplate()
    mark_ai_generated: bool = True
    """Whether each MP4 is marked as made by a trained model."""
    on_defect: OnDefect = "keep"
    """What to do about a file that was judged suspect or damaged: `keep` it, `set_aside` for a person to decide about
    (below `quarantine/`), or archive it and `fail` the run."""
    contact_sheets: bool = False
    """Whether a contact sheet is put beside each video."""
    open_store: Callable[[str, str], Store] = Store
    """Returns another bucket of the same server, by its name and prefix."""
    signing: Signing | None = None
    """What signs files, if anything does."""

    @property
    def uri(self) -> str:
        """Return the archive as journal entries name it: `s3://bucket/prefix/`."""
        return self.store.uri(self.store.prefix)

    @property
    def options(self) -> StoreOptions:
        """Return the options of a command that name this destination."""
        return options_of(self.store, self.journal_choice, self.template.pattern)

    def check_place(self, **facts: Any) -> None:
        """Check that a generation's files do not land in a folder of another purpose; see `check_place`."""
        check_place(self.template, self.store.bucket, self.store.prefix, self.journal_choice, **facts)

    def at(self, archive: str) -> Destination:
        """Return the destination of a generation; several may share a journal.

        Args:
            archive: `s3://bucket/prefix/`, as its entry says; empty if an older version did not record it.
        """
        if archive in ("", self.uri):
            return self
        bucket, _, prefix = archive.removeprefix("s3://").partition("/")
        choice = self.uri if self.journal_choice == "bucket" else self.journal_choice
        return replace(self, store=self.open_store(bucket, prefix), journal_choice=choice)

    def journal_elsewhere(self) -> Store | None:
        """Return the bucket and prefix of the journal, if it is not that of the files."""
        choice = normalized(self.journal_choice)
        if not choice.startswith("s3://"):
            return None
        return self.open_store(*bucket_and_prefix(choice, "The journal"))


def options_of(store: Store, journal_choice: str, pattern: str) -> StoreOptions:
    """Return the options of a command that name a store, its journal and its key template."""
    named = pattern if pattern != DEFAULT_TEMPLATE else None
    return StoreOptions(store.uri(store.prefix).rstrip("/"), journal_choice.strip(), named, store.settings)


def check_place(template: KeyTemplate, bucket: str, prefix: str, journal_choice: str, **facts: Any) -> None:
    """Check that a generation's files do not land in a folder of another purpose.

    Args:
        template: How the files are named.
        bucket: Their bucket.
        prefix: The prefix that they are below.
        journal_choice: Where the journal is kept, as a setting says it.
        **facts: What is known of the generation: `model`, `generation`, `prompt`, `seed`.

    Raises:
        ConfigurationError: the archive key, the prefix or the journal points there, whatever is generated.
        InvalidInput: this generation would land there.
    """
    choice = normalized(journal_choice)
    named, _, folder = choice.removeprefix("s3://").partition("/")
    elsewhere = choice.startswith("s3://") and named == bucket
    journal = f"{folder.strip('/')}/journal/".lstrip("/") if elsewhere else ""
    template.check_place(prefix=f"{prefix.strip('/')}/".lstrip("/"), journal=journal, **facts)
