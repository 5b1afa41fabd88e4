"""What the stages of a generation hand on: values, which know nothing of how they are made.

The journal, the catalogue and Prefect keep them, workers of several versions read them, and everything that makes one
imports it from here: so whatever needs only the value stands on nothing else. None holds a token or a signed URL.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

__all__ = [
    "Archive", "ArchivedVideo", "Generation", "GenerationFacts", "MediaFacts", "Outcome", "OutcomeStatus", "Result",
    "StagedImage", "Submission", "image_warnings",
]  # fmt: skip

_SMALL_SIDE = 240  # pixels
_WIDE_RATIO = 3
_TURNED = {  # by EXIF orientation
    2: "mirrored", 3: "upside down", 4: "upside down and mirrored", 5: "turned by 90 degrees and mirrored",
    6: "turned by 90 degrees clockwise", 7: "turned by 90 degrees and mirrored",
    8: "turned by 90 degrees counter-clockwise",
}  # fmt: skip


def image_warnings(width: int, height: int, orientation: int = 1) -> tuple[str, ...]:
    """Return one sentence for each thing about a picture that may spoil the video, though it can be made.

    Args:
        width: Pixels.
        height: Pixels.
        orientation: By its EXIF data.
    """
    found = []
    if orientation in _TURNED:
        found.append(
            f"The picture asks to be shown {_TURNED[orientation]} (EXIF orientation {orientation}), and the service "
            "may ignore that. Save it with its pixels turned to be sure."
        )
    if min(width, height) < _SMALL_SIDE:
        found.append(f"The picture is small, {width} x {height} pixels; the video will be blurred.")
    if max(width, height) > _WIDE_RATIO * min(width, height):
        found.append(f"The picture is a strip, {width} x {height} pixels; it may be cropped or squeezed.")
    return tuple(found)


class MediaFacts(BaseModel):
    """What is in a video, image or sound file, as read from the file itself; `null` is what the file does not tell."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # the journal keeps it, and versions differ

    container: str = Field(
        description="Container format, such as mp4, mov, webm, matroska, avi, mpegts, png, jpeg, webp, gif, mp3; "
        "`unknown` where the bytes say nothing."
    )
    codec: str | None = Field(
        default=None, description="FFmpeg's name of the video codec, such as h264, or of the sound's without a video."
    )
    width: int | None = Field(default=None, description="Width of the picture in pixels, as stored: before a rotation.")
    height: int | None = Field(default=None, description="Height of the picture in pixels, as stored.")
    frames: int | None = Field(default=None, description="Number of frames.")
    frames_per_second: float | None = Field(default=None, description="Average frame rate in frames per second.")
    duration_seconds: float | None = Field(default=None, description="Duration in seconds.")
    rotation_degrees: int | None = Field(
        default=None, description="How far players turn the picture clockwise, in degrees: 0, 90, 180 or 270."
    )


class StagedImage(BaseModel):
    """An image that stands in a bucket, checked; holds no signed URL."""

    # It is kept in the journal, which workers of several versions read.
    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str
    key: str
    sha256: str
    size_bytes: int
    content_type: str
    width: int
    height: int
    source: str
    """Where it came from, without query."""
    uploaded: bool
    """False where it stood there already."""
    orientation: int = 1
    """How it is to be turned before it is shown, by its EXIF data: 1 to 8, and 1 is as it is."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may spoil the video, one sentence each; it is written down with the picture."""
        return image_warnings(self.width, self.height, self.orientation)

    @model_serializer(mode="wrap")
    def _with_warnings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if self.orientation == 1:  # as it was written before this was known
            data.pop("orientation", None)
        return data | {"warnings": list(self.warnings)} if self.warnings else data

    @property
    def uri(self) -> str:
        """The image as `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


class Result(BaseModel):
    """A request that succeeded. It names no output URL: those may be signed, and are asked for when they are needed."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # the journal keeps it, and versions differ

    request_id: str
    output_count: int
    noticed_at: datetime
    """When we saw that it had succeeded, UTC."""
    queued_seconds: float | None
    """From the submission to the first look that did not find it in the queue."""
    running_seconds: float | None
    """How long it ran, as looks can tell: give or take `running_error_seconds`."""
    running_error_seconds: float | None = None
    polls: int
    created_at: str | None = None
    finished_at: str | None = None
    cost_usd: float | None = None
    warnings: tuple[str, ...] = ()
    """What is odd about the service's answer."""


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


class Submission(BaseModel):
    """A request that the service accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str
    model_id: str
    generation_key: str
    submitted_at: datetime
    """When the submission was sent, UTC."""
    archive: Archive | None = None
    """Where the generation is archived, if it is done."""
    workload: str = ""
    """What it has in common with others that run about as long."""


class OutcomeStatus(StrEnum):
    """How it ended; the first two are what everybody wants."""

    ARCHIVED = "archived"
    EXISTING = "existing"
    """It was archived before this run."""
    FAILED = "failed"
    """The service tried and failed."""
    CANCELLED = "cancelled"
    DETACHED = "detached"
    """It may be running; another run, or `reconcile`, collects it."""
    UNCERTAIN = "uncertain"
    """Nobody knows whether it was accepted, or the service has forgotten it: a person has to look."""
    REFUSED = "refused"
    """It was surely not accepted, and nothing was paid for."""
    NOT_STARTED = "not_started"
    """Nothing was sent: the budget was reached, or something is wrong that concerns all."""

    @property
    def is_good(self) -> bool:
        """Whether its video is in the archive."""
        return self in (OutcomeStatus.ARCHIVED, OutcomeStatus.EXISTING)

    @property
    def may_be_paid(self) -> bool:
        """Whether a request was made that may be billed, by this run or before it."""
        return self not in (OutcomeStatus.REFUSED, OutcomeStatus.NOT_STARTED)


class Outcome(BaseModel):
    """What became of one generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(description="What it is called in this run: its line, or its picture.")
    status: OutcomeStatus
    generation_key: str | None = None
    request_id: str | None = None
    uris: tuple[str, ...] = Field(default=(), description="Where its files stand, s3://bucket/key.")
    cost_usd: float | None = Field(default=None, description="US dollars, where the service told.")
    seconds: float = Field(default=0.0, description="From its start in this run to its end.")
    error: str | None = None
    error_type: str | None = None
    error_code: str | None = Field(default=None, description="The service's or the store's; else the HTTP status.")
    retryable: bool = Field(default=False, description="Whether another run may have more luck, with nothing changed.")


class Generation(BaseModel):
    """A generation that is done: what was submitted, how it went, and where its files are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: StagedImage | None = None
    submission: Submission
    result: Result
    videos: list[ArchivedVideo]
