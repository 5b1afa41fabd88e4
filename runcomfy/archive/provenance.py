"""The provenance of an archived file, which is beside it in the bucket as `<key>.json`.

It is written after the file, so it is also the commit mark: where it exists, the file is whole. Dashboards and
catalogues read nothing else.
"""

from __future__ import annotations

import functools
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from pydantic import ConfigDict, Field

from runcomfy.redaction import redact
from runcomfy.texts import prompt_of
from runcomfy.values import GenerationFacts, MediaFacts, Moment, Quality, Review

__all__ = ["PROVENANCE_CONTENT_TYPE", "Provenance", "archiver_name"]

PROVENANCE_CONTENT_TYPE = "application/json"


class Provenance(GenerationFacts):
    """Everything about one archived file: where it is, what is in it, and how it was made."""

    # A later version may add fields, on which an older reader must not fail.
    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = Field(
        default=1, description="Version of this document; a change of meaning raises it."
    )
    uri: str = Field(description="Where the file is: `s3://bucket/key`.")
    output_index: int = Field(ge=0, description="Which of the request's output files this is, counted from 0.")
    source_host: str = Field(description="The host that the file was read from, without path and query.")
    sha256: str = Field(description="SHA-256 of the file's bytes, 64 hexadecimal digits.")
    size_bytes: int = Field(ge=0, description="Size of the file in bytes.")
    content_type: str = Field(description="Media type of the file, by its content.")
    media: MediaFacts = Field(description="What is in the file.")
    quality: Quality | None = Field(
        default=None, description="What the file was judged to be; absent if an earlier version archived it."
    )
    set_aside: bool = Field(
        default=False,
        description="Whether the file is below `quarantine/`, where a person decides about it; absent otherwise.",
    )
    review: Review | None = Field(
        default=None, description="What a person decided about a file that was set aside; absent before that."
    )
    warnings: tuple[str, ...] = Field(
        default=(), description="What differs from what was asked for, one sentence each."
    )
    poster_uri: str | None = Field(
        default=None, description="Its first frame as a small JPEG: `s3://bucket/key.jpg`; `null` if it has none."
    )
    contact_sheet_uri: str | None = Field(
        default=None, description="Nine of its frames with their times, as one JPEG; absent if there is none."
    )
    digital_source_type: str | None = Field(
        default=None, description="IPTC's term for how it was made: by a trained algorithm."
    )
    marked: bool = Field(
        default=False,
        description="Whether the file itself says so: XMP was added at its end (`source_sha256` is without).",
    )
    signed_by: str | None = Field(
        default=None,
        description="Who signed the file's Content Credentials (C2PA) when it was archived: the organisation in the "
        "certificate. Absent where nobody did.",
    )
    source_sha256: str | None = Field(
        default=None,
        description="SHA-256 of the bytes as the service sent them; the file's own where nothing was added.",
    )
    archived_at: Moment = Field(description="When the file was archived, by our clock.")
    archiver: str = Field(description="Name and version of the program that archived it.")

    def to_json(self) -> bytes:
        """Return the document as stored: UTF-8, indented, the file's own fields first, secrets removed."""
        data = redact(self.model_dump(mode="json"))
        if self.inputs is not None:
            # the prompt is the user's own words, and stays as it was submitted
            kept = {name: value for name, value in self.inputs.items() if value == prompt_of(self.inputs)}
            data["inputs"] = dict(sorted((data["inputs"] | kept).items()))
        if self.quality is None:
            data.pop("quality")
        if self.signed_by is None:  # as it was stored before this field existed
            data.pop("signed_by", None)
        if self.contact_sheet_uri is None:
            data.pop("contact_sheet_uri")
        if not self.set_aside:
            data.pop("set_aside")
        if self.review is None:
            data.pop("review")
        own = [name for name in type(self).model_fields if name not in GenerationFacts.model_fields]
        ordered = {name: data[name] for name in (*own, *GenerationFacts.model_fields) if name in data}
        return (json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @property
    def is_rejected(self) -> bool:
        """Whether a person decided that the file is not to be used."""
        return self.review is not None and self.review.decision == "rejected"

    @classmethod
    def from_json(cls, document: bytes) -> Provenance:
        """Read a stored document.

        Raises:
            ValueError: It is no such document, or one of another schema version.
        """
        found = cls.model_validate_json(document)
        # What is infinite or no number cannot be written again.
        json.dumps([found.model_dump(mode="json"), found.inputs], allow_nan=False)
        return found


@functools.cache
def archiver_name() -> str:
    """Return `runcomfy-prefect/<version>`: what stored files call the program, whose package is `prefect-runcomfy`."""
    try:
        return f"runcomfy-prefect/{version('prefect-runcomfy')}"
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "runcomfy-prefect/unknown"
