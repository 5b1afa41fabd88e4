"""The account of an archived file that stands beside it in the bucket, as `<key>.json`.

It is written after the file, so it is also the commit mark: where it stands, the file is whole. Dashboards and
catalogues read nothing else.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.media import MediaFacts
from runcomfy.redaction import redact
from runcomfy.staging import StagedImage
from runcomfy.waiting import Result

__all__ = ["PROVENANCE_CONTENT_TYPE", "Archive", "ArchivedVideo", "GenerationFacts", "Provenance", "archiver_name"]

PROVENANCE_CONTENT_TYPE = "application/json"


class GenerationFacts(BaseModel):
    """What is known of a generation before its files are fetched; `null` is what nobody told. Times are ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_id: str = Field(description="RunComfy's id of the model that made it.")
    request_id: str = Field(description="RunComfy's id of the request that was paid for.")
    generation_key: str | None = Field(
        default=None, description="SHA-256 (64 hexadecimal digits) over model, inputs, image and variation."
    )
    inputs: dict[str, Any] | None = Field(
        default=None,
        description="The inputs as submitted; the image's signed URL is replaced by where the image stands.",
    )
    image: StagedImage | None = Field(default=None, description="The input image: where it stands and what is in it.")
    seed: int | None = Field(default=None, description="The seed that was asked for.")
    submitted_at: datetime | None = Field(default=None, description="When the request was submitted, by our clock.")
    finished_noticed_at: datetime | None = Field(
        default=None, description="When we noticed that it had finished, by our clock."
    )
    service_created_at: str | None = Field(
        default=None, description="The service's own `created_at`, as it was sent; its format is not documented."
    )
    service_finished_at: str | None = Field(
        default=None, description="The service's own `finished_at`, as it was sent; its format is not documented."
    )
    queued_seconds: float | None = Field(default=None, description="Seconds in the queue, as observed by polling.")
    running_seconds: float | None = Field(default=None, description="Seconds of running, as observed by polling.")
    cost_usd: float | None = Field(
        default=None, description="What the request cost in US dollars, as the service says."
    )
    polls: int | None = Field(default=None, description="How many times the status was asked for.")
    flow_run: dict[str, str] | None = Field(
        default=None, description="The Prefect flow run that archived it: `id`, `name`, `url` and the like."
    )


class Provenance(GenerationFacts):
    """Everything about one archived file: where it stands, what is in it, and how it was made."""

    # A later version may add fields; an older reader has no use for them, but is not to fail on them.
    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = Field(
        default=1, description="Version of this document; a change of meaning raises it."
    )
    uri: str = Field(description="Where the file stands: `s3://bucket/key`.")
    output_index: int = Field(ge=0, description="Which of the request's output files this is, counted from 0.")
    source_host: str = Field(description="The host that the file was read from, without path and query.")
    sha256: str = Field(description="SHA-256 of the file's bytes, 64 hexadecimal digits.")
    size_bytes: int = Field(ge=0, description="Size of the file in bytes.")
    content_type: str = Field(description="Media type of the file, told by its content.")
    media: MediaFacts = Field(description="What is in the file.")
    warnings: tuple[str, ...] = Field(default=(), description="What is other than was asked for, one sentence each.")
    poster_uri: str | None = Field(
        default=None, description="Its first picture as a small JPEG: `s3://bucket/key.jpg`; `null` if it has none."
    )
    digital_source_type: str | None = Field(
        default=None, description="IPTC's term for how it came about: made by a trained algorithm."
    )
    marked: bool = Field(
        default=False,
        description="Whether the file says that itself: XMP was added at its end (`source_sha256` is without).",
    )
    source_sha256: str | None = Field(
        default=None,
        description="SHA-256 of the bytes as the service sent them; the file's own where nothing was added.",
    )
    archived_at: datetime = Field(description="When the file was archived, by our clock.")
    archiver: str = Field(description="Name and version of the program that archived it.")

    def to_json(self) -> bytes:
        """Return the document as stored: UTF-8, indented, the file's own fields first, secrets cut out."""
        data = redact(self.model_dump(mode="json"))
        if self.inputs is not None:
            # the prompt is the user's own words, and stays as it was submitted
            kept = {name: value for name, value in self.inputs.items() if name == "prompt"}
            data["inputs"] = dict(sorted((data["inputs"] | kept).items()))
        own = [name for name in type(self).model_fields if name not in GenerationFacts.model_fields]
        ordered = {name: data[name] for name in (*own, *GenerationFacts.model_fields)}
        return (json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, document: bytes) -> Provenance:
        """Read a stored document.

        Raises:
            ValueError: It is no such document, or one of another schema version.
        """
        return cls.model_validate_json(document)


class ArchivedVideo(BaseModel):
    """An output file that stands in the bucket, whole, with its provenance beside it."""

    # It is kept in the journal, which workers of several versions read.
    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str
    key: str
    provenance_key: str
    sha256: str
    size_bytes: int
    content_type: str
    index: int
    request_id: str
    media: MediaFacts
    warnings: tuple[str, ...] = ()
    poster_key: str | None = None
    """Where the poster stands: its first picture as a small JPEG; `None` if it has none."""
    digital_source_type: str | None = None
    """IPTC's term for how it came about; `None` where the provenance does not say."""
    already_archived: bool
    """Whether the object stood there already, so that this call put no bytes into the bucket."""

    @property
    def uri(self) -> str:
        """Where the file stands: `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def provenance_uri(self) -> str:
        """Where its provenance stands: `s3://bucket/key.json`."""
        return f"s3://{self.bucket}/{self.provenance_key}"

    @property
    def poster_uri(self) -> str | None:
        """Where its poster stands: `s3://bucket/key.jpg`; a JPEG of 640 pixels at the longer side at most."""
        return f"s3://{self.bucket}/{self.poster_key}" if self.poster_key else None


class Archive(BaseModel):
    """How a generation ended that is archived: how the waiting went, and its files."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    result: Result
    videos: tuple[ArchivedVideo, ...]


@functools.cache
def archiver_name() -> str:
    """Return `runcomfy-prefect/<version>`."""
    try:
        return f"runcomfy-prefect/{version('runcomfy-prefect')}"
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "runcomfy-prefect/unknown"
