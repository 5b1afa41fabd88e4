"""What may be wrong with an archived file or with what is known of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Finding", "Problem", "Verification"]

_MOST_KEPT = 10_000


class Problem(StrEnum):
    """What is wrong, as one word for a script."""

    FILE_MISSING = "file_missing"
    """It has a provenance, or the journal names it, and it is not there."""
    SIZE_DIFFERS = "size_differs"
    BYTES_DIFFER = "bytes_differ"
    """Its SHA-256 is not that of its provenance."""
    PROVENANCE_MISSING = "provenance_missing"
    PROVENANCE_UNREADABLE = "provenance_unreadable"
    PROVENANCE_DIFFERS = "provenance_differs"
    """Provenance and journal contradict each other."""
    METADATA_DIFFERS = "metadata_differs"
    """The object's metadata contradicts its provenance."""
    POSTER_MISSING = "poster_missing"
    CONTACT_SHEET_MISSING = "contact_sheet_missing"
    MARK_MISSING = "mark_missing"
    """Its provenance says that the file is marked as made by a model, and it is not."""
    SIGNATURE_MISSING = "signature_missing"
    """Its provenance says that the file is signed, and it is not."""
    SIGNATURE_INVALID = "signature_invalid"
    SIGNATURE_DIFFERS = "signature_differs"
    """What is signed contradicts the provenance."""
    NOT_IN_JOURNAL = "not_in_journal"
    NOT_ARCHIVED = "not_archived"
    """The file is whole, and the journal does not say that it is archived."""
    ENTRY_UNREADABLE = "entry_unreadable"
    ERASED_FOUND = "erased_found"
    """It belongs to a generation that was erased."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    problem: Problem
    uri: str
    found: str
    """What was seen, in words."""
    generation_key: str | None = None


@dataclass
class Verification:
    """What was checked, and what is wrong."""

    where: str
    quick: bool
    files: int = 0
    read_bytes: int = 0
    entries: int = 0
    elsewhere: int = 0
    """Entries of generations that are archived in another place; they are not checked."""
    signatures: int = 0
    """Signed files whose signature was checked."""
    unchecked_signatures: int = 0
    """Signed files whose signature was not: the extra `c2pa` is missing, or files are not read."""
    others: int = 0
    """Objects that are not ours."""
    findings: list[Finding] = field(default_factory=list)
    """The first ten thousand."""
    counts: Counter[Problem] = field(default_factory=Counter)
    _known: set[tuple[Problem, str]] = field(default_factory=set, repr=False)

    def add(self, finding: Finding) -> None:
        """Keep a finding, once."""
        if (finding.problem, finding.uri) in self._known:
            return
        self.counts[finding.problem] += 1
        if len(self.findings) < _MOST_KEPT:
            self._known.add((finding.problem, finding.uri))
            self.findings.append(finding)

    @property
    def check(self) -> str:
        """What the files were held against: `sha256`, of all their bytes, or `sizes`, with nothing of them read."""
        return "sizes" if self.quick else "sha256"

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts
