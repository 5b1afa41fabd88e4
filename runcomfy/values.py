"""The values that the stages of a generation pass on.

The journal, the catalogue and Prefect store them, and workers of several versions read them. This module imports no
stage, so code that needs only a value depends on nothing else. None holds a token or a signed URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

__all__ = [
    "VERDICTS",
    "Archive",
    "ArchivedVideo",
    "Generation",
    "GenerationFacts",
    "MediaFacts",
    "Moment",
    "Outcome",
    "OutcomeStatus",
    "Quality",
    "QualityFacts",
    "Result",
    "Review",
    "Span",
    "StagedClip",
    "StagedFile",
    "StagedImage",
    "Submission",
    "image_warnings",
    "only_image",
    "worst",
]  # fmt: skip

Moment = Annotated[datetime, AfterValidator(lambda at: at if at.tzinfo else at.replace(tzinfo=UTC))]
"""A time with a zone: one that was stored without is UTC, since this project writes no other."""

_SMALL_SIDE = 240  # pixels
_WIDE_RATIO = 3
_TURNED = {  # by EXIF orientation
    2: "mirrored", 3: "upside down", 4: "upside down and mirrored", 5: "turned by 90 degrees and mirrored",
    6: "turned by 90 degrees clockwise", 7: "turned by 90 degrees and mirrored",
    8: "turned by 90 degrees counter-clockwise",
}  # fmt: skip


def image_warnings(width: int, height: int, orientation: int = 1) -> tuple[str, ...]:
    """Return one sentence for each property of an image that may spoil the video, although it can be generated.

    Args:
        width: Pixels.
        height: Pixels.
        orientation: By its EXIF data.
    """
    found = []  # the journal and the provenance store these texts
    if orientation in _TURNED:
        found.append(
            f"The image asks to be shown {_TURNED[orientation]} (EXIF orientation {orientation}), and the service "
            "may ignore that. Save it with its pixels turned to be sure."
        )
    if min(width, height) < _SMALL_SIDE:
        found.append(f"The image is small, {width} x {height} pixels; the video will be blurred.")
    if max(width, height) > _WIDE_RATIO * min(width, height):
        found.append(f"The image is a strip, {width} x {height} pixels; it may be cropped or squeezed.")
    return tuple(found)


class MediaFacts(BaseModel):
    """What is in a video, image or sound file, as read from the file itself; `null` is what the file does not say."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # the journal stores it, and versions differ

    container: str = Field(
        description="Container format, such as mp4, mov, webm, matroska, avi, mpegts, png, jpeg, webp, gif, mp3; "
        "`unknown` if the bytes do not show it."
    )
    codec: str | None = Field(
        default=None, description="FFmpeg's name of the video codec, such as h264; of the sound codec without a video."
    )
    width: int | None = Field(default=None, description="Width of the image in pixels, as stored: before a rotation.")
    height: int | None = Field(default=None, description="Height of the image in pixels, as stored.")
    frames: int | None = Field(default=None, description="Number of frames.")
    frames_per_second: float | None = Field(default=None, description="Average frame rate in frames per second.")
    duration_seconds: float | None = Field(default=None, description="Duration in seconds.")
    rotation_degrees: int | None = Field(
        default=None, description="How far players turn the image clockwise, in degrees: 0, 90, 180 or 270."
    )

    @property
    def noun(self) -> str:
        """What people call it: `video`, `image`, `sound`, or `file` where nothing is known of it."""
        if self.frames or (self.duration_seconds and self.width):
            return "video"
        if self.width:
            return "image"
        return "sound" if self.duration_seconds else "file"

    @property
    def extent(self) -> str:
        """How large and how long it is, in words, as far as it is known; a sound has no pixels, an image no length."""
        parts = [
            f"{self.width} x {self.height}" if self.width and self.height else "",
            f"{self.frames} frames" if self.frames else "",
            f"{self.duration_seconds:.1f} s" if self.duration_seconds and not self.frames else "",
        ]
        return ", ".join(filter(None, parts))


Span = tuple[float, float]
"""Start and end in seconds."""


class QualityFacts(BaseModel):
    """What decoding a whole file showed; `null` is not known, or does not apply. Times are seconds from its start."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    frames_decoded: int | None = Field(default=None, description="Frames of a video, or pictures of an image file.")
    frames_damaged: int | None = Field(default=None, description="Frames that do not decode, or only in part.")
    first_damage_seconds: float | None = Field(default=None, description="Where the first of those is.")
    seconds: float | None = Field(default=None, description="How long what was decoded is.")
    black: tuple[Span, ...] = Field(default=(), description="Black spans, the first 50: start and end.")
    black_seconds: float | None = Field(default=None, description="All black spans together.")
    frozen: tuple[Span, ...] = Field(default=(), description="Spans in which nothing moves: start and end.")
    frozen_seconds: float | None = Field(default=None, description="All frozen spans together.")
    blurred: tuple[Span, ...] = Field(default=(), description="Blurred spans: start and end.")
    blurred_seconds: float | None = Field(default=None, description="All blurred spans together.")
    scene_cuts: tuple[float, ...] = Field(default=(), description="When the scene changes at once, the first 50.")
    variable_frame_rate: bool | None = Field(default=None, description="Whether frames are shown for uneven times.")
    sizes: tuple[tuple[int, int], ...] = Field(default=(), description="Width and height of the frames, in pixels.")
    uniform: bool | None = Field(default=None, description="Whether an image has one colour only.")
    sound_seconds: float | None = Field(default=None, description="How long the sound is that was decoded.")
    sound_packets_damaged: int | None = Field(default=None, description="Packets of sound that do not decode.")
    loudness_lufs: float | None = Field(
        default=None, description="Integrated loudness, EBU R 128, in LUFS; null for silence."
    )
    peak_dbfs: float | None = Field(default=None, description="The highest sample, in dB of full scale.")
    clipped_share: float | None = Field(default=None, description="Share of the samples at full scale, 0 to 1.")
    silent: tuple[Span, ...] = Field(default=(), description="Silent spans: start and end.")
    silent_seconds: float | None = Field(default=None, description="All silent spans together.")


class Quality(BaseModel):
    """What a file was judged to be, by decoding all of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verdict: str = Field(
        description="`good`; `suspect`: it decodes, and a person should look; `damaged`: parts of it do not decode; "
        "`not_judged`: it could not be decoded here, for the reason that is given."
    )
    reasons: tuple[str, ...] = Field(default=(), description="Why, one sentence each; empty for a good one.")
    facts: QualityFacts = Field(default=QualityFacts(), description="What was measured.")
    thresholds: dict[str, float] = Field(default={}, description="The thresholds that were used (docs/archive.md).")

    @property
    def is_bad(self) -> bool:
        """Whether a person should look at the file: it is suspect or damaged."""
        return self.verdict in ("suspect", "damaged")


VERDICTS = ("good", "not_judged", "suspect", "damaged")
"""Every verdict, the worst one last."""


def worst(verdicts: Iterable[str]) -> str | None:
    """Return the worst of some verdicts; `None` if there are none. One that a later version gave is the worst."""
    order = {verdict: rank for rank, verdict in enumerate(VERDICTS)}
    return max(verdicts, key=lambda verdict: order.get(verdict, len(order)), default=None)


class Review(BaseModel):
    """What a person decided about a file that was set aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    decision: Literal["accepted", "rejected"] = Field(description="What it is.")
    by: str = Field(description="Who decided: a name that was given, or the login name.")
    at: Moment = Field(description="When, by our clock.")
    reason: str | None = Field(default=None, description="Why, in that person's words.")
    deleted: bool = Field(default=False, description="Whether a rejected file was to be deleted.")

    @property
    def sentence(self) -> str:
        """The decision in words, without a full stop: `rejected by ana on 2026-11-28: too dark`."""
        why = f": {self.reason.rstrip('.')}" if self.reason else ""
        return f"{self.decision} by {self.by} on {self.at.astimezone(UTC):%Y-%m-%d}{why}"

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        return {name: value for name, value in data.items() if value not in (None, False)}


class StagedImage(BaseModel):
    """A checked image in a bucket; holds no signed URL."""

    # The journal stores it, which workers of several versions read.
    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str
    key: str
    sha256: str
    size_bytes: int
    content_type: str
    width: int
    height: int
    source: str
    """Where it came from: a URL without query, or the name of a local file, without its folder."""
    uploaded: bool
    """False if it was there already."""
    orientation: int = 1
    """How to turn it before it is shown, from its EXIF data: 1 to 8, where 1 is unchanged."""
    converted_from: str | None = None
    """The media type of the file that was given, if the object is a conversion of it; `sha256` is that of the file."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may spoil the video, one sentence each; stored with the image."""
        return image_warnings(self.width, self.height, self.orientation)

    @model_serializer(mode="wrap")
    def _with_warnings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if self.orientation == 1:  # as it was stored before this field existed
            data.pop("orientation", None)
        if self.converted_from is None:
            data.pop("converted_from", None)
        return data | {"warnings": list(self.warnings)} if self.warnings else data

    @property
    def uri(self) -> str:
        """The image as `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


class StagedClip(BaseModel):
    """A checked video or sound in a bucket; holds no signed URL."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str
    key: str
    sha256: str
    size_bytes: int
    content_type: str
    kind: Literal["video", "audio"]
    media: MediaFacts
    source: str
    """Where it came from: a URL without query, or the name of a local file, without its folder."""
    uploaded: bool
    """False if it was there already."""

    @property
    def uri(self) -> str:
        """The file as `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


StagedFile = StagedImage | StagedClip
"""A checked input file in a bucket."""


def only_image(staged: Sequence[StagedFile]) -> StagedImage | None:
    """Return the staged image of a generation that has one input file, and that is an image."""
    return staged[0] if len(staged) == 1 and isinstance(staged[0], StagedImage) else None


class Result(BaseModel):
    """A request that succeeded. It has no output URLs: those may be signed, and are requested when they are needed."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # the journal stores it, and versions differ

    request_id: str
    output_count: int
    noticed_at: Moment
    """When we saw that it had succeeded, UTC."""
    queued_seconds: float | None
    """From the submission to the first poll that did not find it in the queue."""
    running_seconds: float | None
    """How long it ran, as far as polls show: plus or minus `running_error_seconds`."""
    running_error_seconds: float | None = None
    polls: int
    created_at: str | None = None
    finished_at: str | None = None
    cost_usd: float | None = None
    warnings: tuple[str, ...] = ()
    """What is odd about the service's answer."""


class GenerationFacts(BaseModel):
    """What is known of a generation before its files are fetched; `null` is unknown. Times are ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_id: str = Field(description="RunComfy's id of the model that made it.")
    request_id: str = Field(description="RunComfy's id of the request that was paid for.")
    generation_key: str | None = Field(
        default=None, description="SHA-256 (64 hexadecimal digits) over model, inputs, image and variation."
    )
    inputs: dict[str, Any] | None = Field(
        default=None,
        description="The inputs as submitted; the image's signed URL is replaced by where the image is stored.",
    )
    image: StagedImage | None = Field(default=None, description="The input image: where it is and what is in it.")
    staged: tuple[StagedFile, ...] = Field(
        default=(), description="The input files of a model that takes others than one image; absent where none are."
    )
    seed: int | None = Field(default=None, description="The seed that was asked for.")
    submitted_at: Moment | None = Field(default=None, description="When the request was submitted, by our clock.")
    finished_noticed_at: Moment | None = Field(
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

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if not self.staged:  # as it was stored before this field existed
            data.pop("staged", None)
        return data


class ArchivedVideo(BaseModel):
    """A complete output file in the bucket, with its provenance beside it."""

    # The journal stores it, which workers of several versions read.
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
    """The key of the poster: its first frame as a small JPEG; `None` if it has none."""
    contact_sheet_key: str | None = None
    """The key of the contact sheet: nine of its frames with their times, a JPEG; `None` if it has none."""
    digital_source_type: str | None = None
    """IPTC's term for how it was made; `None` if the provenance does not say."""
    already_archived: bool
    """Whether the object was there already, so that this call put no bytes into the bucket."""
    quality: Quality | None = None
    """What it was judged to be; `None` if an earlier version archived it."""
    set_aside: bool = False
    """Whether it is below `quarantine/`, where a person decides about it."""
    review: Review | None = None
    """What a person decided about it, if it was set aside."""

    @model_serializer(mode="wrap")
    def _without_quality(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if self.quality is None:  # as it was stored before this field existed
            data.pop("quality", None)
        if self.contact_sheet_key is None:
            data.pop("contact_sheet_key", None)
        if not self.set_aside:
            data.pop("set_aside", None)
        if self.review is None:
            data.pop("review", None)
        return data

    @property
    def is_rejected(self) -> bool:
        """Whether a person decided that it is not to be used."""
        return self.review is not None and self.review.decision == "rejected"

    @property
    def uri(self) -> str:
        """The URI of the file: `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def provenance_uri(self) -> str:
        """The URI of its provenance: `s3://bucket/key.json`."""
        return f"s3://{self.bucket}/{self.provenance_key}"

    @property
    def poster_uri(self) -> str | None:
        """The URI of its poster: `s3://bucket/key.jpg`; a JPEG of at most 640 pixels on the longer side."""
        return f"s3://{self.bucket}/{self.poster_key}" if self.poster_key else None

    @property
    def contact_sheet_uri(self) -> str | None:
        """The URI of its contact sheet: `s3://bucket/key.sheet.jpg`."""
        return f"s3://{self.bucket}/{self.contact_sheet_key}" if self.contact_sheet_key else None


class Archive(BaseModel):
    """The end of an archived generation: how the waiting went, and its files."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    result: Result
    videos: tuple[ArchivedVideo, ...]


class Submission(BaseModel):
    """A request that the service accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str
    model_id: str
    generation_key: str
    submitted_at: Moment
    """When the submission was sent, UTC."""
    archive: Archive | None = None
    """Where the generation is archived, if it is done."""
    workload: str = ""
    """What it has in common with others that take about as long."""


class OutcomeStatus(StrEnum):
    """How an item of a batch or an inbox ended; the first two are successes. Reports list them in this order."""

    ARCHIVED = "archived"
    EXISTING = "existing"
    """It was archived before this run."""
    HANDLED = "handled"
    """Inbox: it was archived or set aside by an earlier run, or by another arrival of it."""
    WAITING = "waiting"
    """Inbox: there is no prompt for it yet; the arrival of a sidecar makes it ready."""
    FAILED = "failed"
    """The service tried and failed."""
    SET_ASIDE = "set aside"
    """Inbox: it cannot be generated, or it failed; not tried again until the image or a sidecar changes."""
    OPEN = "open"
    """Inbox: the journal has it, and this run could not finish it: `reconcile` or a person does."""
    CANCELLED = "cancelled"
    DETACHED = "detached"
    """It may be running; another run or `reconcile` collects it."""
    UNCERTAIN = "uncertain"
    """It is unknown whether it was accepted, or the service has forgotten it: a person has to check."""
    REFUSED = "refused"
    """It was surely not accepted, and nothing was paid for."""
    NOT_STARTED = "not_started"
    """Nothing was sent: the budget was reached, or something that concerns all is wrong."""
    POSTPONED = "postponed"
    """Inbox: nothing was paid for, and it is not the image's fault: it is tried again."""

    @property
    def is_good(self) -> bool:
        """Whether its video is in the archive."""
        return self in (OutcomeStatus.ARCHIVED, OutcomeStatus.EXISTING)

    @property
    def may_be_paid(self) -> bool:
        """Whether a request was made that may be billed, by this run or before it."""
        return self not in (
            OutcomeStatus.REFUSED, OutcomeStatus.NOT_STARTED, OutcomeStatus.WAITING, OutcomeStatus.POSTPONED,
        )  # fmt: skip


class Outcome(BaseModel):
    """The outcome of one generation.

    The shards of a batch write it, and the run that started them reads it, of an earlier version perhaps: what it does
    not know yet, it leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: str = Field(description="What it is called in this run: its line, or its image.")
    status: OutcomeStatus
    generation_key: str | None = None
    request_id: str | None = None
    uris: tuple[str, ...] = Field(default=(), description="Where its files are, s3://bucket/key.")
    verdicts: tuple[str, ...] = Field(
        default=(), description="What each file was judged to be, in the same order; `good` if a person accepted it."
    )
    cost_usd: float | None = Field(default=None, description="US dollars, if the service said.")
    seconds: float = Field(default=0.0, description="From its start in this run to its end.")
    error: str | None = None
    error_type: str | None = None
    error_code: str | None = Field(default=None, description="The service's or the store's; otherwise the HTTP status.")
    retryable: bool = Field(default=False, description="Whether another run may succeed with nothing changed.")


class Generation(BaseModel):
    """A finished generation: what was submitted, how it went, and where its files are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: StagedImage | None = None
    submission: Submission
    result: Result
    videos: list[ArchivedVideo]
